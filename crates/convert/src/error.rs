//! The error type.

use pythia_task::ErrorKind;
use pythia_text::{Escaper, path as shown, quoted};
use std::fmt::{self, Write};
use std::io;
use std::path::{Path, PathBuf};

/// Why a conversion stopped. Every message is one line.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The request is invalid, for any source or for this one: a rule that matches nothing.
    Request(String),
    /// An output is there already, and may not be replaced.
    Exists(PathBuf),
    /// The checkpoint cannot be read.
    Checkpoint(pythia_checkpoint::Error),
    /// The tokenizer beside a checkpoint cannot be used.
    Tokenizer(pythia_tokenizer::Error),
    /// A GGUF file to read, a model or an importance matrix, is damaged or does not fit.
    Input {
        /// The file.
        path: PathBuf,
        /// Its fault.
        source: pythia_gguf::Error,
    },
    /// The result cannot be expressed as GGUF.
    Gguf(pythia_gguf::Error),
    /// A tensor of the source cannot be converted.
    Tensor {
        /// Its name in the source.
        name: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// A tensor holds values that cannot be encoded: infinite, not numbers, or too large.
    Values {
        /// Its name in the source.
        name: String,
        /// What was found.
        reason: String,
    },
    /// The request's [`Quantizer`](crate::Quantizer) stopped.
    Quantizer {
        /// The kind of its error.
        kind: ErrorKind,
        /// Its error, one line when displayed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A path that is not what was wanted.
    Unusable {
        /// The path.
        path: PathBuf,
        /// The kind of error.
        kind: ErrorKind,
        /// What was found and what was wanted.
        problem: String,
        /// What the system said, if it is that.
        source: Option<io::Error>,
    },
    /// The operating system refused a file.
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operation: `open`, `write`, `rename to`.
        action: &'static str,
        /// Its error.
        source: io::Error,
    },
    /// The caller raised the cancel flag. Nothing was left behind.
    Cancelled,
}

impl Error {
    /// The kind of error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Request(_) | Self::Exists(_) => ErrorKind::Usage,
            Self::Checkpoint(e) => e.kind(),
            Self::Tokenizer(e) => e.kind(),
            Self::Input { .. } | Self::Gguf(_) | Self::Tensor { .. } | Self::Values { .. } => ErrorKind::Data,
            Self::Quantizer { kind, .. } | Self::Unusable { kind, .. } => *kind,
            Self::Io { .. } => ErrorKind::Io,
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }

    /// An error of a [`Quantizer`](crate::Quantizer).
    pub fn quantizer(kind: ErrorKind, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        match kind {
            ErrorKind::Cancelled => Self::Cancelled,
            _ => Self::Quantizer { kind, source: source.into() },
        }
    }

    pub(crate) fn unusable(path: &Path, kind: ErrorKind, problem: impl fmt::Display) -> Self {
        Self::Unusable { path: path.to_owned(), kind, problem: problem.to_string(), source: None }
    }

    pub(crate) fn tensor(name: &str, reason: impl Into<String>) -> Self {
        Self::Tensor { name: name.to_owned(), reason: reason.into() }
    }

    /// For `map_err`: adds the operation and the path.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, action, source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut Escaper::line(f);
        match self {
            Self::Request(message) => f.write_str(message),
            Self::Exists(path) => write!(f, "{}: already exists (--force replaces it)", shown(path)),
            Self::Checkpoint(e) => write!(f, "{e}"),
            Self::Tokenizer(e) => write!(f, "{e}"),
            Self::Input { path, source } => write!(f, "{}: {source}", shown(path)),
            Self::Gguf(e) => write!(f, "{e}"),
            Self::Tensor { name, reason } | Self::Values { name, reason } => {
                write!(f, "tensor {}: {reason}", quoted(name, '"', 80))
            }
            Self::Quantizer { source, .. } => write!(f, "{source}"),
            Self::Unusable { path, problem, .. } => write!(f, "{}: {problem}", shown(path)),
            Self::Io { path, action, source } => write!(f, "{}: cannot {action}: {source}", shown(path)),
            Self::Cancelled => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Checkpoint(e) => Some(e),
            Self::Tokenizer(e) => Some(e),
            Self::Input { source, .. } => Some(source),
            Self::Gguf(e) => Some(e),
            Self::Quantizer { source, .. } => Some(&**source),
            Self::Io { source, .. } => Some(source),
            Self::Unusable { source, .. } => source.as_ref().map(|error| error as _),
            Self::Request(_) | Self::Exists(_) | Self::Tensor { .. } | Self::Values { .. } | Self::Cancelled => None,
        }
    }
}

impl From<pythia_checkpoint::Error> for Error {
    fn from(e: pythia_checkpoint::Error) -> Self {
        Self::Checkpoint(e)
    }
}

impl From<pythia_tokenizer::Error> for Error {
    fn from(e: pythia_tokenizer::Error) -> Self {
        Self::Tokenizer(e)
    }
}

impl From<pythia_gguf::Error> for Error {
    fn from(e: pythia_gguf::Error) -> Self {
        Self::Gguf(e)
    }
}

impl From<pythia_gguf::OpenError> for Error {
    fn from(e: pythia_gguf::OpenError) -> Self {
        match e {
            pythia_gguf::OpenError::Io { path, source } => Self::Io { path, action: "open", source },
            pythia_gguf::OpenError::Malformed { path, source } => Self::Input { path, source },
        }
    }
}
