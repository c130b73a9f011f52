//! Python's ideas of white space and letters, where they differ from Rust's.

/// `c.isspace()`: also the four separators of ASCII.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `text.strip()`
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `text.lstrip()`
pub(crate) fn strip_start(text: &str) -> &str {
    text.trim_start_matches(is_space)
}

/// `text.split()`
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// `len(re.split(r"\s+", text))`: space at the start or end counts an empty word.
pub(crate) fn count_words(text: &str) -> usize {
    let mut count = 1;
    let mut after_space = false;
    for c in text.chars() {
        let space = is_space(c);
        count += usize::from(space && !after_space);
        after_space = space;
    }
    count
}

/// `text.capitalize()`: the first letter in title case, all others small.
pub(crate) fn capitalize(text: &str) -> String {
    let Some(first) = text.chars().next() else { return String::new() };
    let small = text.to_lowercase();
    // All at once, because the form of a final sigma depends on what comes before.
    let rest: String = small.chars().skip(first.to_lowercase().count()).collect();
    match first {
        // The letters whose title case is another than their upper case.
        '\u{1c4}'..='\u{1c6}' => format!("\u{1c5}{rest}"),
        '\u{1c7}'..='\u{1c9}' => format!("\u{1c8}{rest}"),
        '\u{1ca}'..='\u{1cc}' => format!("\u{1cb}{rest}"),
        '\u{1f1}'..='\u{1f3}' => format!("\u{1f2}{rest}"),
        '\u{10d0}'..='\u{10ff}' => format!("{first}{rest}"),
        _ => {
            // One letter may become several: `Ss` for a sharp s.
            let mut upper = first.to_uppercase();
            let begin: String = upper.next().into_iter().chain(upper.flat_map(char::to_lowercase)).collect();
            format!("{begin}{rest}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capitals_are_pythons() {
        for (text, wanted) in [
            ("hELLO wORLD", "Hello world"),
            ("\u{df}tra\u{df}e", "Sstra\u{df}e"),
            ("\u{391}\u{3a3}", "\u{391}\u{3c2}"),
            ("", ""),
            ("\u{1c6}", "\u{1c5}"),
            ("\u{e9}COLE", "\u{c9}cole"),
            ("1ABC", "1abc"),
            ("\u{3a3}\u{391}\u{3a3} b", "\u{3a3}\u{3b1}\u{3c2} b"),
            ("\u{fb01}x", "Fix"),
            ("\u{10d0}", "\u{10d0}"),
        ] {
            assert_eq!(capitalize(text), wanted, "{text}");
        }
    }

    #[test]
    fn space_is_pythons() {
        let spaces = (0..=0x10_ffff).filter_map(char::from_u32).filter(|&c| is_space(c)).count();
        assert_eq!(spaces, 29);
        assert_eq!(strip("\u{1c} a b\u{3000}"), "a b");
        assert_eq!(words(" a\u{1f}b  c").collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!([count_words(""), count_words("a"), count_words(" a  b\n"), count_words(" ")], [1, 1, 4, 2]);
    }
}
