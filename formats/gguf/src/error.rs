//! What can be wrong with a GGUF file.

use pythia_task::ErrorKind;
use pythia_text::Escaper;
use std::fmt::{self, Write};

/// A file, a key or a tensor that breaks a rule: where, what was found there and what was wanted.
///
/// Displays as one line whatever the file holds: names are escaped and cut. The name of the file is the caller's to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    place: Place,
    /// Bytes from the start of the file, where the rule was broken while reading.
    offset: Option<u64>,
    found: String,
    wanted: String,
}

/// What an [`Error`] is about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// The container itself: magic, version, counts.
    Header,
    /// A metadata key, by name.
    Key(String),
    /// A tensor, by name.
    Tensor(String),
}

impl Error {
    pub(crate) fn new(place: Place, found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self { place, offset: None, found: found.into(), wanted: wanted.into() }
    }

    pub(crate) fn header(found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self::new(Place::Header, found, wanted)
    }

    /// About the value of a metadata key.
    pub fn key(key: &str, found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self::new(Place::Key(key.to_owned()), found, wanted)
    }

    /// About a metadata key that is not there.
    pub fn missing_key(key: &str, wanted: impl Into<String>) -> Self {
        Self::key(key, "no such key", wanted)
    }

    /// About a tensor.
    pub fn tensor(name: &str, found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self::new(Place::Tensor(name.to_owned()), found, wanted)
    }

    /// Adds the offset, unless a more precise one is known.
    pub(crate) fn at(mut self, offset: u64) -> Self {
        self.offset.get_or_insert(offset);
        self
    }

    /// Names the key that was being read.
    pub(crate) fn in_key(self, key: &str) -> Self {
        Self { place: Place::Key(key.to_owned()), ..self }
    }

    /// Names the tensor whose entry was being read.
    pub(crate) fn in_tensor(self, name: &str) -> Self {
        Self { place: Place::Tensor(name.to_owned()), ..self }
    }

    /// The kind of error: the file's data.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Data
    }

    /// What the error is about.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Where in the file it was noticed, in bytes from its start; `None` for rules about meaning, not bytes.
    pub fn offset(&self) -> Option<u64> {
        self.offset
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut Escaper::line(f);
        match &self.place {
            Place::Header => f.write_str("header")?,
            Place::Key(key) => write!(f, "key {}", quoted(key))?,
            Place::Tensor(name) => write!(f, "tensor {}", quoted(name))?,
        }
        if let Some(offset) = self.offset {
            write!(f, " at byte {offset}")?;
        }
        write!(f, ": found {}, wanted {}", self.found, self.wanted)
    }
}

impl std::error::Error for Error {}

/// Text from a file for a message: in quotes, escaped, cut to 80 characters.
pub(crate) fn quoted(text: &str) -> String {
    pythia_text::quoted(text, '\'', 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_one_short_line_whatever_the_names() {
        let hostile = "a\nb\r\u{1b}[31m\u{2028}".repeat(1000);
        for error in [Error::key(&hostile, "x", "y").at(7), Error::tensor(&hostile, quoted(&hostile), "y")] {
            let line = error.to_string();
            assert!(!line.chars().any(char::is_control), "{line}");
            assert!(line.len() < 1200, "{}", line.len());
        }
    }

    #[test]
    fn keeps_the_most_precise_offset() {
        let error = Error::header("a", "b").at(12).at(3);
        assert_eq!(error.to_string(), "header at byte 12: found a, wanted b");
    }
}
