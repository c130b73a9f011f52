//! A text with its origin: memory, a file, or a stream.

use super::{TextForm, TextReader};
use crate::{Error, TokenStream, Tokenizer};
use pythia_task::Cancel;
use pythia_text::ReadError;
use sha2::{Digest, Sha256};
use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

/// A text, which may be too long for memory. It can be read any number of times unless it is a stream.
pub struct Text {
    origin: Origin,
    /// Its name in messages.
    place: String,
    as_on_unix: bool,
    strips_newline: bool,
    form: Cell<TextForm>,
    watch: Box<dyn Fn(&TextForm) + Send>,
}

enum Origin {
    Literal(String),
    File(File),
    /// Can be read once: a pipe, or a terminal.
    Stream(RefCell<Option<Box<dyn Read + Send>>>),
}

impl Text {
    /// A text in memory, called `place` in messages. A line end at its end is part of it.
    pub fn literal(text: &str, place: &str) -> Self {
        Self { strips_newline: false, ..Self::new(Origin::Literal(text.to_owned()), place.to_owned()) }
    }

    /// The file at `path`, without the line end at its end. It is opened here and read later.
    ///
    /// # Errors
    /// If it cannot be opened, or is not a regular file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let place = path.display().to_string();
        match pythia_text::open_regular(path) {
            Ok((file, _)) => Ok(Self::file(file, &place)),
            Err(ReadError::Io(error)) => Err(Error::Read(error).at(&place)),
            Err(ReadError::Refused(reason)) => Err(Error::Read(io::Error::other(reason)).at(&place)),
        }
    }

    /// An open file, called `place` in messages, without the line end at its end.
    pub fn file(file: File, place: &str) -> Self {
        Self::new(Origin::File(file), place.to_owned())
    }

    /// A stream, which can be read once, called `place` in messages, without the line end at its end.
    pub fn stream(input: impl Read + Send + 'static, place: &str) -> Self {
        Self::new(Origin::Stream(RefCell::new(Some(Box::new(input)))), place.to_owned())
    }

    fn new(origin: Origin, place: String) -> Self {
        let (form, watch) = (Cell::default(), Box::new(|_: &TextForm| ()));
        Self { origin, place, as_on_unix: false, strips_newline: true, form, watch }
    }

    /// Leaves out a byte order mark, and the CR of lines that end in CR LF.
    #[must_use]
    pub fn as_on_unix(self, yes: bool) -> Self {
        let form = TextForm { left_out: yes, ..self.form.get() };
        Self { as_on_unix: yes, form: Cell::new(form), ..self }
    }

    /// Keeps the line end at its end.
    #[must_use]
    pub fn with_last_newline(self) -> Self {
        Self { strips_newline: false, ..self }
    }

    /// Calls `watch` when a byte order mark or a CR LF line end is found, once for each even if the text is read
    /// several times. The form contains only the new finding.
    #[must_use]
    pub fn watched(self, watch: impl Fn(&TextForm) + Send + 'static) -> Self {
        Self { watch: Box::new(watch), ..self }
    }

    /// The same text in a form that can be read several times: a stream is copied to an anonymous temporary file.
    ///
    /// # Errors
    /// If the stream cannot be read or the copy cannot be written.
    pub fn rereadable(self) -> Result<Self, Error> {
        let Origin::Stream(stream) = &self.origin else { return Ok(self) };
        let Some(mut stream) = stream.take() else { return Ok(self) };
        let mut copy = || -> io::Result<File> {
            let mut file = tempfile::tempfile()?;
            io::copy(&mut stream, &mut file)?;
            Ok(file)
        };
        match copy() {
            Ok(file) => Ok(Self { origin: Origin::File(file), ..self }),
            Err(e) => Err(Error::Read(e).at("copy to a temporary file").at(&self)),
        }
    }

    /// A reader from its start.
    ///
    /// # Errors
    /// If the file cannot be read, or a stream was read before.
    pub fn reader(&self) -> Result<TextReader<'_>, Error> {
        let failed = |error: io::Error| Error::Read(error).at(self);
        let (reader, n_bytes) = match &self.origin {
            Origin::Literal(text) => (TextReader::new(text.as_bytes()), Some(text.len() as u64)),
            Origin::File(file) => {
                let mut file = file;
                file.rewind().map_err(failed)?;
                (TextReader::new(file), Some(file.metadata().map_err(failed)?.len()))
            }
            Origin::Stream(stream) => (TextReader::new(stream.take().ok_or_else(|| failed(read_before()))?), None),
        };
        let reader = reader.of_bytes(n_bytes).without_last_newline(self.strips_newline);
        Ok(reader.as_on_unix(self.as_on_unix).watched(|form| self.found(form)))
    }

    /// Its tokens, from its start, until `cancel` is raised.
    ///
    /// # Errors
    /// As [`reader`](Self::reader).
    pub fn tokens<'t>(&'t self, tokenizer: &'t Tokenizer, cancel: &Cancel) -> Result<TokenStream<'t>, Error> {
        Ok(TokenStream::new(tokenizer, self.reader()?).cancelled_by(cancel.clone()))
    }

    /// SHA-256 of its unmodified bytes, hexadecimal. Must not be called while a reader is in use.
    ///
    /// # Errors
    /// If it is a stream, if it cannot be read, or if `cancel` is raised.
    pub fn sha256(&self, cancel: &Cancel) -> Result<String, Error> {
        let failed = |error: io::Error| Error::Read(error).at(self);
        let mut input: Box<dyn Read + '_> = match &self.origin {
            Origin::Literal(text) => Box::new(text.as_bytes()),
            Origin::File(file) => {
                let mut file = file;
                file.rewind().map_err(failed)?;
                Box::new(file)
            }
            Origin::Stream(_) => return Err(failed(read_before())),
        };
        let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
        loop {
            let n = input.read(&mut buffer).map_err(failed)?;
            if cancel.is_raised() {
                return Err(Error::Cancelled);
            }
            if n == 0 {
                return Ok(pythia_text::hex(&hasher.finalize()));
            }
            hasher.update(&buffer[..n]);
        }
    }

    /// The byte order mark and line ends found so far, and whether they were left out.
    pub fn form(&self) -> TextForm {
        self.form.get()
    }

    fn found(&self, form: &TextForm) {
        let known = self.form.replace(*form);
        let new = TextForm {
            byte_order_mark: form.byte_order_mark && !known.byte_order_mark,
            crlf_lines: if known.crlf_lines == 0 { form.crlf_lines } else { 0 },
            left_out: form.left_out,
        };
        if new.byte_order_mark || new.crlf_lines > 0 {
            (self.watch)(&new);
        }
    }

    /// Its name without the folder, for reports.
    pub fn name(&self) -> String {
        let name = match &self.origin {
            Origin::File(_) => Path::new(&self.place).file_name().map(OsStr::to_string_lossy),
            _ => None,
        };
        name.map_or_else(|| self.place.clone(), |name| name.into_owned())
    }
}

