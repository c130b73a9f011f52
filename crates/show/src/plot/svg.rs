//! The few SVG elements the figures are made of.

use crate::html as escape;
use std::fmt::{Display, Write};

/// Where a text stands relative to its position.
#[derive(Clone, Copy, Debug)]
pub enum Anchor {
    /// It begins there.
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

/// How wide a drawing is. Text keeps its size on a screen, so a drawing for a telephone is another one, not a smaller
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canvas {
    /// For screens and paper.
    Wide,
    /// For telephones.
    Narrow,
}

impl Canvas {
    /// Pixels of the view box.
    pub fn width(self) -> f64 {
        match self {
            Self::Wide => 860.0,
            Self::Narrow => 360.0,
        }
    }

    /// What tells the drawings of a figure apart in a page.
    fn suffix(self) -> char {
        match self {
            Self::Wide => 'w',
            Self::Narrow => 'n',
        }
    }
}

/// Title and text alternative of a drawing.
#[derive(Clone, Debug)]
pub struct Words {
    /// Unique in a page among figures.
    pub id: String,
    /// A few words.
    pub title: String,
    /// The numbers.
    pub description: String,
}

/// Half the length of the mark at the end of an error bar.
const CAP: f64 = 4.0;

/// A drawing under construction. Coordinates are pixels of the view box, y downwards. Texts and tips are escaped; classes
/// are not.
pub struct Svg {
    out: String,
}

impl Svg {
    /// An empty drawing.
    pub fn new(canvas: Canvas, height: f64, words: &Words) -> Self {
        let (width, id) = (canvas.width(), format!("{}-{}", words.id, canvas.suffix()));
        let (title, description) = (escape(&words.title), escape(&words.description));
        let out = format!(
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\">\n\
             <title id=\"{id}-t\">{title}</title>\n<desc id=\"{id}-d\">{description}</desc>\n"
        );
        Self { out }
    }

    /// A straight line.
    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.push(format_args!(
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        ));
    }

    /// An error bar beside or across a point: a line with a mark at both ends, which lie above each other or side by side.
    pub fn error_bar(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let (dx, dy) = if from.0 == to.0 { (CAP, 0.0) } else { (0.0, CAP) };
        self.line(class, from, to);
        for (x, y) in [from, to] {
            self.line(class, (x - dx, y - dy), (x + dx, y + dy));
        }
    }

    /// A line through points.
    pub fn polyline(&mut self, class: &str, points: &[(f64, f64)]) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.push(format_args!("<polyline class=\"{class}\" points=\"{}\"/>", points.join(" ")));
    }

    /// A dot with a tip that appears under the pointer.
    pub fn dot(&mut self, class: &str, (x, y): (f64, f64), radius: f64, tip: &str) {
        let tip = escape(tip);
        self.push(format_args!(
            "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"><title>{tip}</title></circle>"
        ));
    }

    /// A diamond with a tip that appears under the pointer.
    pub fn diamond(&mut self, class: &str, (x, y): (f64, f64), radius: f64, tip: &str) {
        let tip = escape(tip);
        let (left, right, top, bottom) = (x - radius, x + radius, y - radius, y + radius);
        self.push(format_args!(
            "<path class=\"{class}\" d=\"M{left:.1},{y:.1} {x:.1},{top:.1} {right:.1},{y:.1} {x:.1},{bottom:.1}Z\">\
             <title>{tip}</title></path>"
        ));
    }

    /// A filled rectangle from its upper left corner.
    pub fn rect(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64)) {
        self.push(format_args!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
        ));
    }

    /// One line of text on its baseline.
    pub fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let text = escape(text);
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.push(format_args!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    /// The whole drawing.
    pub fn finish(mut self) -> String {
        self.out.push_str("</svg>\n");
        self.out
    }

    fn push(&mut self, element: impl Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.out, "{element}");
    }
}

/// Width of a label of 12 pixels, on the generous side: fonts differ from reader to reader.
pub fn label_width(text: &str) -> f64 {
    crate::text_width(text) as f64 * 7.6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_out_of_text() {
        let words = Words { id: "test".into(), title: "a\"b".into(), description: "<c>".into() };
        let mut svg = Svg::new(Canvas::Wide, 10.0, &words);
        svg.text("label", (1.0, 2.0), Anchor::Start, "<script>alert('x')</script>\u{0}");
        let out = svg.finish();
        assert!(!out.contains("<script") && !out.contains('\u{0}') && out.contains("a&quot;b"), "{out}");
        assert!(!out.contains("<c>"), "{out}");
    }
}
