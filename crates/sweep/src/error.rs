//! The error type.

use pythia_task::ErrorKind;
use pythia_text::{Line, path as shown};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a sweep cannot be planned, run or read. Every message is one line.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The request is invalid.
    Request(String),
    /// A file has wrong contents.
    Data(String),
    /// The operating system refused a file.
    Io {
        /// Which.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The Hub could not be asked.
    #[cfg(feature = "hub")]
    Hub(Box<pythia_hub::Error>),
    /// An output cannot be written.
    Output(Box<pythia_convert::Error>),
    /// A checkpoint cannot be read.
    Checkpoint(Box<pythia_checkpoint::Error>),
    /// A text cannot be read.
    Text(Box<pythia_runtime::Error>),
    /// It was cancelled.
    Cancelled,
}

impl Error {
    /// The kind of error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Request(_) => ErrorKind::Usage,
            Self::Data(_) => ErrorKind::Data,
            Self::Io { .. } => ErrorKind::Io,
            #[cfg(feature = "hub")]
            Self::Hub(error) => error.kind(),
            Self::Output(error) => error.kind(),
            Self::Checkpoint(error) => error.kind(),
            Self::Text(error) => error.kind(),
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }

    /// Whether the same command may get further when there is space on the disk.
    pub fn may_pass(&self) -> bool {
        let mut causes = std::iter::successors(Some(self as &(dyn std::error::Error + 'static)), |e| e.source());
        causes.any(|cause| {
            let system = cause.downcast_ref::<io::Error>().map(io::Error::kind);
            matches!(system, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
        })
    }

    /// For `map_err`: the system refused `path`.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(message) | Self::Data(message) => Line(message).fmt(f),
            Self::Io { path, source } => write!(f, "{}: {}", shown(path), Line(source)),
            #[cfg(feature = "hub")]
            Self::Hub(error) => error.fmt(f),
            Self::Output(error) => error.fmt(f),
            Self::Checkpoint(error) => error.fmt(f),
            Self::Text(error) => error.fmt(f),
            Self::Cancelled => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            #[cfg(feature = "hub")]
            Self::Hub(error) => Some(&**error),
            Self::Output(error) => Some(&**error),
            Self::Checkpoint(error) => Some(&**error),
            Self::Text(error) => Some(&**error),
            _ => None,
        }
    }
}

macro_rules! from_libraries {
    ($($error:ty => $variant:ident),*) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                if error.kind() == ErrorKind::Cancelled { Self::Cancelled } else { Self::$variant(error.into()) }
            }
        })*
    };
}

from_libraries!(
    pythia_convert::Error => Output,
    pythia_checkpoint::Error => Checkpoint,
    pythia_runtime::Error => Text
);
#[cfg(feature = "hub")]
from_libraries!(pythia_hub::Error => Hub);
