//! The error type.

use pythia_task::ErrorKind;
use pythia_text::{Escaper, ReadError};
use std::fmt::{self, Write};
use std::io;
use std::path::{Path, PathBuf};

/// Number of problems that a message lists; the others are counted. A folder of another architecture has hundreds.
const LISTED_PROBLEMS: usize = 12;

/// Why a checkpoint could not be opened or read. Every message is one line.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a file.
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Its error.
        source: io::Error,
    },
    /// The path does not hold a checkpoint this crate reads: no weights, weights of another kind, a placeholder file.
    Layout {
        /// The file or folder.
        path: PathBuf,
        /// What was found and what was wanted.
        reason: String,
    },
    /// A weight file is damaged or not supported: its header, its directory, its pickle.
    Container {
        /// The weight file.
        path: PathBuf,
        /// Where in the file, in bytes from its start.
        offset: u64,
        /// What was found and what was wanted.
        reason: String,
    },
    /// One tensor of a weight file cannot be used.
    Tensor {
        /// The weight file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// What was found and what was wanted.
        reason: String,
    },
    /// A JSON file cannot be used: a config, an index of shards.
    Json {
        /// The file.
        path: PathBuf,
        /// The key it is about; empty where it is the whole file.
        key: String,
        /// What was found and what was wanted.
        reason: String,
    },
    /// The tensors are not those that the config requires.
    Mismatch {
        /// The checkpoint.
        path: PathBuf,
        /// One entry per tensor that is missing, unexpected or of another shape.
        problems: Vec<String>,
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

    /// The file or folder this is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::Io { path, .. }
            | Self::Layout { path, .. }
            | Self::Container { path, .. }
            | Self::Tensor { path, .. }
            | Self::Json { path, .. }
            | Self::Mismatch { path, .. } => path,
        }
    }

    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    /// For `map_err`: adds the file.
    pub(crate) fn read(path: &Path) -> impl FnOnce(ReadError) -> Self {
        |error| match error {
            ReadError::Io(source) => Self::io(path, source),
            ReadError::Refused(reason) => Self::layout(path, reason),
        }
    }

    pub(crate) fn layout(path: &Path, reason: impl Into<String>) -> Self {
        Self::Layout { path: path.to_owned(), reason: printable(reason.into()) }
    }

    pub(crate) fn container(path: &Path, offset: u64, reason: impl Into<String>) -> Self {
        Self::Container { path: path.to_owned(), offset, reason: printable(reason.into()) }
    }

    pub(crate) fn tensor(path: &Path, name: &str, reason: impl Into<String>) -> Self {
        Self::Tensor { path: path.to_owned(), name: name.to_owned(), reason: printable(reason.into()) }
    }

    pub(crate) fn json(path: &Path, key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Json { path: path.to_owned(), key: key.into(), reason: printable(reason.into()) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut Escaper::line(f);
        write!(f, "{}: ", pythia_text::path(self.path()))?;
        match self {
            Self::Io { source, .. } => write!(f, "{source}"),
            Self::Layout { reason, .. } => f.write_str(reason),
            Self::Container { offset, reason, .. } => write!(f, "byte {offset}: {reason}"),
            // Names come from the file, which may hold anything in any length.
            Self::Tensor { name, reason, .. } => write!(f, "tensor {}: {reason}", excerpt(name)),
            Self::Json { key, reason, .. } if key.is_empty() => f.write_str(reason),
            Self::Json { key, reason, .. } => write!(f, "{key}: {reason}"),
            Self::Mismatch { problems, .. } => {
                write!(f, "tensors do not fit the config: ")?;
                f.write_str(&problems[..problems.len().min(LISTED_PROBLEMS)].join("; "))?;
                match problems.len().saturating_sub(LISTED_PROBLEMS) {
                    0 => Ok(()),
                    more => write!(f, "; and {more} more"),
                }
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// `text` from a file for a message: in quotes, escaped, cut to 100 characters.
pub(crate) fn excerpt(text: &str) -> String {
    pythia_text::quoted(text, '"', 100)
}

/// A reason from a parser, which may quote long parts of the file.
fn printable(reason: String) -> String {
    pythia_text::cut_middle(&reason, 1500, 100)
}

/// A shape for a message. A hostile one may have a million dimensions.
pub(crate) struct Shown<'s>(pub(crate) &'s [usize]);

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_DIMS: usize = 6;
        match self.0.get(..SHOWN_DIMS) {
            Some(start) if self.0.len() > SHOWN_DIMS => {
                write!(f, "{start:?} and {} more dimensions", self.0.len() - SHOWN_DIMS)
            }
            _ => write!(f, "{:?}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_stays_one_bounded_line() {
        let problems = (0..500).map(|i| format!("tensor {i} is missing")).collect();
        let message = Error::Mismatch { path: "m".into(), problems }.to_string();
        assert!(message.ends_with("tensor 11 is missing; and 488 more"), "{message}");

        let named = Error::tensor(Path::new("m.safetensors"), "a\nb\u{1b}[2J", "dtype I8").to_string();
        assert_eq!(named, r#"m.safetensors: tensor "a\nb\u{1b}[2J": dtype I8"#);
        assert_eq!(excerpt(&"é".repeat(140)).chars().count(), 103);

        let quoted =
            Error::json(Path::new("c.json"), "", format!("unknown `\u{1b}[2J{}` at \"a\\n\" line 7", "x".repeat(9999)));
        let quoted = quoted.to_string();
        assert!(
            quoted.starts_with(r"c.json: unknown `\u{1b}[2Jxxx") && quoted.ends_with(r#"x` at "a\n" line 7"#),
            "{quoted}"
        );
        assert!(quoted.chars().count() < 1700);
    }
}
