//! Reads a text piece by piece, checks UTF-8, and finds a byte order mark and CR LF line ends.

mod json;
mod source;

pub use json::ids_of_json;
pub use source::Text;

use crate::Error;
use serde::Serialize;
use std::io::{self, Read};

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// The byte order mark that some editors write first.
const MARK: char = '\u{FEFF}';

/// The byte order mark and CR LF line ends of a text, which depend on the editor that saved it. A model reads them as
/// part of the text, and they can multiply a perplexity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TextForm {
    /// It begins with a byte order mark.
    pub byte_order_mark: bool,
    /// Lines that end in CR LF, in the part that was read.
    pub crlf_lines: u64,
    /// Whether both were left out: no mark, and LF for CR LF.
    pub left_out: bool,
}

/// Reads a text.
pub struct TextReader<'r> {
    input: Box<dyn Read + 'r>,
    /// Read but not yet returned: part of a character, or a CR before a possible LF.
    raw: Vec<u8>,
    /// Position of `raw` in the input.
    offset: u64,
    ended: bool,
    strips_newline: bool,
    n_bytes: Option<u64>,
    form: TextForm,
    watch: Box<dyn FnMut(&TextForm) + 'r>,
}

impl<'r> TextReader<'r> {
    /// A reader of `input`, as it is.
    pub fn new(input: impl Read + 'r) -> Self {
        Self {
            input: Box::new(input),
            raw: Vec::new(),
            offset: 0,
            ended: false,
            strips_newline: false,
            n_bytes: None,
            form: TextForm::default(),
            watch: Box::new(|_| ()),
        }
    }

    /// Leaves out a byte order mark, and the CR of lines that end in CR LF.
    #[must_use]
    pub fn as_on_unix(mut self, yes: bool) -> Self {
        self.form.left_out = yes;
        self
    }

    /// Leaves out one line end at the end of the text, which is that of the file.
    #[must_use]
    pub fn without_last_newline(mut self, yes: bool) -> Self {
        self.strips_newline = yes;
        self
    }

    /// Sets the length of the input: for progress, and because one that ends before was cut while it was read.
    #[must_use]
    pub fn of_bytes(mut self, n_bytes: Option<u64>) -> Self {
        self.n_bytes = n_bytes;
        self
    }

    /// Calls `watch` with all findings whenever there is a new one.
    #[must_use]
    pub fn watched(mut self, watch: impl FnMut(&TextForm) + 'r) -> Self {
        self.watch = Box::new(watch);
        self
    }

    /// Length of the input, if it was [set](Self::of_bytes).
    pub fn n_bytes(&self) -> Option<u64> {
        self.n_bytes
    }

    /// Bytes of the input returned so far.
    pub fn bytes_read(&self) -> u64 {
        self.offset
    }

    /// Appends the next piece of the text to `out`: at most some 64 kB, possibly nothing. False at the end.
    ///
    /// # Errors
    /// If the input cannot be read, is not UTF-8, or ends before its length was reached.
    pub fn read(&mut self, out: &mut String) -> Result<bool, Error> {
        if self.ended {
            return Ok(false);
        }
        let kept = self.raw.len();
        self.raw.resize(kept + CHUNK_BYTES, 0);
        let n = read(&mut *self.input, &mut self.raw[kept..]);
        self.raw.truncate(kept + *n.as_ref().unwrap_or(&0));
        self.ended = n.map_err(Error::Read)? == 0;
        let read = self.offset + self.raw.len() as u64;
        if let Some(wanted) = self.n_bytes.filter(|wanted| self.ended && read < *wanted) {
            return Err(Error::TextCut { read, wanted });
        }
        if self.offset == 0 && self.raw.len() < MARK.len_utf8() && !self.ended {
            return Ok(true);
        }
        let ready = self.ready()?;
        // All of it is UTF-8, so nothing is replaced here.
        let text = String::from_utf8_lossy(&self.raw[..ready]);
        let found = append(&text, self.offset == 0, self.form, out);
        self.raw.drain(..ready);
        self.offset += ready as u64;
        if found != self.form {
            self.form = found;
            (self.watch)(&self.form);
        }
        if self.ended && self.strips_newline && out.ends_with('\n') {
            out.pop();
        }
        Ok(!self.ended)
    }

    /// Length of the part of `raw` that can be returned: whole characters, and a CR only with the next character.
    fn ready(&self) -> Result<usize, Error> {
        let valid = match std::str::from_utf8(&self.raw) {
            Ok(text) => text.len(),
            Err(e) if e.error_len().is_none() && !self.ended => e.valid_up_to(),
            Err(e) => return Err(Error::NotUtf8 { at: self.offset + e.valid_up_to() as u64 }),
        };
        let held = !self.ended && self.raw[..valid].ends_with(b"\r");
        Ok(valid - usize::from(held))
    }

