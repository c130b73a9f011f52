//! What can go wrong with a model.

use crate::budget::Amount;
use pythia_gguf::OpenError;
use pythia_kernels::IsaError;
use pythia_task::ErrorKind;
use pythia_text::{Escaper, path as shown, quoted};
use std::fmt::{self, Write};
use std::io;
use std::path::{Path, PathBuf};

/// Why a model cannot be opened or run.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read.
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no well-formed GGUF, or its metadata describes no model that can run.
    Gguf {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: pythia_gguf::Error,
    },
    /// A tensor is missing, not wanted, or of another shape or type than the metadata asks for.
    Tensor {
        /// Which file.
        path: PathBuf,
        /// Which tensor.
        name: String,
        /// What was found and what was wanted.
        problem: String,
    },
    /// The CPU lacks the ISA that was asked for.
    Isa(IsaError),
    /// The device that the model runs on: it is not there, lacks memory, or failed.
    Device(String),
    /// A call asks for more than the context holds, or for a token that the model does not have.
    Request(String),
    /// The caller asked to stop.
    Cancelled,
}

impl Error {
    /// A copy of the weights takes so many bytes, and a limit leaves only so many.
    pub(crate) fn no_room_for_copy(bytes: u64, left: u64) -> Self {
        let (bytes, left) = (Amount(bytes), Amount(left));
        Self::Request(format!("a copy of the weights takes {bytes}, wanted at most {left}"))
    }

    /// A copy of the weights of the model at `path` takes so many bytes, and the system has only so many.
    pub(crate) fn no_memory_for_copy(path: &Path, bytes: u64, available: u64) -> Self {
        let (bytes, available) = (Amount(bytes), Amount(available));
        let path = shown(path);
        Self::Request(format!("{path}: a copy of the weights takes {bytes} of memory, and {available} are available"))
    }

    /// Where its cause lies.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } | Self::Device(_) => ErrorKind::Io,
            Self::Gguf { .. } | Self::Tensor { .. } => ErrorKind::Data,
            Self::Isa(_) | Self::Request(_) => ErrorKind::Usage,
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut Escaper::line(f);
        match self {
            Self::Io { path, source } => write!(f, "{}: {source}", shown(path)),
            Self::Gguf { path, source } => write!(f, "{}: {source}", shown(path)),
            Self::Tensor { path, name, problem } => {
                write!(f, "{}: tensor {}: {problem}", shown(path), quoted(name, '\'', 80))
            }
            Self::Isa(error) => write!(f, "{error}"),
            Self::Device(problem) | Self::Request(problem) => f.write_str(problem),
            Self::Cancelled => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Gguf { source, .. } => Some(source),
            Self::Isa(error) => Some(error),
            Self::Tensor { .. } | Self::Device(_) | Self::Request(_) | Self::Cancelled => None,
        }
    }
}

impl From<IsaError> for Error {
    fn from(error: IsaError) -> Self {
        Self::Isa(error)
    }
}

impl From<OpenError> for Error {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Io { path, source } => Self::Io { path, source },
            OpenError::Malformed { path, source } => Self::Gguf { path, source },
        }
    }
}
