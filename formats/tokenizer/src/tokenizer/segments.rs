//! Cuts long texts at positions that no token can span.
//!
//! The `tokenizers` crate keeps some 140 bytes per byte of text (offsets through every stage), 640 MB for a text of
//! 4.7 MB; in pieces of 64 kB it needs 20 MB and takes a third less time.
//!
//! A cut between two characters `a` and `b` changes no id if
//!
//! - NFC keeps them apart: `b` is a starter that composes with nothing before it;
//! - no added token reaches across: none holds `ab`;
//! - the pre-tokenizer's pattern `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+` ends a
//!   match between them, wherever the match began, and ends it there too if the text does. It does so if `a` is not
//!   white space (the only lookahead is behind runs of white space) and either `b` is white space, or the two are of
//!   different classes (letters, numbers, others) and `a` is no apostrophe, which could begin `'s`. The pattern never
//!   looks back, so what follows is matched as before.
//!
//! BPE merges within the matches. [`Class`] knows the classes of common characters with certainty. Next to other
//! characters a text is not cut.

use crate::Error;
use tokenizers::Tokenizer;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;

/// Length of a segment: long enough that its setup does not matter, short enough for the cache.
const SEGMENT_BYTES: usize = 64 * 1024;

/// Maximum length without a cut, because it takes 140 times its size in memory. Only an endless word is that long, or a
/// text for which no safe cut is known.
pub const MAX_SEGMENT_BYTES: usize = 16 << 20;

/// Whether and how texts are cut.
#[derive(Clone, Debug)]
pub struct Segments {
    /// A segment ends at the first cut from here on; `usize::MAX` for a pipeline where none is known to be safe.
    at_least_bytes: usize,
    /// Neighbours within an added token, sorted. `None` if those could be changed by normalization: then texts are only
    /// cut before white space.
    joined: Option<Vec<(char, char)>>,
}

/// The class of a character for the pre-tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// White space of ASCII.
    Space,
    Letter,
    Number,
    /// `[^\s\p{L}\p{N}]`.
    Other,
    /// Not white space; otherwise unknown.
    Visible,
    /// Unknown.
    Unknown,
}

impl Class {
    /// Those with a definite answer are starters that compose with nothing before them, and nothing that composes with
    /// them changes their class.
    fn of(c: char) -> Self {
        match c {
            ' ' | '\t' | '\n' | '\r' => Self::Space,
            'a'..='z' | 'A'..='Z' => Self::Letter,
            '0'..='9' => Self::Number,
            '!'..='~' => Self::Other,
            // Kana, the ideographs of Unicode 1.1 and 3.0, Hangul syllables.
            '\u{3041}'..='\u{3094}' | '\u{30A1}'..='\u{30FA}' => Self::Letter,
            '\u{3400}'..='\u{4DB5}' | '\u{4E00}'..='\u{9FA5}' | '\u{AC00}'..='\u{D7A3}' => Self::Letter,
            // Dashes, quotes, ellipsis; what ends and quotes sentences in Chinese and Japanese.
            '\u{2010}'..='\u{2027}' | '\u{3001}' | '\u{3002}' | '\u{3008}'..='\u{3011}' => Self::Other,
            '\u{FF01}' | '\u{FF08}' | '\u{FF09}' | '\u{FF0C}' | '\u{FF0E}' => Self::Other,
            '\u{FF1A}' | '\u{FF1B}' | '\u{FF1F}' => Self::Other,
            // Marks of format and spaces of no width: nothing depends on what they are.
            '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}' => {
                Self::Unknown
            }
            _ if c.is_whitespace() || c.is_control() => Self::Unknown,
            _ => Self::Visible,
        }
    }
}

impl Segments {
    /// The rules that are safe for this pipeline.
    pub(super) fn of(tokenizer: &Tokenizer) -> Self {
        let normalizer = match tokenizer.get_normalizer() {
            None | Some(NormalizerWrapper::NFC(_)) => true,
            Some(_) => false,
        };
        let pre_tokenizer = match tokenizer.get_pre_tokenizer() {
            Some(PreTokenizerWrapper::ByteLevel(byte_level)) => byte_level.use_regex && !byte_level.add_prefix_space,
            _ => false,
        };
        let added = tokenizer.get_added_tokens_decoder();
        let plain = added.values().all(|token| {
            let text = &token.content;
            let spaces = text.len() >= 2 && text.bytes().all(|b| b == b' ');
            let exact = !(token.lstrip || token.rstrip || token.single_word);
            exact && (spaces || !text.contains(char::is_whitespace))
        });
        let ascii = added.values().all(|token| token.content.is_ascii());
        let joined = ascii.then(|| joined(added.values().map(|token| token.content.as_str())));
        let at_least_bytes = if normalizer && pre_tokenizer && plain { SEGMENT_BYTES } else { usize::MAX };
        Self { at_least_bytes, joined }
    }

    /// The first place from byte `from` of `text` on where a segment that starts with `text` may end.
    pub fn cut(&self, text: &str, from: usize) -> Option<usize> {
        let from = from.max(self.at_least_bytes.saturating_sub(1));
        if from >= text.len() {
            return None;
        }
        let start = text.floor_char_boundary(from);
        let mut chars = text[start..].char_indices();
        let (_, mut before) = chars.next()?;
        for (at, c) in chars {
            if self.is_cut(before, c) {
                return Some(start + at);
            }
            before = c;
        }
        None
    }

