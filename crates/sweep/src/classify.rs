//! The class of an error, by what helps against it.

use crate::ErrorClass;
use pythia_task::ErrorKind;
use std::error::Error as StdError;
use std::io;

/// Why a cell has no values.
pub(crate) struct Fault {
    pub(crate) class: ErrorClass,
    pub(crate) message: String,
}

/// A fault, or the end of the run.
pub(crate) enum Stop {
    /// Of the cells that are computed now.
    Fault(Fault),
    /// The run was cancelled.
    Cancelled,
}

macro_rules! from_libraries {
    ($($error:ty),*) => {
        $(impl From<$error> for Stop {
            fn from(error: $error) -> Self {
                Self::of(error.kind(), &error)
            }
        })*
    };
}

from_libraries!(pythia_calibrate::Error, pythia_compare::Error, pythia_convert::Error, pythia_runtime::Error);

#[cfg(feature = "hub")]
impl From<pythia_hub::Error> for Stop {
    fn from(error: pythia_hub::Error) -> Self {
        use pythia_hub::Error as Hub;
        let class = match &error {
            Hub::Cancelled => return Self::Cancelled,
            Hub::Io { source, .. } => of_system(source),
            Hub::Request(_) => ErrorClass::Request,
            // A server may send something else the next time.
            _ => ErrorClass::Download,
        };
        Self::Fault(Fault { class, message: error.to_string() })
    }
}

impl Stop {
    /// A fault of this class.
    pub(crate) fn fault(class: ErrorClass, message: impl Into<String>) -> Self {
        Self::Fault(Fault { class, message: message.into() })
    }

    fn of(kind: ErrorKind, error: &(dyn StdError + 'static)) -> Self {
        let class = match kind {
            ErrorKind::Cancelled => return Self::Cancelled,
            ErrorKind::Usage => ErrorClass::Request,
            ErrorKind::Data if causes(error).any(is_not_finite) => ErrorClass::Numeric,
            ErrorKind::Data if causes(error).any(is_too_short) => ErrorClass::Request,
            ErrorKind::Data => ErrorClass::Corrupt,
            ErrorKind::Io => causes(error).find_map(|cause| cause.downcast_ref()).map_or(ErrorClass::System, of_system),
        };
        Self::Fault(Fault { class, message: error.to_string() })
    }
}

/// An error and what caused it.
fn causes<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// An error of the runtime, without the places that were added to it.
fn of_runtime<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e pythia_runtime::Error> {
    let mut found = error.downcast_ref::<pythia_runtime::Error>();
    while let Some(pythia_runtime::Error::At { source, .. }) = found {
        found = Some(source);
    }
    found
}

fn is_too_short(error: &(dyn StdError + 'static)) -> bool {
    matches!(of_runtime(error), Some(pythia_runtime::Error::TextTooShort { .. }))
}

fn is_not_finite(error: &(dyn StdError + 'static)) -> bool {
    let of_a_model = of_runtime(error);
    let of_a_conversion = error.downcast_ref::<pythia_convert::Error>();
    let of_a_calibration = error.downcast_ref::<pythia_calibrate::Error>();
    matches!(of_a_conversion, Some(pythia_convert::Error::Values { .. }))
        || matches!(of_a_model, Some(pythia_runtime::Error::NotFinite { .. }))
        || matches!(of_a_calibration, Some(pythia_calibrate::Error::NotFinite { .. }))
}

fn of_system(error: &io::Error) -> ErrorClass {
    if error.kind() == io::ErrorKind::OutOfMemory { ErrorClass::Memory } else { ErrorClass::System }
}
