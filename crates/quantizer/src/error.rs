//! The error type.

use pythia_kernels::IsaError;
use pythia_task::ErrorKind;
use std::fmt;

/// Why a model could not be rounded. Every message is one line.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The model or its calibration cannot be used.
    Calibrate(Box<pythia_calibrate::Error>),
    /// The result cannot be stored.
    Convert(Box<pythia_convert::Error>),
    /// This CPU lacks the instruction set that was asked for.
    Isa(IsaError),
    /// Moments of the inputs of this matrix are not finite.
    Metric(String),
    /// The calibration is one of another model.
    Mismatch(String),
    /// A budget is too small.
    Budget(String),
    /// The caller asked to stop.
    Cancelled,
}

impl Error {
    /// The kind of error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Calibrate(e) => e.kind(),
            Self::Convert(e) => e.kind(),
            Self::Metric(_) | Self::Mismatch(_) => ErrorKind::Data,
            Self::Budget(_) | Self::Isa(_) => ErrorKind::Usage,
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Calibrate(e) => write!(f, "{e}"),
            Self::Convert(e) => write!(f, "{e}"),
            Self::Isa(e) => write!(f, "{e}"),
            Self::Metric(tensor) => {
                write!(f, "{tensor}: its inputs are not finite, so the model is damaged")
            }
            Self::Mismatch(problem) => write!(f, "{problem}"),
            Self::Budget(problem) => write!(f, "budget: {problem}"),
            Self::Cancelled => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Calibrate(e) => Some(e),
            Self::Convert(e) => Some(e),
            Self::Isa(e) => Some(e),
            Self::Metric(_) | Self::Mismatch(_) | Self::Budget(_) | Self::Cancelled => None,
        }
    }
}

impl From<pythia_calibrate::Error> for Error {
    fn from(e: pythia_calibrate::Error) -> Self {
        match e {
            pythia_calibrate::Error::Cancelled => Self::Cancelled,
            e => Self::Calibrate(e.into()),
        }
    }
}

impl From<pythia_convert::Error> for Error {
    fn from(e: pythia_convert::Error) -> Self {
        match e {
            pythia_convert::Error::Cancelled => Self::Cancelled,
            e => Self::Convert(e.into()),
        }
    }
}
