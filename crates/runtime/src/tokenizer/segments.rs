//! Cutting a long text where no token can lie across the cut.
//!
//! The `tokenizers` crate keeps some 140 bytes per byte of text (offsets through every stage), 640 MB for a text of
//! 4.7 MB; in pieces of 64 kB it needs 20 MB and takes a third less time.
//!
//! A cut is made before a space that has a printable ASCII character on either side. With the pipeline that
//! [`Segments::of`] demands, ids cannot change:
//! - NFC composes no ASCII character with a following space, and looks no further back than a starter.
//! - Added tokens without white space do not reach across, and runs of spaces only match two spaces or more.
//! - The pre-tokenizer's pattern `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+` takes a
//!   space only at the start of a match or in a run of white space. Before a printable character a lone space starts a
//!   match, cut or not; and a match that ends in a printable character looks no further.
//! - BPE merges within the matches.

use tokenizers::Tokenizer;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;

/// Long enough that its set-up does not matter, short enough for the cache.
const SEGMENT_BYTES: usize = 64 * 1024;

/// Whether and how texts are cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segments {
    /// A segment ends at the first cut from here on; `usize::MAX` for a pipeline where none is known to be safe.
    at_least_bytes: usize,
}

impl Segments {
    /// What is safe for this pipeline.
    pub(super) fn of(tokenizer: &Tokenizer) -> Self {
        let normalizer = match tokenizer.get_normalizer() {
            None | Some(NormalizerWrapper::NFC(_)) => true,
            Some(_) => false,
        };
        let pre_tokenizer = match tokenizer.get_pre_tokenizer() {
            Some(PreTokenizerWrapper::ByteLevel(byte_level)) => byte_level.use_regex && !byte_level.add_prefix_space,
            _ => false,
        };
        let added_tokens = tokenizer.get_added_tokens_decoder().values().all(|token| {
            let text = &token.content;
            let spaces = text.len() >= 2 && text.bytes().all(|b| b == b' ');
            let plain = !(token.lstrip || token.rstrip || token.single_word);
            plain && (spaces || !text.contains(char::is_whitespace))
        });
        let safe = normalizer && pre_tokenizer && added_tokens;
        Self { at_least_bytes: if safe { SEGMENT_BYTES } else { usize::MAX } }
    }

    /// The text in pieces that can be tokenized one by one.
    pub(super) fn split(self, text: &str) -> impl Iterator<Item = &str> {
        let mut rest = text;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (segment, after) = rest.split_at(self.cut(rest.as_bytes()));
            rest = after;
            Some(segment)
        })
    }

    fn cut(self, text: &[u8]) -> usize {
        let from = self.at_least_bytes.saturating_sub(1);
        let tail = text.get(from..).unwrap_or_default();
        let is_cut = |w: &[u8]| w[0].is_ascii_graphic() && w[1] == b' ' && w[2].is_ascii_graphic();
        tail.windows(3).position(is_cut).map_or(text.len(), |at| from + at + 1)
    }

    /// Cuts wherever it is safe, whatever the length: for tests.
    #[cfg(test)]
    pub(super) fn everywhere() -> Self {
        Self { at_least_bytes: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_before_lone_spaces_only() {
        let segments: Vec<&str> = Segments::everywhere().split("a b  c\n d é f. 'g \u{301}h i").collect();
        assert_eq!(segments, ["a", " b  c\n d é f.", " 'g \u{301}h", " i"]);
        assert_eq!(Segments::everywhere().split("").count(), 0);
    }

    #[test]
    fn segments_are_long() {
        let text = "word ".repeat(100_000);
        let lengths: Vec<usize> = Segments { at_least_bytes: SEGMENT_BYTES }.split(&text).map(str::len).collect();
        let (last, others) = lengths.split_last().unwrap();
        assert!(others.iter().all(|n| (SEGMENT_BYTES..SEGMENT_BYTES + 8).contains(n)), "{lengths:?}");
        assert!(*last <= SEGMENT_BYTES + 8 && lengths.iter().sum::<usize>() == text.len());
        assert_eq!(Segments { at_least_bytes: usize::MAX }.split(&text).count(), 1);
    }
}