/// Its name in messages.
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

fn read_before() -> io::Error {
    io::Error::other("can only be read once")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn read(text: &Text) -> String {
        text.reader().unwrap().read_all(usize::MAX).unwrap()
    }

    #[test]
    fn files_are_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text");
        fs::write(&path, "abc\n\n").unwrap();
        let text = Text::open(&path).unwrap();
        assert_eq!((read(&text), read(&text)), ("abc\n".to_owned(), "abc\n".to_owned()));
        assert_eq!(text.name(), "text");
        let digest = "783701f7599830824fa73488f80eb79894f6f14203264b6a3ac3f0a14012c25f";
        assert_eq!(text.sha256(&Cancel::new()).unwrap(), digest);
        assert_eq!(read(&text.with_last_newline()), "abc\n\n");
        let literal = Text::literal("abc\n", "--prompt");
        assert_eq!((read(&literal), literal.to_string()), ("abc\n".to_owned(), "--prompt".to_owned()));
        let none = Text::open(&dir.path().join("none")).err().unwrap();
        assert!(none.to_string().contains("none: "), "{none}");
    }

    #[test]
    fn streams_are_read_once_or_copied() {
        let stream = |text: &'static str| Text::stream(text.as_bytes(), "pipe").as_on_unix(true);
        let once = stream("a\r\n");
        assert_eq!((read(&once), once.name()), ("a".to_owned(), "pipe".to_owned()));
        assert_eq!(once.form(), TextForm { byte_order_mark: false, crlf_lines: 1, left_out: true });
        assert!(once.reader().err().unwrap().to_string().contains("only be read once"));
        let again = stream("a\r\nb").rereadable().unwrap();
        assert_eq!((read(&again), read(&again)), ("a\nb".to_owned(), "a\nb".to_owned()));
    }
}
