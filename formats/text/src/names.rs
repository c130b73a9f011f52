//! Names and quotations in messages: short, and on one line.

use crate::escape::Line;
use std::fmt::{self, Display, Write};
use std::path::Path;

/// A path for a message, on one line. Bytes that are not UTF-8 are shown as `\xff`.
pub fn path(path: &Path) -> impl Display + '_ {
    Shown(path)
}

struct Shown<'p>(&'p Path);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.as_os_str().as_encoded_bytes().utf8_chunks() {
            write!(f, "{}", Line(chunk.valid()))?;
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}

/// A number of things, for people: `counted(1, "task")` is "1 task", and `counted(2, "task")` is "2 tasks".
pub fn counted(n: usize, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

/// `text` on one line in `quote` marks, cut to `max_chars` characters with a final `…`. Quote marks and backslashes in
/// the text get a backslash before them.
pub fn quoted(text: &str, quote: char, max_chars: usize) -> String {
    let mut out = String::from(quote);
    let mut chars = text.chars();
    for c in chars.by_ref().take(max_chars) {
        if c == quote || c == '\\' {
            out.push('\\');
        }
        // Writing to a String cannot fail.
        let _ = write!(out, "{}", Line(c));
    }
    if chars.next().is_some() {
        out.push('…');
    }
    out.push(quote);
    out
}

/// A message on one line. The middle of a long one is left out, because parsers quote long parts of a file and state
/// the position at the end.
pub fn cut_middle(text: &str, start_chars: usize, end_chars: usize) -> String {
    let n_chars = text.chars().count();
    if n_chars <= start_chars + end_chars {
        return Line(text).to_string();
    }
    let byte = |nth: usize| text.char_indices().nth(nth).map_or(text.len(), |(at, _)| at);
    format!("{}…{}", Line(&text[..byte(start_chars)]), Line(&text[byte(n_chars - end_chars)..]))
}

/// The most similar of `names`, ignoring case. `None` if none is similar enough.
pub fn nearest_name<'n>(text: &str, names: &[&'n str]) -> Option<&'n str> {
    /// The least similarity that counts.
    const LEAST_SIMILARITY: f64 = 0.8;
    // Names are short, and the comparison is quadratic in the length.
    let text = text.chars().take(32).collect::<String>().to_ascii_uppercase();
    let similarity = |name: &&str| strsim::jaro_winkler(&text, &name.to_ascii_uppercase());
    let best = names.iter().copied().max_by(|a, b| similarity(a).total_cmp(&similarity(b)))?;
    (similarity(&best) >= LEAST_SIMILARITY).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_where_a_character_ends() {
        assert_eq!(quoted("ééé", '"', 2), "\"éé…\"");
        assert_eq!(quoted("a\"b'\\\u{1b}", '"', 9), r#""a\"b'\\\u{1b}""#);
        assert_eq!(quoted("a'bc", '\'', 3), r"'a\'b…'");
        assert_eq!(cut_middle("ééééé\n", 2, 2), r"éé…é\n");
        assert_eq!(cut_middle("ééé\n", 2, 2), r"ééé\n");
    }

    #[cfg(unix)]
    #[test]
    fn paths_show_their_bytes() {
        use std::os::unix::ffi::OsStrExt;
        let name = std::ffi::OsStr::from_bytes(b"a\xff\xed\xa0\x80\xe2\x80\xae\n");
        assert_eq!(path(Path::new(name)).to_string(), r"a\xff\xed\xa0\x80\u{202e}\n");
    }
}
