//! `report.html`: one file with everything in it, no script, readable in light and dark.

use super::columns::{COLUMNS, Column};
use super::plot::{self, Figure};
use super::{Level, Report};
use crate::markup::html as escape;
use crate::table::Align;

/// Colours and spacing; the figures take theirs from here too.
const STYLE: &str = include_str!("style.css");

/// The file's content.
pub(crate) fn render(report: &Report) -> String {
    let title = escape(&format!("{}: quantization levels compared with {}", report.source, report.base));
    let figures: String = plot::figures(report).iter().map(figure).collect();
    let notes: String =
        report.notes(str::to_owned).iter().map(|note| format!("<li>{}</li>\n", code_spans(&escape(note)))).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n\
         <p class=\"summary\">{summary}</p>\n<div class=\"scroll\">\n{table}</div>\n{figures}\
         <h2>Notes</h2>\n<ul>\n{notes}</ul>\n</body>\n</html>\n",
        summary = escape(&summary(report)),
        table = table(report),
    )
}

fn summary(report: &Report) -> String {
    let p = &report.protocol;
    format!(
        "{} tokens of {} scored, context {}, {} activations. {}.",
        p.tokens_scored, p.text, p.n_ctx, report.arithmetic.activations, report.machine
    )
}

fn table(report: &Report) -> String {
    let heads: String = COLUMNS
        .iter()
        .map(|c| format!("<th{} title=\"{}\">{}</th>", class(c), escape(c.about), escape(c.title)))
        .collect();
    let rows: String = report.levels.iter().map(row).collect();
    format!("<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n")
}

fn row(level: &Level) -> String {
    let cells: String = COLUMNS.iter().map(|c| format!("<td{}>{}</td>", class(c), cell(&(c.cell)(level)))).collect();
    format!("<tr>{cells}</tr>\n")
}

/// The error goes under its value: the table stays narrow enough for a page.
fn cell(text: &str) -> String {
    match text.split_once(" +- ") {
        Some((value, error)) => format!("{}<span class=\"se\">&#177; {}</span>", escape(value), escape(error)),
        None => escape(text),
    }
}

fn class(column: &Column) -> &'static str {
    match column.align {
        Align::Left => " class=\"left\"",
        Align::Right => "",
    }
}

fn figure(figure: &Figure) -> String {
    let Some(svg) = &figure.svg else { return String::new() };
    format!(
        "<h2>{}</h2>\n<figure>\n<div class=\"scroll\">\n{svg}</div>\n<figcaption>{}</figcaption>\n</figure>\n",
        escape(figure.title),
        escape(&figure.caption).replace("+-", "&#177;")
    )
}

/// The one piece of Markdown in the notes.
fn code_spans(escaped: &str) -> String {
    let mut out = String::with_capacity(escaped.len());
    for (i, part) in escaped.replace("+-", "&#177;").split('`').enumerate() {
        match i % 2 {
            1 => out += &format!("<code>{part}</code>"),
            _ => out += part,
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn is_self_contained_and_closed() {
        let page = render(&sample::report(7));
        for outside in ["http:", "https:", "<script", "<link", "@import", "url(", "src="] {
            assert!(!page.contains(outside), "{outside}");
        }
        for element in ["html", "head", "body", "table", "tbody", "figure", "ul", "svg"] {
            let (opened, closed) =
                (page.matches(&format!("<{element}")).count(), page.matches(&format!("</{element}>")).count());
            assert_eq!(opened, closed, "{element}");
        }
        assert_eq!(page.matches("<svg").count(), 3);
        assert!(page.contains("prefers-color-scheme: dark"));
    }

    #[test]
    fn names_cannot_inject_markup() {
        let mut report = sample::report(3);
        report.source = "</title><script>alert(1)</script>".into();
        report.levels[1].name = "<img onerror=x>".into();
        report.protocol.text = "a`b<i>".into();
        let page = render(&report);
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("<i>"));
    }

    /// To look at: set `PYTHIA_SAMPLE_REPORTS` to a folder and open the pages it gets.
    #[test]
    fn sample_pages_on_request() {
        let Some(dir) = std::env::var_os("PYTHIA_SAMPLE_REPORTS") else { return };
        for n in [3, 7, 20] {
            let path = std::path::Path::new(&dir).join(format!("report-{n}.html"));
            std::fs::write(path, render(&sample::report(n))).unwrap();
        }
    }
}
