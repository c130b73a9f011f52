//! Comma-separated values (RFC 4180) that are safe to open in a spreadsheet.

use pythia_text::Line;

/// Which cells are quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quotes {
    /// All, as in the output of llama-bench.
    Always,
    /// Those that hold a separator or a quote.
    WhereNeeded,
}

/// The content of a cell.
#[derive(Clone, Debug)]
pub enum Cell<'a> {
    /// Foreign text. It is made safe: a spreadsheet does not treat it as a formula.
    Text(&'a str),
    /// A number or another value that this program wrote; may be empty.
    Value(String),
}

/// A table under construction: a line of names, then a line per row.
#[derive(Clone, Debug)]
pub struct Csv {
    out: String,
    quotes: Quotes,
}

impl Csv {
    /// A table with these columns and no rows. The names are never in quotes.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>, quotes: Quotes) -> Self {
        let names: Vec<&str> = names.into_iter().collect();
        Self { out: names.join(",") + "\n", quotes }
    }

    /// Adds a row.
    pub fn push<'a>(&mut self, row: impl IntoIterator<Item = Cell<'a>>) {
        let cells: Vec<String> = row.into_iter().map(|cell| self.quoted(cell)).collect();
        self.out += &cells.join(",");
        self.out.push('\n');
    }

    /// The file's content.
    pub fn finish(self) -> String {
        self.out
    }

    fn quoted(&self, cell: Cell<'_>) -> String {
        let text = match cell {
            Cell::Text(text) => escape(text),
            Cell::Value(value) => value,
        };
        match self.quotes {
            Quotes::WhereNeeded if !text.contains([',', '"']) => text,
            _ => format!("\"{text}\""),
        }
    }
}

/// A text without the quotes around it. Spreadsheets treat a text that begins like a formula as a formula, even in
/// quotes. Such a text gets an apostrophe before it, which spreadsheets use to mark text.
fn escape(text: &str) -> String {
    // Also the full-width forms, which some input methods write and some programs accept.
    const BEGINS_FORMULA: [char; 8] = ['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];
    // A tab or a line break can also start a formula. They are escaped here, so they are a backslash and a letter.
    let line = Line(text).to_string().replace('"', "\"\"");
    if line.trim_start().starts_with(BEGINS_FORMULA) { format!("'{line}") } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_a_formula() {
        for (text, field) in [
            ("Q4_0", "Q4_0"),
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            (" =1", "' =1"),
            ("\t=1", r"\t=1"),
            ("\r\n=1", r"\r\n=1"),
            ("\u{ff1d}1", "'\u{ff1d}1"),
            ("a=\"b\",c", "a=\"\"b\"\",c"),
        ] {
            assert_eq!(escape(text), field);
        }
    }

    #[test]
    fn cells_are_quoted_where_asked_or_needed() {
        let row = || [Cell::Text("a,b"), Cell::Text("-c"), Cell::Value("-1.5".into()), Cell::Value(String::new())];
        let csv = |quotes| {
            let mut csv = Csv::new(["a", "b", "c", "d"], quotes);
            csv.push(row());
            csv.finish()
        };
        assert_eq!(csv(Quotes::WhereNeeded), "a,b,c,d\n\"a,b\",'-c,-1.5,\n");
        assert_eq!(csv(Quotes::Always), "a,b,c,d\n\"a,b\",\"'-c\",\"-1.5\",\"\"\n");
    }
}