    /// The rest of the text at once.
    ///
    /// # Errors
    /// As [`read`](Self::read), and if it is longer than `max_bytes`.
    pub fn read_all(mut self, max_bytes: usize) -> Result<String, Error> {
        let mut text = String::new();
        while self.read(&mut text)? {
            if text.len() > max_bytes {
                return Err(Error::TextTooLong { max_bytes });
            }
        }
        Ok(text)
    }
}

/// Appends `text` to `out` in the requested form, and returns the findings.
fn append(text: &str, is_start: bool, form: TextForm, out: &mut String) -> TextForm {
    let mut found = form;
    let mut text = text;
    if let Some(rest) = text.strip_prefix(MARK).filter(|_| is_start) {
        found.byte_order_mark = true;
        text = if form.left_out { rest } else { text };
    }
    let mut at = 0;
    for (line_end, _) in text.match_indices("\r\n") {
        found.crlf_lines += 1;
        if form.left_out {
            out.push_str(&text[at..line_end]);
            at = line_end + 1;
        }
    }
    out.push_str(&text[at..]);
    found
}

fn read(input: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

impl std::fmt::Debug for TextReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextReader").field("offset", &self.offset).field("form", &self.form).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives at most so many bytes at a time.
    struct Slow<'b>(&'b [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(buffer.len());
            self.0.read(&mut buffer[..n])
        }
    }

    fn whole(bytes: &[u8], step: usize, unix: bool) -> (Result<String, Error>, TextForm) {
        let mut form = TextForm { left_out: unix, ..TextForm::default() };
        let reader = TextReader::new(Slow(bytes, step)).as_on_unix(unix).watched(|found| form = *found);
        let text = reader.read_all(usize::MAX);
        (text, form)
    }

    #[test]
    fn what_was_cut_while_it_was_read_is_no_whole_text() {
        for (n_bytes, whole) in [(None, true), (Some(0), true), (Some(7), true), (Some(8), false)] {
            let read = TextReader::new(&b"a text!"[..]).of_bytes(n_bytes).read_all(100);
            match read {
                Ok(text) => assert!(whole && text == "a text!"),
                Err(error) => assert!(!whole && matches!(error, Error::TextCut { read: 7, wanted: 8 }), "{error}"),
            }
        }
    }

    #[test]
    fn marks_and_line_ends_are_found_and_left_out_where_asked() {
        for step in [1, 2, 3, 5, 100_000] {
            let text = "\u{feff}a\r\nb\rc\n\r\n\u{feff}\r";
            let (read, form) = whole(text.as_bytes(), step, false);
            assert_eq!(read.unwrap(), text);
            assert_eq!(form, TextForm { byte_order_mark: true, crlf_lines: 2, left_out: false });
            let (read, form) = whole(text.as_bytes(), step, true);
            assert_eq!(read.unwrap(), "a\nb\rc\n\n\u{feff}\r");
            assert_eq!(form, TextForm { byte_order_mark: true, crlf_lines: 2, left_out: true });
            assert_eq!(whole(b"a\n", step, false).1, TextForm::default());
            assert_eq!(whole(b"", step, false).0.unwrap(), "");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_named_by_their_place() {
        for (bytes, at) in [(&b"abc\xff"[..], 3), (b"ab\xe2\x82", 2), (b"\xe2\x82\xac\xe2x", 3), (b"\xef\xbb", 0)] {
            for step in [1, 2, 100] {
                let error = whole(bytes, step, true).0.unwrap_err();
                assert!(matches!(error, Error::NotUtf8 { at: found } if found == at), "{error}");
            }
        }
        let late = [vec![b'a'; 3 * CHUNK_BYTES + 5], vec![0xc3]].concat();
        let error = whole(&late, usize::MAX, false).0.unwrap_err();
        assert!(matches!(error, Error::NotUtf8 { at } if at == 3 * CHUNK_BYTES as u64 + 5), "{error}");
    }

    #[test]
    fn one_last_newline_goes() {
        for (text, wanted) in [("a\n\n", "a\n"), ("a", "a"), ("\n", ""), ("a\r\n", "a\r"), ("", "")] {
            let read = TextReader::new(Slow(text.as_bytes(), 1)).without_last_newline(true).read_all(100);
            assert_eq!(read.unwrap(), wanted);
        }
        let error = TextReader::new(&[b'a'; 200][..]).read_all(100).unwrap_err();
        assert!(error.to_string().contains("100 bytes"), "{error}");
    }

    proptest! {
        #[test]
        fn pieces_add_up(text in "[\u{feff}a€😀\r\n]{0,40}", step in 1usize..9) {
            let (read, _) = whole(text.as_bytes(), step, false);
            prop_assert_eq!(read.unwrap(), text.clone());
            let (read, _) = whole(text.as_bytes(), step, true);
            prop_assert_eq!(read.unwrap(), text.strip_prefix(MARK).unwrap_or(&text).replace("\r\n", "\n"));
        }
    }
}
