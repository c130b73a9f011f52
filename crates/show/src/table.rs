//! Tables of text, for a terminal or as Markdown. Every cell is one line.
//!
//! A table with wrapped lines is unreadable, so tables are fitted to a [`Width`]: the least important columns are left
//! out, and long names are shortened in the middle. [`Fitted::left_out`] lists the missing columns.

mod width;

pub use width::{Width, shorten, text_width, wrap};

use crate::markdown;
use pythia_text::Line;

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A heading, the alignment of its cells, and the column's rank for leaving it out.
#[derive(Clone, Debug)]
pub struct Column {
    title: String,
    align: Align,
    /// 0: never left out. Higher ranks are left out first; of equal ranks, the rightmost.
    rank: u8,
}

impl Column {
    /// A column that is always shown.
    pub fn new(title: impl Into<String>, align: Align) -> Self {
        Self { title: Line(title.into()).to_string(), align, rank: 0 }
    }

    /// The same column with a rank: left out if the table is too wide, higher ranks first.
    pub fn rank(self, rank: u8) -> Self {
        Self { rank, ..self }
    }
}

impl<S: Into<String>> From<(S, Align)> for Column {
    fn from((title, align): (S, Align)) -> Self {
        Self::new(title, align)
    }
}

impl<S: Into<String>> From<(S, Align, u8)> for Column {
    fn from((title, align, rank): (S, Align, u8)) -> Self {
        Self::new(title, align).rank(rank)
    }
}

/// A heading and rows of cells. Every row has as many cells as there are headings.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

/// A table as text, and the columns that did not fit.
#[derive(Debug)]
pub struct Fitted {
    /// The lines.
    pub text: String,
    /// Titles of the missing columns.
    pub left_out: Vec<String>,
}

impl Fitted {
    /// The lines, and a line that lists the missing columns and says where they are: `elsewhere`.
    pub fn with_remark(self, width: Width, elsewhere: &str) -> String {
        if self.left_out.is_empty() {
            return self.text;
        }
        let remark = format!("(not shown at this width: {}; {elsewhere})", self.left_out.join(", "));
        format!("{}{}", self.text, wrap(&remark, width, ""))
    }
}

/// Widths in a line other than those of the cells.
struct Layout {
    /// Between two columns.
    gap: usize,
    /// Both ends together.
    ends: usize,
    /// Minimum width of a column.
    least: usize,
}

const TERMINAL: Layout = Layout { gap: 2, ends: 0, least: 0 };
/// A rule in Markdown has at least three characters.
const MARKDOWN: Layout = Layout { gap: 3, ends: 4, least: 3 };
/// Names are not made shorter than this as long as a column can be left out instead.
const SHORTEST_NAME: usize = 32;

