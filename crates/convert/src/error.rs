//! What can go wrong between a checkpoint and a GGUF file.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a conversion stopped. Every message is one line.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The request cannot be carried out on any checkpoint, or not on this one: a rule that matches nothing, an output
    /// that exists.
    Request(String),
    /// The checkpoint cannot be read.
    Checkpoint(pythia_checkpoint::Error),
    /// The result cannot be expressed as GGUF.
    Gguf(pythia_gguf::Error),
    /// A tensor of the checkpoint cannot be converted.
    Tensor {
        /// Its name in the checkpoint.
        name: String,
        /// What was found and what was wanted.
        reason: String,
    },
    /// The operating system refused an output file.
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done: `create`, `write`, `rename`.
        action: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// The caller raised the cancel flag. Nothing was left behind.
    Cancelled,
}

/// Whose fault an [`Error`] is; the command line maps it to an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request.
    Usage,
    /// The checkpoint.
    Data,
    /// The operating system.
    Io,
    /// Nobody's: it was cancelled.
    Cancelled,
}

impl Error {
    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Request(_) => ErrorKind::Usage,
            Self::Checkpoint(e) if e.is_io() => ErrorKind::Io,
            Self::Checkpoint(_) | Self::Gguf(_) | Self::Tensor { .. } => ErrorKind::Data,
            Self::Io { .. } => ErrorKind::Io,
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }

    pub(crate) fn tensor(name: &str, reason: impl Into<String>) -> Self {
        Self::Tensor { name: name.to_owned(), reason: reason.into() }
    }

    /// For `map_err`: what was being done to which path.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, action, source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(message) => f.write_str(message),
            Self::Checkpoint(e) => e.fmt(f),
            Self::Gguf(e) => e.fmt(f),
            // Names come from the file: Debug keeps control characters and newlines out of the terminal.
            Self::Tensor { name, reason } => write!(f, "tensor {name:?}: {reason}"),
            Self::Io { path, action, source } => write!(f, "{}: cannot {action}: {source}", path.display()),
            Self::Cancelled => f.write_str("interrupted, nothing was written"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Checkpoint(e) => Some(e),
            Self::Gguf(e) => Some(e),
            Self::Io { source, .. } => Some(source),
            Self::Request(_) | Self::Tensor { .. } | Self::Cancelled => None,
        }
    }
}

impl From<pythia_checkpoint::Error> for Error {
    fn from(e: pythia_checkpoint::Error) -> Self {
        Self::Checkpoint(e)
    }
}

impl From<pythia_gguf::Error> for Error {
    fn from(e: pythia_gguf::Error) -> Self {
        Self::Gguf(e)
    }
}
