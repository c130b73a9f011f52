//! The tokens of a text, produced on demand, so that memory does not depend on the length of the text.

use crate::{Error, TextReader, Tokenizer};
use pythia_task::Cancel;
use pythia_tokenizer::{MAX_SEGMENT_BYTES, Segments};
use std::borrow::Cow;
use std::ops::Range;

/// Texts up to this size are tokenized at once, which takes about a second, so that totals are known from the start.
const SHORT_TEXT_BYTES: u64 = 4 << 20;

/// Token ids by their position in a text. Text is read and tokenized when its tokens are [reached](Self::reach), and
/// tokens can be [forgotten](Self::forget). The ids are those of [`Tokenizer::encode`] for the whole text.
#[derive(Debug)]
pub struct TokenStream<'t> {
    ids: Cow<'t, [u32]>,
    /// Position of the first of `ids`.
    first: usize,
    /// `None` when all has been tokenized.
    unread: Option<Unread<'t>>,
    /// Ids must be below this, if it is set.
    n_vocab: usize,
    cancel: Cancel,
}

/// The part of a text that is not tokenized yet.
#[derive(Debug)]
struct Unread<'t> {
    tokenizer: &'t Tokenizer,
    segments: Cow<'t, Segments>,
    reader: TextReader<'t>,
    /// Text that was read and is not tokenized yet.
    text: String,
    /// `text` is known to have no cut before this byte.
    searched: usize,
    ended: bool,
}

impl<'t> TokenStream<'t> {
    /// A text that is tokenized already.
    pub fn of_ids(ids: &'t [u32]) -> Self {
        Self { ids: Cow::Borrowed(ids), first: 0, unread: None, n_vocab: usize::MAX, cancel: Cancel::new() }
    }

    /// The text that `reader` reads.
    pub fn new(tokenizer: &'t Tokenizer, reader: TextReader<'t>) -> Self {
        let segments = Cow::Borrowed(tokenizer.segments());
        let unread = Unread { tokenizer, segments, reader, text: String::new(), searched: 0, ended: false };
        Self { ids: Cow::Owned(Vec::new()), first: 0, unread: Some(unread), n_vocab: usize::MAX, cancel: Cancel::new() }
    }

