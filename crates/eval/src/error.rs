//! The error type.

use pythia_task::ErrorKind;
use pythia_text::{Escaper, ReadError, path as shown};
use std::fmt::{self, Write};
use std::io;
use std::path::{Path, PathBuf};

/// Why tasks could not be evaluated. Every message is one line.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The request is invalid.
    Request(String),
    /// A dataset or a file is not what it should be.
    Data {
        /// File, task or row.
        what: String,
        /// What was found and what was wanted.
        problem: String,
    },
    /// The operating system refused a file.
    Io {
        /// Which.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A dataset could not be taken from the Hub.
    #[cfg(feature = "hub")]
    Hub(pythia_hub::Error),
    /// A model cannot be run.
    Run(pythia_runtime::Error),
    /// The evaluation was cancelled.
    Cancelled,
}

impl Error {
    /// The kind of error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Request(_) => ErrorKind::Usage,
            Self::Data { .. } => ErrorKind::Data,
            Self::Io { .. } => ErrorKind::Io,
            #[cfg(feature = "hub")]
            Self::Hub(error) => error.kind(),
            Self::Run(error) => error.kind(),
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }

    pub(crate) fn data(what: impl fmt::Display, problem: impl Into<String>) -> Self {
        Self::Data { what: what.to_string(), problem: problem.into() }
    }

    /// For `map_err`: adds the path.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// For `map_err`: adds the path.
    pub(crate) fn read(path: &Path) -> impl FnOnce(ReadError) -> Self {
        |error| match error {
            ReadError::Io(source) => Self::io(path)(source),
            ReadError::Refused(reason) => Self::data(shown(path), reason),
        }
    }
}

/// One line, escaped.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = Escaper::line(f);
        match self {
            Self::Request(message) => line.write_str(message),
            Self::Data { what, problem } => write!(line, "{what}: {problem}"),
            Self::Io { path, source } => write!(line, "{}: {source}", shown(path)),
            #[cfg(feature = "hub")]
            Self::Hub(error) => write!(line, "{error}"),
            Self::Run(error) => write!(line, "{error}"),
            Self::Cancelled => line.write_str("interrupted"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            #[cfg(feature = "hub")]
            Self::Hub(error) => Some(error),
            Self::Run(error) => Some(error),
            Self::Request(_) | Self::Data { .. } | Self::Cancelled => None,
        }
    }
}

#[cfg(feature = "hub")]
impl From<pythia_hub::Error> for Error {
    fn from(error: pythia_hub::Error) -> Self {
        match error {
            pythia_hub::Error::Cancelled => Self::Cancelled,
            error => Self::Hub(error),
        }
    }
}

impl From<pythia_runtime::Error> for Error {
    fn from(error: pythia_runtime::Error) -> Self {
        if error.kind() == ErrorKind::Cancelled { Self::Cancelled } else { Self::Run(error) }
    }
}
