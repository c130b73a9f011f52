//! Parts of plots in a page of HTML: axes, labels that do not overlap, the SVG elements, and the page itself.
//!
//! Colours come from the classes of [`STYLE`], which knows light and dark schemes, telephones and paper.

mod axes;
mod labels;
mod scale;
mod svg;

pub use axes::Frame;
pub use labels::{HEIGHT as LABEL_HEIGHT, Place, Rect, Scene, Segment, Target, place};
pub use scale::{Kind, Scale, Tick};
pub use svg::{Anchor, Canvas, Svg, Words, label_width};

use crate::html as escape;

/// Colours and spacing of a page, and of the plots in it.
pub const STYLE: &str = include_str!("plot/style.css");

/// The same plot for wide and for narrow screens.
pub struct Drawing {
    /// For most screens and paper.
    pub wide: String,
    /// For telephones.
    pub narrow: String,
}

impl Drawing {
    /// Both renderings; `None` if there is nothing to draw.
    pub fn new(render: impl Fn(Canvas) -> Option<String>) -> Option<Self> {
        Some(Self { wide: render(Canvas::Wide)?, narrow: render(Canvas::Narrow)? })
    }

    /// The plot as an element of a page, with how to read it below.
    pub fn figure(&self, caption: &str) -> String {
        format!(
            "<figure>\n<div class=\"wide\">\n{}</div>\n<div class=\"narrow\">\n{}</div>\n\
             <figcaption>{}</figcaption>\n</figure>\n",
            self.wide,
            self.narrow,
            escape(caption).replace("+-", "&#177;")
        )
    }
}

/// A self-contained page. `style` is added to [`STYLE`]; `body` is HTML.
pub fn page(title: &str, style: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}{style}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n\
         {body}</main>\n</body>\n</html>\n"
    )
}

/// A table in a box that scrolls, so that the page does not. `name` tells screen readers what it is; `class` may be empty.
/// Heads are texts, each with what appears under the pointer, or nothing. Cells are HTML; the first of a row names it.
pub fn table<H: AsRef<str>>(
    name: &str,
    class: &str,
    heads: impl IntoIterator<Item = (H, &'static str)>,
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    let attribute = |name: &str, value: &str| match value {
        "" => String::new(),
        value => format!(" {name}=\"{}\"", escape(value)),
    };
    let head = |(text, about): (H, &str)| {
        format!("<th scope=\"col\"{}>{}</th>", attribute("title", about), escape(text.as_ref()))
    };
    let cell = |(i, html): (usize, String)| match i {
        0 => format!("<th scope=\"row\">{html}</th>"),
        _ => format!("<td>{html}</td>"),
    };
    let row =
        |cells: Vec<String>| format!("<tr>{}</tr>\n", cells.into_iter().enumerate().map(cell).collect::<String>());
    let heads: String = heads.into_iter().map(head).collect();
    let rows: String = rows.into_iter().map(row).collect();
    format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"{}\" tabindex=\"0\">\n<table{}>\n\
         <thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>\n",
        escape(name),
        attribute("class", class)
    )
}