    /// Ends with [`Error::Cancelled`] soon after `cancel` was raised.
    #[must_use]
    pub fn cancelled_by(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// Reads until there are `end` tokens (including forgotten ones) or the text ends. Returns the number of tokens
    /// then, at most `end`.
    ///
    /// # Errors
    /// If the text cannot be read, is not UTF-8 or cannot be tokenized, if an id is [too large](Self::require_below),
    /// or if it was cancelled.
    pub fn reach(&mut self, end: usize) -> Result<usize, Error> {
        while self.first + self.ids.len() < end {
            let Some(unread) = &mut self.unread else { break };
            if self.cancel.is_raised() {
                return Err(Error::Cancelled);
            }
            let ids = self.ids.to_mut();
            let before = ids.len();
            if !unread.tokenize_segment(ids)? {
                self.unread = None;
            }
            check(&self.ids[before..], self.n_vocab)?;
        }
        Ok(end.min(self.first + self.ids.len()))
    }

    /// As [`reach`](Self::reach) up to the end of the text if the text is short, so that totals are known.
    ///
    /// # Errors
    /// As [`reach`](Self::reach).
    pub fn reach_end_if_short(&mut self) -> Result<(), Error> {
        let n_bytes = self.unread.as_ref().and_then(|unread| unread.reader.n_bytes());
        if n_bytes.is_some_and(|n_bytes| n_bytes <= SHORT_TEXT_BYTES) {
            self.reach(usize::MAX)?;
        }
        Ok(())
    }

    /// Makes ids of `n_vocab` or more an error, also later.
    ///
    /// # Errors
    /// If there is already such an id.
    pub fn require_below(&mut self, n_vocab: usize) -> Result<(), Error> {
        self.n_vocab = n_vocab;
        check(&self.ids, n_vocab)
    }

    /// Total number of tokens, if the end has been reached.
    pub fn total(&self) -> Option<usize> {
        self.unread.is_none().then_some(self.first + self.ids.len())
    }

    /// Total number of tokens: an estimate from the remaining bytes, exact once the end has been reached. `None` if the
    /// length of the text is unknown.
    pub fn estimated_total(&self) -> Option<usize> {
        let Some(unread) = &self.unread else { return self.total() };
        let n_bytes = unread.reader.n_bytes()?;
        let (tokens, bytes) = (self.first + self.ids.len(), unread.reader.bytes_read() - unread.text.len() as u64);
        (bytes > 0).then(|| (tokens as f64 * n_bytes.max(bytes) as f64 / bytes as f64) as usize)
    }

    /// Drops the tokens before position `end`.
    pub fn forget(&mut self, end: usize) {
        let n = end.saturating_sub(self.first).min(self.ids.len());
        match &mut self.ids {
            Cow::Borrowed(ids) => *ids = &ids[n..],
            // Not for a few, because the remaining ones are moved.
            Cow::Owned(ids) if n >= ids.len() / 2 => drop(ids.drain(..n)),
            Cow::Owned(_) => return,
        }
        self.first += n;
    }

    /// Tokens at these positions.
    ///
    /// # Panics
    /// If one was not reached, or is forgotten.
    pub fn slice(&self, positions: Range<usize>) -> &[u32] {
        &self.ids[positions.start - self.first..positions.end - self.first]
    }

    /// The token at a position.
    ///
    /// # Panics
    /// If it was not reached, or is forgotten.
    pub fn get(&self, position: usize) -> u32 {
        self.ids[position - self.first]
    }

    /// All tokens that were reached and are not forgotten.
    pub fn at_hand(&self) -> &[u32] {
        &self.ids
    }
}

/// Checks ids once, because models use them as indices.
pub(crate) fn check(ids: &[u32], n_vocab: usize) -> Result<(), Error> {
    match ids.iter().find(|&&token| token as usize >= n_vocab) {
        Some(&token) => Err(Error::TokenOutOfRange { token, n_vocab }),
        None => Ok(()),
    }
}

impl Unread<'_> {
    /// Appends the ids of the next segment. False if it was the last.
    fn tokenize_segment(&mut self, ids: &mut Vec<u32>) -> Result<bool, Error> {
        loop {
            if let Some(cut) = self.segments.cut(&self.text, self.searched) {
                self.tokenizer.encode_segment(&self.text[..cut], ids)?;
                self.text.drain(..cut);
                self.searched = 0;
                return Ok(true);
            }
            // The last character may have a cut behind it.
            self.searched = self.text.len().saturating_sub(1);
            if self.text.len() > MAX_SEGMENT_BYTES && self.segments.can_cut() {
                return Err(Error::NoCut { at: self.reader.bytes_read() - self.text.len() as u64 });
            }
            if self.ended {
                self.tokenizer.encode_segment(&self.text, ids)?;
                return Ok(false);
            }
            self.ended = !self.reader.read(&mut self.text)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use pythia_tokenizer::{ForModel, TokenizerFile};
    use std::path::Path;
    use std::sync::LazyLock;

    /// The tokenizer of the test model.
    static DOCS: LazyLock<Tokenizer> = LazyLock::new(|| {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/pythia-docs-6m"));
        let model = ForModel { n_vocab: 4096, bos: None, eos: None };
        let file = TokenizerFile::find(folder, &model).unwrap().expect("the test model is part of the repository");
        Tokenizer::from_vocab(&file.vocab).unwrap()
    });

    fn whole_ids(text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        DOCS.encode_segment(text, &mut ids).unwrap();
        ids
    }

    /// The stream of a text that is cut wherever it may be.
    fn stream(text: &str, newline: bool) -> TokenStream<'_> {
        let mut stream = TokenStream::new(&DOCS, TextReader::new(text.as_bytes()).without_last_newline(newline));
        let unread = stream.unread.as_mut().unwrap();
        unread.segments = Cow::Owned(unread.segments.clone().into_owned().of_at_least(1));
        stream
    }

    /// All ids, a few at a time.
    fn ids(mut stream: TokenStream<'_>, step: usize) -> Vec<u32> {
        let (mut ids, mut position) = (Vec::new(), 0);
        loop {
            let end = stream.reach(position + step).unwrap();
            ids.extend_from_slice(stream.slice(position..end));
            if end < position + step {
                assert_eq!(stream.total(), Some(ids.len()));
                return ids;
            }
            position = end;
            stream.forget(position);
        }
    }

    proptest! {
        #[test]
        fn ids_are_those_of_the_whole_text(text in "[a-c ,'0\n春。]{0,60}", step in 1usize..9) {
            prop_assert_eq!(ids(stream(&text, false), step), DOCS.encode(&text).unwrap());
            let line = text.strip_suffix('\n').unwrap_or(&text);
            prop_assert_eq!(ids(stream(&text, true), step), DOCS.encode(line).unwrap());
        }
    }

    #[test]
    fn long_texts_of_any_script_are_cut_and_give_the_same_ids() {
        for unit in
            ["The borrow checker.\n", "春眠不覺曉，處處聞啼鳥。", "x\n", "かなカナ「春」", "a,b;c\r\n", "0x1f\u{a0}"]
        {
            let text = unit.repeat(400_000 / unit.len());
            let stream = TokenStream::new(&DOCS, TextReader::new(text.as_bytes()));
            let whole = whole_ids(&text);
            assert!(ids(stream, 10_000) == whole, "{unit:?}");
            assert!(DOCS.encode(&text).unwrap() == whole, "{unit:?}");
        }
    }

    #[test]
    fn no_more_is_read_than_is_asked_for() {
        /// A text without end.
        struct Endless;
        impl std::io::Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                buffer.iter_mut().zip(b"word ".iter().cycle()).for_each(|(to, from)| *to = *from);
                Ok(buffer.len() / 5 * 5)
            }
        }
        let reader = || TextReader::new(Endless).of_bytes(Some(1 << 40));
        let mut stream = TokenStream::new(&DOCS, reader());
        assert_eq!(stream.estimated_total(), None);
        stream.reach_end_if_short().unwrap();
        for position in (0..1_000_000).step_by(512) {
            assert_eq!(stream.reach(position + 512).unwrap(), position + 512);
            assert!(stream.at_hand().len() < 100_000 && stream.unread.as_ref().unwrap().text.len() < 300_000);
            stream.forget(position + 512);
        }
        assert_eq!(stream.total(), None);
        let (bytes, tokens) = ((1u64 << 40) as f64, stream.estimated_total().unwrap() as f64);
        let exact = DOCS.encode(&"word ".repeat(1000)).unwrap().len() as f64 / 5000.0 * bytes;
        assert!((tokens / exact - 1.0).abs() < 1e-3, "{tokens}, wanted {exact}");

