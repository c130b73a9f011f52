//! The characters that must not reach a terminal, a log or a report unescaped.

/// The harm that a character can do to the reader of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hazard {
    /// It can control a terminal or start a new line: C0 (with newline and tab), DEL, C1, and the separators of lines
    /// and paragraphs.
    Control,
    /// It changes the order in which its neighbours are shown, so a name can look like another one.
    Bidi,
    /// It is invisible: two different names can look the same, or a text can contain hidden text.
    Invisible,
}

/// All code points with a hazard beyond ASCII and C1, in ascending order: Unicode's `Bidi_Control`,
/// `Default_Ignorable_Code_Point`, the line and paragraph separators, and the marks of interlinear annotations.
const RANGES: &[(char, char, Hazard)] = &[
    ('\u{ad}', '\u{ad}', Hazard::Invisible),
    ('\u{34f}', '\u{34f}', Hazard::Invisible),
    ('\u{61c}', '\u{61c}', Hazard::Bidi),
    ('\u{115f}', '\u{1160}', Hazard::Invisible),
    ('\u{17b4}', '\u{17b5}', Hazard::Invisible),
    ('\u{180b}', '\u{180f}', Hazard::Invisible),
    ('\u{200b}', '\u{200d}', Hazard::Invisible),
    ('\u{200e}', '\u{200f}', Hazard::Bidi),
    ('\u{2028}', '\u{2029}', Hazard::Control),
    ('\u{202a}', '\u{202e}', Hazard::Bidi),
    ('\u{2060}', '\u{2065}', Hazard::Invisible),
    ('\u{2066}', '\u{2069}', Hazard::Bidi),
    ('\u{206a}', '\u{206f}', Hazard::Invisible),
    ('\u{3164}', '\u{3164}', Hazard::Invisible),
    ('\u{fe00}', '\u{fe0f}', Hazard::Invisible),
    ('\u{feff}', '\u{feff}', Hazard::Invisible),
    ('\u{ffa0}', '\u{ffa0}', Hazard::Invisible),
    ('\u{fff0}', '\u{fffb}', Hazard::Invisible),
    ('\u{1bca0}', '\u{1bca3}', Hazard::Invisible),
    ('\u{1d173}', '\u{1d17a}', Hazard::Invisible),
    ('\u{e0000}', '\u{e0fff}', Hazard::Invisible),
];

/// The hazard of `c`. `None` if it can be shown unescaped.
pub fn hazard(c: char) -> Option<Hazard> {
    if matches!(c, ' '..='~') {
        return None;
    }
    if c.is_control() {
        return Some(Hazard::Control);
    }
    let at = RANGES.partition_point(|&(_, last, _)| last < c);
    RANGES.get(at).filter(|&&(first, ..)| first <= c).map(|&(.., hazard)| hazard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_ascends_without_overlap() {
        for pair in RANGES.windows(2) {
            assert!(pair[0].0 <= pair[0].1 && pair[0].1 < pair[1].0, "{pair:?}");
        }
    }

    #[test]
    fn kinds_of_characters() {
        for c in ['\0', '\n', '\t', '\r', '\u{1b}', '\u{7f}', '\u{80}', '\u{9b}', '\u{9f}', '\u{2028}', '\u{2029}'] {
            assert_eq!(hazard(c), Some(Hazard::Control), "{c:?}");
        }
        for c in
            "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}".chars()
        {
            assert_eq!(hazard(c), Some(Hazard::Bidi), "{c:?}");
        }
        for c in "\u{ad}\u{200b}\u{200c}\u{200d}\u{2060}\u{fe0f}\u{feff}\u{e0000}\u{e0041}\u{e007f}\u{e01ef}".chars() {
            assert_eq!(hazard(c), Some(Hazard::Invisible), "{c:?}");
        }
        for c in " ~azé…Ġ漢あ한𝄞🙂\u{a0}\u{301}\u{fffd}\u{10ffff}".chars() {
            assert_eq!(hazard(c), None, "{c:?}");
        }
    }
}
