//! The error type of calibrations by gradients.

use pythia_task::ErrorKind;
use pythia_text::{Escaper, path as shown};
use std::fmt::{self, Write};
use std::path::PathBuf;

/// Why a calibration stopped. Every message is one line.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A setting is out of its range.
    Setting {
        /// Its name.
        name: &'static str,
        /// What was found and what was wanted.
        problem: String,
    },
    /// The processor cannot be used as the environment wants it.
    Cpu(String),
    /// The model has no tokenizer, or a faulty one.
    Tokenizer {
        /// The model.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The text cannot be used.
    Text(pythia_runtime::Error),
    /// The model cannot be read, or a file cannot be written.
    Convert(pythia_convert::Error),
    /// The model is not one that can be computed.
    Model(pythia_gguf::Error),
    /// A calibration file is damaged, or is not one.
    File {
        /// Where it is.
        path: PathBuf,
        /// Its fault.
        source: pythia_gguf::Error,
    },
    /// The state of a run that was begun with another model, text or setting.
    OtherRun {
        /// Where it is.
        path: PathBuf,
        /// The metadata key in which they differ.
        key: &'static str,
    },
    /// The system refused a file.
    Io {
        /// Where it is.
        path: PathBuf,
        /// The operation: `open`.
        action: &'static str,
        /// Its error.
        source: std::io::Error,
    },
    /// An activation or a gradient is infinite or NaN.
    NotFinite {
        /// The matrix whose metric it would enter, or `logits`.
        place: String,
    },
    /// The caller asked to stop.
    Cancelled,
}

impl Error {
    /// The kind of error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Setting { .. } | Self::Cpu(_) | Self::OtherRun { .. } => ErrorKind::Usage,
            Self::Text(e) => e.kind(),
            Self::Convert(e) => e.kind(),
            Self::Model(_) | Self::Tokenizer { .. } | Self::File { .. } | Self::NotFinite { .. } => ErrorKind::Data,
            Self::Io { .. } => ErrorKind::Io,
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut Escaper::line(f);
        match self {
            Self::Setting { name, problem } => write!(f, "{name}: {problem}"),
            Self::Cpu(problem) => f.write_str(problem),
            Self::Tokenizer { path, problem } => write!(f, "{}: {problem}", shown(path)),
            Self::Text(e) => write!(f, "{e}"),
            Self::Convert(e) => write!(f, "{e}"),
            Self::Model(e) => write!(f, "{e}"),
            Self::File { path, source } => write!(f, "{}: {source}", shown(path)),
            Self::Io { path, action, source } => write!(f, "{}: cannot {action}: {source}", shown(path)),
            Self::OtherRun { path, key } => write!(
                f,
                "{}: the state of a run that was begun with another {key}; --force begins anew, removing it too",
                shown(path)
            ),
            Self::NotFinite { place } => {
                write!(f, "{place}: infinite or NaN: the weights are damaged or overflow")
            }
            Self::Cancelled => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Text(e) => Some(e),
            Self::Convert(e) => Some(e),
            Self::Model(source) | Self::File { source, .. } => Some(source),
            Self::Io { source, .. } => Some(source),
            Self::Setting { .. }
            | Self::Cpu(_)
            | Self::Tokenizer { .. }
            | Self::OtherRun { .. }
            | Self::NotFinite { .. }
            | Self::Cancelled => None,
        }
    }
}

impl From<pythia_runtime::Error> for Error {
    fn from(e: pythia_runtime::Error) -> Self {
        match e {
            pythia_runtime::Error::Cancelled => Self::Cancelled,
            e => Self::Text(e),
        }
    }
}

impl From<pythia_convert::Error> for Error {
    fn from(e: pythia_convert::Error) -> Self {
        match e {
            pythia_convert::Error::Cancelled => Self::Cancelled,
            e => Self::Convert(e),
        }
    }
}