        let cancel = Cancel::new();
        cancel.raise();
        let mut stream = TokenStream::new(&DOCS, reader()).cancelled_by(cancel);
        assert!(matches!(stream.reach(1), Err(Error::Cancelled)));
    }

    #[test]
    fn ids_of_no_row_are_refused_when_they_come() {
        let mut stream = stream("a b c", false);
        stream.require_below(10).unwrap();
        assert!(matches!(stream.reach(1), Err(Error::TokenOutOfRange { n_vocab: 10, .. })));
        let mut ids = TokenStream::of_ids(&[1, 2, 30]);
        assert!(ids.require_below(30).is_err());
        ids.require_below(31).unwrap();
        assert_eq!((ids.reach(2).unwrap(), ids.reach(9).unwrap(), ids.total()), (2, 3, Some(3)));
        ids.forget(2);
        assert_eq!((ids.get(2), ids.slice(2..3), ids.at_hand()), (30, &[30][..], &[30][..]));
    }

    #[test]
    fn an_endless_word_is_refused() {
        let text = "a".repeat(MAX_SEGMENT_BYTES + CHUNK);
        let mut stream = TokenStream::new(&DOCS, TextReader::new(text.as_bytes()));
        assert!(matches!(stream.reach(1), Err(Error::NoCut { at: 0 })));
    }

    /// More than is read at once.
    const CHUNK: usize = 100_000;
}
