//! The width of output lines, and text shortened or wrapped to it.

use pythia_text::Line;
use std::io;
use terminal_size::terminal_size_of;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The maximum width of a command's output lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Width {
    /// Character cells of a line.
    pub columns: usize,
    /// Whether names are shortened and sentences wrapped, as for a terminal. A pipe or a file gets the columns of an
    /// 80-character terminal, but whole names and sentences, so that they can be searched.
    pub shortens: bool,
}

/// Columns for a pipe or a file, so that their contents do not depend on a terminal.
const USUAL: usize = 80;
/// The smallest width that tables are laid out for.
const LEAST: usize = 20;

impl Width {
    /// The width of stdout: `COLUMNS`, or that of the terminal, or 80.
    pub fn of_stdout() -> Self {
        let asked = std::env::var("COLUMNS").ok().and_then(|text| text.trim().parse().ok()).filter(|&n| n > 0);
        let terminal = || terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0)).filter(|&n| n > 0);
        asked.or_else(terminal).map_or_else(Self::pipe, Self::screen)
    }

    /// A terminal with this many columns.
    pub fn screen(columns: usize) -> Self {
        Self { columns: columns.max(LEAST), shortens: true }
    }

    /// A pipe or a file.
    pub fn pipe() -> Self {
        Self { columns: USUAL, shortens: false }
    }
}

/// Character cells of `text` in a terminal: two for each ideograph, none for a combining accent.
pub fn text_width(text: &str) -> usize {
    text.width()
}

/// `text` in at most `columns` cells. The middle of a longer text is left out, because names differ at both ends.
pub fn shorten(text: &str, columns: usize) -> String {
    if text_width(text) <= columns {
        return text.to_owned();
    }
    let room = columns.saturating_sub(1);
    let head = prefix(text.chars(), room.div_ceil(2));
    let tail: String = prefix(text.chars().rev(), room / 2).chars().rev().collect();
    format!("{head}…{tail}")
}

/// As many of `chars` as fit in `columns` cells.
fn prefix(chars: impl Iterator<Item = char>, columns: usize) -> String {
    let mut used = 0;
    let fits = |c: &char| {
        used += c.width().unwrap_or(0);
        used <= columns
    };
    chars.take_while(fits).collect()
}

/// `text` as one escaped line with a newline at its end. At a terminal it is wrapped between words; lines after the
/// first begin with `indent`, and a word that is too long is shortened in the middle.
pub fn wrap(text: &str, width: Width, indent: &str) -> String {
    let text = &Line(text).to_string();
    if !width.shortens || text_width(text) <= width.columns {
        return format!("{text}\n");
    }
    let mut out = String::new();
    let mut line = String::new();
    // Spaces may align columns, so they are kept except at line breaks.
    for word in text.split_inclusive(' ') {
        let used = text_width(&line);
        if used > text_width(indent) && used + text_width(word.trim_end()) > width.columns {
            out += line.trim_end();
            out.push('\n');
            line = indent.to_owned();
        }
        let (bare, space) = word.split_at(word.trim_end().len());
        line += &shorten(bare, width.columns.saturating_sub(text_width(&line)).max(1));
        line += space;
    }
    out + line.trim_end() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_keep_both_ends() {
        for (text, columns, want) in [
            ("Q4_0", 10, "Q4_0"),
            ("pythia-docs-6m-Q4_K_M", 13, "pythia…Q4_K_M"),
            ("pythia-docs-6m-Q4_K_M", 12, "pythia…4_K_M"),
            ("abc", 1, "…"),
            ("模型模型模型", 7, "模…型"),
            ("模型模型模型", 9, "模型…模型"),
        ] {
            assert_eq!(shorten(text, columns), want);
        }
    }

    #[test]
    fn sentences_break_between_words() {
        let text = "text        one two three four five six";
        assert_eq!(wrap(text, Width::screen(25), "    "), "text        one two three\n    four five six\n");
        assert_eq!(wrap(text, Width::pipe(), "    "), format!("{text}\n"));
        let path = format!("{}/file.gguf: sound", "folder".repeat(9));
        let wrapped = wrap(&path, Width::screen(30), "  ");
        assert!(wrapped.contains("…") && wrapped.ends_with("\n  sound\n"), "{wrapped}");
    }

    proptest! {
        #[test]
        fn nothing_is_wider_than_it_may_be(text in "[a模 ]{0,120}", columns in 20usize..60) {
            prop_assert!(text_width(&shorten(&text, columns)) <= columns);
            let wrapped = wrap(&text, Width::screen(columns), "  ");
            prop_assert!(wrapped.lines().all(|line| text_width(line) <= columns), "{wrapped}");
        }
    }
}