impl Table {
    /// An empty table with these columns.
    pub fn new<C: Into<Column>>(columns: impl IntoIterator<Item = C>) -> Self {
        Self { columns: columns.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row; missing cells are left empty.
    pub fn push(&mut self, mut row: Vec<String>) {
        row.resize(self.columns.len(), String::new());
        self.rows.push(row.iter().map(|cell| Line(cell).to_string()).collect());
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// For a terminal: columns two spaces apart, a rule under the heading, no trailing spaces.
    pub fn to_terminal(&self, width: Width) -> Fitted {
        let (table, left_out) = self.fitted(width, &TERMINAL);
        let widths = table.widths(&TERMINAL);
        let rule: Vec<String> = widths.iter().map(|&w| "-".repeat(w)).collect();
        let mut text = String::new();
        for row in [&table.titles(), &rule].into_iter().chain(&table.rows) {
            let cells: Vec<String> = table.padded(row, &widths).collect();
            text.push_str(cells.join(&" ".repeat(TERMINAL.gap)).trim_end());
            text.push('\n');
        }
        Fitted { text, left_out }
    }

    /// A Markdown table with every column, padded so that it also reads well as plain text.
    pub fn to_markdown(&self) -> String {
        let escaped = self.escaped();
        let widths = escaped.widths(&MARKDOWN);
        let rule = escaped.columns.iter().zip(&widths).map(|(column, &width)| match column.align {
            Align::Left => "-".repeat(width),
            Align::Right => format!("{}:", "-".repeat(width - 1)),
        });
        let mut out = markdown_line(escaped.padded(&escaped.titles(), &widths));
        out += &markdown_line(rule);
        for row in &escaped.rows {
            out += &markdown_line(escaped.padded(row, &widths));
        }
        out
    }

    /// The same for a terminal: columns that do not fit are left out.
    pub fn to_markdown_within(&self, width: Width) -> Fitted {
        // Escaped after fitting, so that no escape is cut in two.
        let (table, left_out) = self.fitted(width, &MARKDOWN);
        Fitted { text: table.to_markdown(), left_out }
    }

    /// The table with as many columns as fit and names shortened where allowed, and the titles of the other columns.
    fn fitted(&self, width: Width, layout: &Layout) -> (Self, Vec<String>) {
        let natural = self.widths(layout);
        let between = |columns: usize| columns.saturating_sub(1) * layout.gap + layout.ends;
        let least = |i: usize| match self.columns[i].align {
            Align::Left => natural[i].min(SHORTEST_NAME),
            Align::Right => natural[i],
        };
        let mut kept: Vec<usize> = (0..self.columns.len()).collect();
        while kept.iter().map(|&i| least(i)).sum::<usize>() + between(kept.len()) > width.columns {
            let worst = (0..kept.len()).filter(|&k| self.columns[kept[k]].rank > 0);
            match worst.max_by_key(|&k| self.columns[kept[k]].rank) {
                Some(k) => kept.remove(k),
                None => break,
            };
        }
        let left_out = (0..self.columns.len()).filter(|i| !kept.contains(i));
        let left_out = left_out.map(|i| self.columns[i].title.clone()).collect();
        let mut table = self.only(&kept);
        if width.shortens {
            table.shorten(width.columns.saturating_sub(between(kept.len())), layout);
        }
        (table, left_out)
    }

    /// The table with only these columns.
    fn only(&self, kept: &[usize]) -> Self {
        let columns = kept.iter().map(|&i| self.columns[i].clone()).collect();
        let rows = self.rows.iter().map(|row| kept.iter().map(|&i| row[i].clone()).collect()).collect();
        Self { columns, rows }
    }

    /// Shortens the longest names until all columns together take at most `total`. Numbers stay whole.
    fn shorten(&mut self, total: usize, layout: &Layout) {
        let natural = self.widths(layout);
        let is_words: Vec<bool> = self.columns.iter().map(|column| column.align == Align::Left).collect();
        let width = |i: usize, cap: usize| if is_words[i] { natural[i].min(cap.max(layout.least)) } else { natural[i] };
        let all = |cap: usize| (0..natural.len()).map(|i| width(i, cap)).sum::<usize>();
        let longest = natural.iter().copied().max().unwrap_or(0);
        let Some(cap) = (1..=longest).rev().find(|&cap| all(cap) <= total) else { return };
        for i in (0..natural.len()).filter(|&i| is_words[i]) {
            self.columns[i].title = shorten(&self.columns[i].title, width(i, cap));
            self.rows.iter_mut().for_each(|row| row[i] = shorten(&row[i], width(i, cap)));
        }
    }

    fn escaped(&self) -> Self {
        let mut escaped = self.clone();
        escaped.columns.iter_mut().for_each(|column| column.title = markdown(&column.title));
        escaped.rows.iter_mut().flatten().for_each(|cell| *cell = markdown(cell));
        escaped
    }

    /// The headings, and the cells of each row.
    pub fn into_cells(self) -> (Vec<String>, Vec<Vec<String>>) {
        (self.titles(), self.rows)
    }

    fn titles(&self) -> Vec<String> {
        self.columns.iter().map(|column| column.title.clone()).collect()
    }

    fn widths(&self, layout: &Layout) -> Vec<usize> {
        let longest = |column: usize| self.rows.iter().map(|row| text_width(&row[column])).max().unwrap_or(0);
        let titles = self.columns.iter().enumerate();
        titles.map(|(i, column)| text_width(&column.title).max(longest(i)).max(layout.least)).collect()
    }

    fn padded<'a>(&'a self, row: &'a [String], widths: &'a [usize]) -> impl Iterator<Item = String> + 'a {
        row.iter().zip(&self.columns).zip(widths).map(|((cell, column), &width)| {
            let room = " ".repeat(width.saturating_sub(text_width(cell)));
            match column.align {
                Align::Left => format!("{cell}{room}"),
                Align::Right => format!("{room}{cell}"),
            }
        })
    }
}

fn markdown_line(cells: impl Iterator<Item = String>) -> String {
    let cells: Vec<String> = cells.collect();
    format!("| {} |\n", cells.join(" | "))
}

/// Rows of a name and a value, with the values aligned. Long values continue on the next line.
pub fn facts<S: AsRef<str>>(rows: &[(&str, S)], name_columns: usize, width: Width) -> String {
    let indent = " ".repeat(name_columns);
    let row = |(name, value): &(&str, S)| wrap(&format!("{name:<name_columns$}{}", value.as_ref()), width, &indent);
    rows.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Table {
        let mut table = Table::new([("name", Align::Left), ("n", Align::Right)]);
        table.push(vec!["a|b".into(), "7".into()]);
        table.push(vec!["c".into(), "123".into()]);
        table
    }

    fn wide() -> Table {
        let columns =
            [("name", Align::Left, 0), ("a", Align::Right, 2), ("b", Align::Right, 1), ("c", Align::Right, 2)];
        let mut table = Table::new(columns);
        table.push(vec!["a name that is longer than others".into(), "1".repeat(9), "2".repeat(9), "3".repeat(9)]);
        table
    }

    #[test]
    fn terminal_columns_line_up() {
        let text = sample().to_terminal(Width::pipe()).text;
        assert_eq!(text, "name    n\n----  ---\na|b     7\nc     123\n");
    }

    #[test]
    fn markdown_escapes_bars_and_aligns_numbers() {
        assert_eq!(sample().to_markdown(), "| name |   n |\n| ---- | --: |\n| a\\|b |   7 |\n| c    | 123 |\n");
    }

    #[test]
    fn short_rows_are_filled() {
        let mut table = Table::new([("a", Align::Left), ("b", Align::Left)]);
        table.push(vec!["x".into()]);
        assert_eq!(table.to_terminal(Width::pipe()).text, "a  b\n-  -\nx\n");
    }

    #[test]
    fn columns_go_by_rank_and_names_lose_their_middle() {
        let cases = [(70, ""), (65, ""), (64, "c"), (54, "c"), (53, "a c"), (43, "a c"), (42, "a b c"), (20, "a b c")];
        for (columns, left_out) in cases {
            let fitted = wide().to_terminal(Width::screen(columns));
            assert_eq!(fitted.left_out.join(" "), left_out, "{columns}");
            let longest = fitted.text.lines().map(text_width).max().unwrap();
            assert!(longest <= columns, "{columns}: {}", fitted.text);
        }
        let narrow = wide().to_terminal(Width::screen(20));
        assert!(narrow.text.ends_with("\na name tha…an others\n"), "{}", narrow.text);
        // Not at a terminal columns are left out too, but a name that is looked for can be found.
        let piped = wide().to_terminal(Width { columns: 30, shortens: false });
        assert!(piped.text.contains("a name that is longer than others"), "{}", piped.text);
        assert_eq!(piped.left_out, ["a", "b", "c"]);
    }

    #[test]
    fn a_remark_names_what_is_missing() {
        let narrow = Width::screen(42);
        let text = wide().to_terminal(narrow).with_remark(narrow, "--json has them");
        assert!(text.ends_with("\n(not shown at this width: a, b, c; --json\nhas them)\n"), "{text}");
        let whole = wide().to_terminal(Width::screen(80)).with_remark(Width::screen(80), "--json has them");
        assert!(!whole.contains("--json"), "{whole}");
    }

    #[test]
    fn wide_characters_take_two_places() {
        let mut table = Table::new([("name", Align::Left), ("n", Align::Right)]);
        table.push(vec!["模型".into(), "1".into()]);
        table.push(vec!["abcd".into(), "2".into()]);
        assert_eq!(table.to_terminal(Width::pipe()).text, "name  n\n----  -\n模型  1\nabcd  2\n");
    }

    proptest! {
        #[test]
        fn lines_fit_as_soon_as_the_fixed_columns_can(
            cells in prop::collection::vec("[a-z模]{0,40}", 4),
            numbers in prop::collection::vec(0u64.., 4),
            columns in 30usize..200,
        ) {
            let titles = [("a", Align::Left, 0), ("b", Align::Left, 3), ("c", Align::Right, 1), ("d", Align::Right, 2)];
            let mut table = Table::new(titles);
            for (cell, n) in cells.iter().zip(&numbers) {
                table.push(vec![cell.clone(), cell.clone(), n.to_string(), n.to_string()]);
            }
            for fitted in [table.to_terminal(Width::screen(columns)), table.to_markdown_within(Width::screen(columns))] {
                prop_assert!(fitted.text.lines().all(|line| text_width(line) <= columns), "{}", fitted.text);
            }
        }
    }
}
