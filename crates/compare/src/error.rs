//! The error type.

use pythia_task::ErrorKind;
use pythia_text::{Escaper, path as shown};
use std::fmt::{self, Write};
use std::io;
use std::path::PathBuf;

/// Why a comparison stopped. Every message is one line; settings are named as the options of `pythia-quant compare`.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The request is invalid.
    Request(String),
    /// A file cannot be compared.
    File {
        /// Which.
        path: PathBuf,
        /// What was found and what was wanted.
        problem: String,
    },
    /// The metadata of a file are invalid.
    Gguf {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: pythia_gguf::Error,
    },
    /// The operating system refused a file.
    Io {
        /// Which.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A folder cannot be used as a cache.
    Cache {
        /// The folder, or the file in it that is at fault.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A state or a report could not be written as JSON.
    Json(serde_json::Error),
    /// A level cannot be made, or an output cannot be written.
    Convert(pythia_convert::Error),
    /// A model cannot be opened or run.
    Model(pythia_model::Error),
    /// A text cannot be scored.
    Score(pythia_runtime::Error),
    /// A task cannot be evaluated.
    Task(pythia_eval::Error),
    /// The process that measured a file reported this, or ended without a result.
    Worker {
        /// The kind of error.
        kind: ErrorKind,
        /// What it said.
        message: String,
    },
    /// The comparison was cancelled.
    Cancelled,
}

impl Error {
    /// The kind of error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Request(_) => ErrorKind::Usage,
            Self::File { .. } | Self::Gguf { .. } => ErrorKind::Data,
            Self::Io { .. } | Self::Cache { .. } | Self::Json(_) => ErrorKind::Io,
            Self::Convert(error) => error.kind(),
            Self::Model(error) => error.kind(),
            Self::Score(error) => error.kind(),
            Self::Task(error) => error.kind(),
            Self::Worker { kind, .. } => *kind,
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut Escaper::line(f);
        match self {
            Self::Request(message) | Self::Worker { message, .. } => f.write_str(message),
            Self::File { path, problem } => write!(f, "{}: {problem}", shown(path)),
            Self::Gguf { path, source } => write!(f, "{}: {source}", shown(path)),
            Self::Io { path, source } => write!(f, "{}: {source}", shown(path)),
            Self::Cache { path, problem } => write!(f, "{}: {problem}", shown(path)),
            Self::Json(error) => write!(f, "{error}"),
            Self::Convert(error) => write!(f, "{error}"),
            Self::Model(error) => write!(f, "{error}"),
            Self::Score(error) => write!(f, "{error}"),
            Self::Task(error) => write!(f, "{error}"),
            Self::Cancelled => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Gguf { source, .. } => Some(source),
            Self::Io { source, .. } => Some(source),
            Self::Json(error) => Some(error),
            Self::Convert(error) => Some(error),
            Self::Model(error) => Some(error),
            Self::Score(error) => Some(error),
            Self::Task(error) => Some(error),
            Self::Request(_) | Self::File { .. } | Self::Cache { .. } | Self::Worker { .. } | Self::Cancelled => None,
        }
    }
}

macro_rules! from {
    ($($variant:ident($error:ty)),*) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                // What a library says of its own part is not true of the whole.
                if error.kind() == ErrorKind::Cancelled { Self::Cancelled } else { Self::$variant(error) }
            }
        })*
    };
}

from!(
    Convert(pythia_convert::Error),
    Model(pythia_model::Error),
    Score(pythia_runtime::Error),
    Task(pythia_eval::Error)
);

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

impl From<pythia_gguf::OpenError> for Error {
    fn from(error: pythia_gguf::OpenError) -> Self {
        pythia_convert::Error::from(error).into()
    }
}