    /// Whether texts can be cut at all. If not, a text is tokenized as a whole, however long it is.
    pub fn can_cut(&self) -> bool {
        self.at_least_bytes != usize::MAX
    }

    fn is_cut(&self, a: char, b: char) -> bool {
        use Class::{Letter, Number, Other, Space, Unknown, Visible};
        let different = match (Class::of(a), Class::of(b)) {
            (Space | Unknown, _) => return false,
            (_, Space) => return true,
            (a @ (Letter | Number | Other), b @ (Letter | Number | Other)) => a != b,
            (Visible, _) | (_, Unknown | Visible) => false,
        };
        let inside_added = || self.joined.as_ref().is_none_or(|joined| joined.binary_search(&(a, b)).is_ok());
        different && a != '\'' && !inside_added()
    }

    /// The text in pieces that can be tokenized one by one.
    ///
    /// # Errors
    /// An item is one, the last, where a piece would be [too long](MAX_SEGMENT_BYTES).
    pub fn split<'s>(&'s self, text: &'s str) -> impl Iterator<Item = Result<&'s str, Error>> {
        let mut rest = text;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (segment, after) = rest.split_at(self.cut(rest, 0).unwrap_or(rest.len()));
            let at = text.len() - rest.len();
            rest = after;
            if segment.len() > MAX_SEGMENT_BYTES && self.can_cut() {
                rest = "";
                return Some(Err(Error::NoCut { at: at as u64 }));
            }
            Some(Ok(segment))
        })
    }

    /// The same with segments of `n_bytes` or more, rather than of 64 KiB.
    #[must_use]
    pub fn of_at_least(self, n_bytes: usize) -> Self {
        Self { at_least_bytes: if self.can_cut() { n_bytes } else { usize::MAX }, ..self }
    }
}

/// Every pair of neighbours in these texts.
fn joined<'t>(texts: impl Iterator<Item = &'t str>) -> Vec<(char, char)> {
    let mut pairs: Vec<_> = texts.flat_map(|text| text.chars().zip(text.chars().skip(1))).collect();
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(at_least_bytes: usize) -> Segments {
        Segments { at_least_bytes, joined: Some(joined(["<|end|>"].into_iter())) }
    }

    fn pieces<'s>(segments: &'s Segments, text: &'s str) -> Vec<&'s str> {
        segments.split(text).map(Result::unwrap).collect()
    }

    #[test]
    fn cuts_lie_before_white_space_and_between_classes() {
        let table = [
            ("a b  c\n d é\u{301} f", "a¦ b¦  c¦\n d¦ é\u{301}¦ f"),
            ("don't, o'clock x' y", "don¦'t¦,¦ o¦'clock¦ x¦'¦ y"),
            ("ab12c3.d", "ab¦12¦c¦3¦.¦d"),
            ("</|end|>|<x", "</|end|>|<¦x"),
            ("春眠。不覺曉，處「処」", "春眠¦。¦不覺曉¦，¦處¦「¦処¦」"),
            ("かな\u{3099}、カ", "かな\u{3099}、¦カ"),
            ("한글…글", "한글¦…¦글"),
            ("\n\n\na\u{3000}b\u{200b} c", "\n\n\na\u{3000}b\u{200b} c"),
            ("é7 Я.", "é7¦ Я."),
        ];
        for (text, cut) in table {
            assert_eq!(pieces(&segments(1), text).join("¦"), cut);
        }
        assert_eq!(segments(1).split("").count(), 0);
        let before_spaces = Segments { joined: None, ..segments(1) };
        assert_eq!(pieces(&before_spaces, "ab12。不 x").join("¦"), "ab12。不¦ x");
    }

    #[test]
    fn segments_are_long() {
        for (unit, longest) in [("word ", 8), ("春眠不覺曉。", 24), ("x\n", 8), ("aaaa0", 8)] {
            let text = unit.repeat(100_000);
            let segments = segments(SEGMENT_BYTES);
            let lengths: Vec<usize> = pieces(&segments, &text).into_iter().map(str::len).collect();
            let (last, others) = lengths.split_last().unwrap();
            assert!(others.iter().all(|n| (SEGMENT_BYTES..SEGMENT_BYTES + longest).contains(n)), "{lengths:?}");
            assert!(*last <= SEGMENT_BYTES + longest && lengths.iter().sum::<usize>() == text.len());
            assert!(others.len() > 1);
        }
        assert_eq!(segments(usize::MAX).split(&"word ".repeat(100_000)).count(), 1);
    }

    #[test]
    fn an_endless_word_is_refused() {
        let text = format!("x {}", "a".repeat(MAX_SEGMENT_BYTES + 1));
        let segments = segments(1);
        let found: Vec<_> = segments.split(&text).collect();
        assert!(matches!(found[..], [Ok("x"), Err(Error::NoCut { at: 1 })]), "{}", found.len());
        assert!(segments.split(&text[..text.len() - 2]).all(|piece| piece.is_ok()));
    }
}
