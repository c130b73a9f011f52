//! How wide lines may be, and text cut or broken to that width.

use pythia_text::Line;
use std::io;
use terminal_size::terminal_size_of;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How wide the lines of a command may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Width {
    /// Character cells of a line.
    pub columns: usize,
    /// Whether a line that is longer does harm: at a terminal names are shortened and sentences broken. In a pipe or a
    /// file columns are chosen as for a terminal of the usual width, but names and sentences stay whole, so that what
    /// is searched for can be found.
    pub shortens: bool,
}

/// Of a pipe or a file: output there does not depend on who looks at it.
const USUAL: usize = 80;
/// Less is no terminal to lay out for.
const LEAST: usize = 20;

impl Width {
    /// Of what stdout is: as `COLUMNS` says, else as the terminal is, else the usual.
    pub fn of_stdout() -> Self {
        let asked = std::env::var("COLUMNS").ok().and_then(|text| text.trim().parse().ok()).filter(|&n| n > 0);
        let terminal = || terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0)).filter(|&n| n > 0);
        asked.or_else(terminal).map_or_else(Self::pipe, Self::screen)
    }

    /// A terminal of so many columns.
    pub fn screen(columns: usize) -> Self {
        Self { columns: columns.max(LEAST), shortens: true }
    }

    /// A pipe or a file.
    pub fn pipe() -> Self {
        Self { columns: USUAL, shortens: false }
    }
}

/// Character cells that a terminal takes for `text`: two for each ideograph, none for an accent.
pub fn text_width(text: &str) -> usize {
    text.width()
}

/// `text` in at most `columns` cells: the middle of a longer one is left out, since both its ends tell names apart.
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

/// `text`, which is one line whatever is in it, with a line break at its end, and at a terminal between words wherever a line would be too long; lines after
/// the first begin with `indent`. A word that is too long by itself loses its middle.
pub fn wrap(text: &str, width: Width, indent: &str) -> String {
    let text = &Line(text).to_string();
    if !width.shortens || text_width(text) <= width.columns {
        return format!("{text}\n");
    }
    let mut out = String::new();
    let mut line = String::new();
    // Spaces inside the first line may line columns up: only breaks take them away.
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
