//! The escapers.

use crate::hazard::{Hazard, hazard};
use std::fmt::{self, Display, Write};

/// Which hazards an [`Escaper`] leaves unescaped.
type Keeps = fn(char, Hazard) -> bool;

/// Writes to `out` with hazards escaped. For the `Display` of errors, which contain foreign text.
pub struct Escaper<'w> {
    out: &'w mut dyn Write,
    keeps: Keeps,
}

impl<'w> Escaper<'w> {
    /// Escapes as [`Line`] does.
    pub fn line(out: &'w mut dyn Write) -> Self {
        Self { out, keeps: |_, _| false }
    }
}

impl Write for Escaper<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        let is_hazard = |c: char| hazard(c).is_some_and(|kind| !(self.keeps)(c, kind));
        while let Some((at, c)) = rest.char_indices().find(|&(_, c)| is_hazard(c)) {
            self.out.write_str(&rest[..at])?;
            match c {
                '\0' | '\n' | '\t' | '\r' => write!(self.out, "{}", c.escape_debug())?,
                // Not `escape_debug`, which leaves some of them unescaped.
                _ => write!(self.out, "{}", c.escape_unicode())?,
            }
            rest = &rest[at + c.len_utf8()..];
        }
        self.out.write_str(rest)
    }
}

impl fmt::Debug for Escaper<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Escaper").finish_non_exhaustive()
    }
}

/// Shows a value on one line. Every hazard is escaped, including newlines and tabs.
#[derive(Clone, Copy, Debug)]
pub struct Line<T>(pub T);

/// Shows a text of several lines: like [`Line`], but newlines stay.
#[derive(Clone, Copy, Debug)]
pub struct Lines<T>(pub T);

/// Shows text that a model wrote. Characters that control a terminal or reorder a line are escaped. Newlines, tabs and
/// the joiners that scripts and emoji need stay.
#[derive(Clone, Copy, Debug)]
pub struct Prose<T>(pub T);

impl<T: Display> Display for Line<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaper::line(f), "{}", self.0)
    }
}

impl<T: Display> Display for Lines<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaper { out: f, keeps: |c, _| c == '\n' }, "{}", self.0)
    }
}

impl<T: Display> Display for Prose<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaper { out: f, keeps: |c, kind| matches!(c, '\n' | '\t') || kind == Hazard::Invisible }, "{}", self.0)
    }
}

/// JSON of serde_json with its hazards escaped in JSON's way, which keeps its meaning. Outside of strings, the only
/// such characters are newlines, and they stay.
pub fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match hazard(c).filter(|_| c != '\n') {
            None => out.push(c),
            Some(_) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a String cannot fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_by_what_the_text_is() {
        let text = "a\n\tb\r\u{1b}[2J\u{9b}\u{202e}c\u{200d}d\u{e0041}\u{2028}é\\n";
        assert_eq!(Line(text).to_string(), r"a\n\tb\r\u{1b}[2J\u{9b}\u{202e}c\u{200d}d\u{e0041}\u{2028}é\n");
        assert_eq!(
            Lines(text).to_string(),
            "a\n".to_owned() + r"\tb\r\u{1b}[2J\u{9b}\u{202e}c\u{200d}d\u{e0041}\u{2028}é\n"
        );
        assert_eq!(
            Prose(text).to_string(),
            "a\n\tb".to_owned() + r"\r\u{1b}[2J\u{9b}\u{202e}c" + "\u{200d}d\u{e0041}" + r"\u{2028}é\n"
        );
        for once in [Line(text).to_string(), Line("").to_string()] {
            assert_eq!(Line(&once).to_string(), once, "escaping twice is escaping once");
        }
    }

    #[test]
    fn no_hazard_passes() {
        for c in ('\0'..=char::MAX).filter(|&c| hazard(c).is_some()) {
            let line = Line(c).to_string();
            assert!(line.starts_with('\\') && line.is_ascii(), "{line}");
            assert!(json(&c.to_string()).is_ascii());
        }
    }

    #[test]
    fn json_stays_the_same_json() {
        assert_eq!(
            json("{\n  \"a\": \"\u{7f}\u{202e}\u{e0041}é\"\n}\n"),
            "{\n  \"a\": \"\\u007f\\u202e\\udb40\\udc41é\"\n}\n"
        );
    }
}
