//! Tables of text: aligned for a terminal, or as Markdown. Cells are one line whatever they are given.

use crate::markup::markdown;
use pythia_text::Line;

/// How a column is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A heading and rows of cells. Every row has as many cells as there are headings.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    pub(crate) fn new<S: Into<String>>(columns: impl IntoIterator<Item = (S, Align)>) -> Self {
        let shown = |(title, align): (S, Align)| (Line(title.into()).to_string(), align);
        Self { columns: columns.into_iter().map(shown).collect(), rows: Vec::new() }
    }

    /// Adds a row; missing cells are left empty.
    pub(crate) fn push(&mut self, mut row: Vec<String>) {
        row.resize(self.columns.len(), String::new());
        self.rows.push(row.iter().map(|cell| Line(cell).to_string()).collect());
    }

    /// Whether it has no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Columns two spaces apart, a rule under the heading, no space at the end of a line.
    pub(crate) fn to_terminal(&self) -> String {
        let widths = self.widths();
        let rule: Vec<String> = widths.iter().map(|&w| "-".repeat(w)).collect();
        let titles: Vec<String> = self.columns.iter().map(|(title, _)| title.clone()).collect();
        let mut out = String::new();
        for row in [&titles, &rule].into_iter().chain(&self.rows) {
            let cells: Vec<String> = self.padded(row, &widths).collect();
            out.push_str(cells.join("  ").trim_end());
            out.push('\n');
        }
        out
    }

    /// A Markdown table, padded so that it also reads well as plain text.
    pub(crate) fn to_markdown(&self) -> String {
        let escaped = Self {
            columns: self.columns.iter().map(|(title, align)| (markdown(title), *align)).collect(),
            rows: self.rows.iter().map(|row| row.iter().map(|cell| markdown(cell)).collect()).collect(),
        };
        // A rule of Markdown is at least three characters.
        let widths: Vec<usize> = escaped.widths().into_iter().map(|w| w.max(3)).collect();
        let rule = escaped.columns.iter().zip(&widths).map(|((_, align), &width)| match align {
            Align::Left => "-".repeat(width),
            Align::Right => format!("{}:", "-".repeat(width - 1)),
        });
        let titles: Vec<String> = escaped.columns.iter().map(|(title, _)| title.clone()).collect();
        let mut out = markdown_line(escaped.padded(&titles, &widths));
        out += &markdown_line(rule);
        for row in &escaped.rows {
            out += &markdown_line(escaped.padded(row, &widths));
        }
        out
    }

    fn widths(&self) -> Vec<usize> {
        let longest = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let titles = self.columns.iter().enumerate();
        titles.map(|(i, (title, _))| title.chars().count().max(longest(i))).collect()
    }

    fn padded<'a>(&'a self, row: &'a [String], widths: &'a [usize]) -> impl Iterator<Item = String> + 'a {
        row.iter().zip(&self.columns).zip(widths).map(|((cell, (_, align)), &width)| match align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        })
    }
}

fn markdown_line(cells: impl Iterator<Item = String>) -> String {
    let cells: Vec<String> = cells.collect();
    format!("| {} |\n", cells.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new([("name", Align::Left), ("n", Align::Right)]);
        table.push(vec!["a|b".into(), "7".into()]);
        table.push(vec!["c".into(), "123".into()]);
        table
    }

    #[test]
    fn terminal_columns_line_up() {
        assert_eq!(sample().to_terminal(), "name    n\n----  ---\na|b     7\nc     123\n");
    }

    #[test]
    fn markdown_escapes_bars_and_aligns_numbers() {
        assert_eq!(sample().to_markdown(), "| name |   n |\n| ---- | --: |\n| a\\|b |   7 |\n| c    | 123 |\n");
    }

    #[test]
    fn short_rows_are_filled() {
        let mut table = Table::new([("a", Align::Left), ("b", Align::Left)]);
        table.push(vec!["x".into()]);
        assert_eq!(table.to_terminal(), "a  b\n-  -\nx\n");
    }
}
