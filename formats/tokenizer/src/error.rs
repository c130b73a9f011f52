//! The error type.

use crate::MAX_SEGMENT_BYTES;
use pythia_task::ErrorKind;
use pythia_text::{Escaper, ReadError, cut_middle};
use std::fmt::{self, Write};
use std::io;
use std::path::{Path, PathBuf};

/// Why a tokenizer cannot be used, or a text not be tokenized. Every message is one line.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A metadata value of a GGUF file is missing or malformed.
    Gguf(pythia_gguf::Error),
    /// The tokenizer that a GGUF file holds cannot be used.
    Key {
        /// The metadata key at fault.
        key: &'static str,
        /// What is wrong with its value.
        problem: String,
    },
    /// The operating system refused a file.
    Io {
        /// The file.
        path: PathBuf,
        /// Its error.
        source: io::Error,
    },
    /// A file of a Hugging Face folder cannot be used.
    File {
        /// The file.
        path: PathBuf,
        /// The key it is about; empty where it is the whole file.
        key: String,
        /// What was found and what was wanted.
        reason: String,
    },
    /// A part of the text cannot be cut and is too long to be tokenized at once.
    NoCut {
        /// Bytes before it.
        at: u64,
    },
}

impl Error {
    /// The kind of error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } => ErrorKind::Io,
            _ => ErrorKind::Data,
        }
    }

    pub(crate) fn key(key: &'static str, problem: impl AsRef<str>) -> Self {
        // A long one is cut: some messages quote the file as it is.
        Self::Key { key, problem: cut_middle(problem.as_ref(), 300, 100) }
    }

    pub(crate) fn file(path: &Path, key: impl Into<String>, reason: impl AsRef<str>) -> Self {
        Self::File { path: path.to_owned(), key: key.into(), reason: cut_middle(reason.as_ref(), 1500, 100) }
    }

    /// For `map_err`: adds the file.
    pub(crate) fn read(path: &Path) -> impl FnOnce(ReadError) -> Self {
        |error| match error {
            ReadError::Io(source) => Self::Io { path: path.to_owned(), source },
            ReadError::Refused(reason) => Self::file(path, "", reason),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut Escaper::line(f);
        match self {
            Self::Gguf(e) => write!(f, "{e}"),
            Self::Key { key, problem } => write!(f, "{key}: {problem}"),
            Self::Io { path, source } => write!(f, "{}: {source}", pythia_text::path(path)),
            Self::File { path, key, reason } => {
                write!(f, "{}: ", pythia_text::path(path))?;
                if !key.is_empty() {
                    write!(f, "{key}: ")?;
                }
                f.write_str(reason)
            }
            Self::NoCut { at } => {
                let limit = MAX_SEGMENT_BYTES >> 20;
                write!(f, "one word of more than {limit} MiB from byte {at} on, wanted spaces or line ends")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Gguf(e) => Some(e),
            Self::Io { source, .. } => Some(source),
            Self::Key { .. } | Self::File { .. } | Self::NoCut { .. } => None,
        }
    }
}

impl From<pythia_gguf::Error> for Error {
    fn from(e: pythia_gguf::Error) -> Self {
        Self::Gguf(e)
    }
}

/// Text from a file for a message: in quotes, escaped, cut to 100 characters.
pub(crate) fn excerpt(text: &str) -> String {
    pythia_text::quoted(text, '"', 100)
}

/// Text from a GGUF file for a message: in quotes, escaped, cut to 80 characters.
pub(crate) fn quoted(text: &str) -> String {
    pythia_text::quoted(text, '\'', 80)
}

/// Messages from elsewhere can have several lines; ours have one.
pub(crate) fn one_line(e: &dyn std::error::Error) -> String {
    e.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
