//! `report.html`: a single file without scripts, readable in light and dark, on phones and on paper.

use super::columns::COLUMNS;
use super::plot::{self, Figure};
use super::{Entry, Report, SideBySide, Tasks};
use pythia_show::html as escape;
use pythia_show::plot::{page, table};

/// The file's content.
pub(crate) fn render(report: &Report) -> String {
    let title = format!("{}: quantization levels compared with {}", report.source, report.base);
    let figures: String = plot::figures(report).iter().map(figure).collect();
    let others = series(report) + &tasks(report);
    let heading = if others.is_empty() { "" } else { "<h2>All files</h2>\n" };
    let body = format!(
        "<p class=\"summary\">{summary}</p>\n{answer}{table}{figures}<h2>Notes</h2>\n{notes}",
        summary = escape(&summary(report)),
        answer = answer(report),
        table = others + heading + &files(report),
        notes = list(&report.notes(str::to_owned)),
    );
    page(&title, "", &body)
}

fn summary(report: &Report) -> String {
    let p = &report.protocol;
    format!(
        "{} tokens of {} scored, context {}, {} activations. {}.",
        p.tokens_scored, p.text, p.n_ctx, report.arithmetic.activations, report.machine
    )
}

fn answer(report: &Report) -> String {
    match &report.answer.sentences[..] {
        [] => String::new(),
        sentences => format!("<section class=\"answer\">\n<h2>In short</h2>\n{}</section>\n", list(sentences)),
    }
}

fn list(items: &[String]) -> String {
    let items: String = items.iter().map(|item| format!("<li>{}</li>\n", code_spans(&escape(item)))).collect();
    format!("<ul>\n{items}</ul>\n")
}

/// The table of all files. Its first column stays visible.
fn files(report: &Report) -> String {
    let heads = COLUMNS.iter().map(|column| (column.title, column.about));
    let row = |entry: &Entry| COLUMNS.iter().map(|column| cell(&(column.cell)(entry))).collect();
    table("Table of levels", "", heads, report.entries.iter().map(row))
}

/// The table of the series, if there are several.
fn series(report: &Report) -> String {
    let Some(series) = &report.side_by_side else { return String::new() };
    let heads = series.headings().into_iter().map(|(title, ..)| (title, ""));
    let rows = series.rows().into_iter().map(|cells| cells.iter().map(|text| under(text)).collect());
    format!("<h2>{}</h2>\n{}", SideBySide::TITLE, table(SideBySide::TITLE, "series", heads, rows))
}

/// The table of tasks, if there are any.
fn tasks(report: &Report) -> String {
    let Some(tasks) = &report.tasks else { return String::new() };
    let (heads, rows) = tasks.table().into_cells();
    let rows = rows.into_iter().map(|cells| cells.iter().map(|text| cell(text)).collect());
    // "- base" stays on one line.
    let heads = heads.into_iter().map(|title| (title.replace("- ", "-\u{a0}"), ""));
    let table = table(Tasks::TITLE, "", heads, rows);
    format!("<h2>{}</h2>\n{table}", Tasks::TITLE)
}

/// A ratio with its percentage under it.
fn under(text: &str) -> String {
    match text.strip_suffix(')').and_then(|text| text.split_once(" (")) {
        Some((ratio, percent)) => format!("{}<span class=\"se\">{}</span>", escape(ratio), escape(percent)),
        None => escape(text),
    }
}

/// A cell with the error under its value, so that the table fits a page.
fn cell(text: &str) -> String {
    match text.split_once(" +- ") {
        Some((value, error)) => format!("{}<span class=\"se\">&#177; {}</span>", escape(value), escape(error)),
        None => escape(text),
    }
}

fn figure(figure: &Figure) -> String {
    let Some(drawing) = &figure.drawing else { return String::new() };
    format!("<h2>{}</h2>\n{}", escape(figure.title), drawing.figure(&figure.caption))
}

/// Code spans, the only Markdown in the notes.
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
    use pythia_show::plot::STYLE;

    #[test]
    fn is_self_contained_and_closed() {
        let page = render(&sample::report(7));
        for outside in ["http:", "https:", "<script", "<link", "@import", "url(", "src="] {
            assert!(!page.contains(outside), "{outside}");
        }
        let elements =
            ["html", "head", "body", "main", "section", "table", "tbody", "tr", "th", "td", "figure", "ul", "svg"];
        for element in elements {
            let opened = page.matches(&format!("<{element}>")).count() + page.matches(&format!("<{element} ")).count();
            assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{element}");
        }
        assert_eq!(page.matches("<svg").count(), 8, "four figures, wide and narrow");
        assert!(page.contains("prefers-color-scheme: dark"));
    }

    #[test]
    fn is_told_to_those_who_cannot_see_it() {
        let report = sample::report(7);
        let page = render(&report);
        assert_eq!(page.matches("<th scope=\"col\"").count(), COLUMNS.len());
        assert_eq!(page.matches("<th scope=\"row\"").count(), 7);
        let svgs: Vec<&str> = page.split("<svg").skip(1).collect();
        for svg in &svgs {
            let ids = svg.split("aria-labelledby=\"").nth(1).unwrap().split('"').next().unwrap();
            for id in ids.split(' ') {
                assert_eq!(page.matches(&format!(" id=\"{id}\"")).count(), 1, "{id}");
            }
            let description = svg.split("<desc").nth(1).unwrap().split("</desc>").next().unwrap();
            for entry in &report.entries[1..] {
                assert!(description.contains(&entry.name), "{} in {description}", entry.name);
            }
        }
    }

    #[test]
    fn series_have_a_table_and_lines() {
        let page = render(&sample::series());
        assert!(page.find("Mean KLD by quantizer").unwrap() < page.find("All files").unwrap());
        assert!(page.contains("<th scope=\"col\">feedback / plain</th>"));
        assert!(page.contains("<td>0.310<span class=\"se\">-69.0 %</span></td>"), "{page}");
        for series in ["series-0", "series-1", "series-2"] {
            assert!(page.contains(&format!("<polyline class=\"series-line {series}\"")), "{series}");
            assert!(STYLE.contains(&format!(".{series} ")), "{series}");
        }
        assert!(!render(&sample::report(7)).contains("class=\"series-line"));
    }

    #[test]
    fn answers_stand_above_the_table() {
        let report = sample::report(7);
        let page = render(&report);
        let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("no {text}"));
        assert!(at("In short") < at("Smallest level with") && at("Smallest level with") < at("<table>"));
    }

    #[test]
    fn names_cannot_inject_markup() {
        let mut report = sample::report(3);
        report.source = "</title><script>alert(1)</script>".into();
        report.entries[1].name = "<img onerror=x>".into();
        report.protocol.text = "a`b<i>".into();
        report.answer.sentences.push("<b>".into());
        let page = render(&report);
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("<i>") && !page.contains("<b>"));
    }

    /// To look at: set `PYTHIA_SAMPLE_REPORTS` to a folder and open the pages it gets.
    #[test]
    fn sample_pages_on_request() {
        let Some(dir) = std::env::var_os("PYTHIA_SAMPLE_REPORTS") else { return };
        for n in [3, 7, 20] {
            let path = std::path::Path::new(&dir).join(format!("report-{n}.html"));
            std::fs::write(path, render(&sample::report(n))).unwrap();
        }
        std::fs::write(std::path::Path::new(&dir).join("report-series.html"), render(&sample::series())).unwrap();
    }
}
