//! Errors of the libraries as exceptions.
//!
//! The classes are in `_errors.py`: each is a `PythiaError`, and also what Python itself would raise in such a case.

use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyModule;
use pythia_task::ErrorKind;
use std::error::Error;
use std::fmt::Display;
use std::io;

/// Why a call failed: one line, and which class it becomes.
#[derive(Debug)]
pub(crate) struct Problem {
    class: Option<&'static str>,
    message: String,
}

impl Problem {
    /// The caller asked for something that cannot be.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self { class: Some(USAGE), message: message.to_string() }
    }

    /// A file, a model or a text that cannot be used.
    pub(crate) fn data(message: impl Display) -> Self {
        Self { class: Some(DATA), message: message.to_string() }
    }

    fn new(kind: ErrorKind, error: &(dyn Error + 'static)) -> Self {
        let class = match kind {
            ErrorKind::Cancelled => None,
            ErrorKind::Usage if exists(error) => Some("ExistingFileError"),
            ErrorKind::Usage => Some(USAGE),
            ErrorKind::Data => Some(DATA),
            ErrorKind::Io => Some(match system_error(error) {
                Some(io::ErrorKind::NotFound) => "MissingFileError",
                Some(io::ErrorKind::PermissionDenied) => "ForbiddenFileError",
                _ => "FileError",
            }),
        };
        Self { class, message: error.to_string() }
    }

    /// The exception.
    pub(crate) fn raise(self, py: Python<'_>) -> PyErr {
        static ERRORS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
        let Some(class) = self.class else { return PyKeyboardInterrupt::new_err(()) };
        let errors = ERRORS.get_or_try_init(py, || PyModule::import(py, "pythia_quant._errors").map(Bound::unbind));
        let exception =
            errors.and_then(|errors| errors.bind(py).getattr(class)).and_then(|it| it.call1((self.message,)));
        exception.map_or_else(|error| error, PyErr::from_value)
    }
}

const USAGE: &str = "UsageError";
const DATA: &str = "DataError";

/// The error and its causes.
fn chain<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// What the system said, if it is the cause.
fn system_error(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    chain(error).find_map(|error| error.downcast_ref::<io::Error>()).map(io::Error::kind)
}

/// Whether an output is there already.
fn exists(error: &(dyn Error + 'static)) -> bool {
    let mut causes = chain(error).filter_map(|error| error.downcast_ref::<pythia_convert::Error>());
    causes.any(|error| matches!(error, pythia_convert::Error::Exists(_)))
}

macro_rules! from_libraries {
    ($($error:ty),*) => {
        $(impl From<$error> for Problem {
            fn from(error: $error) -> Self {
                Self::new(error.kind(), &error)
            }
        })*
    };
}

from_libraries!(
    pythia_calibrate::Error,
    pythia_compare::Error,
    pythia_convert::Error,
    pythia_eval::Error,
    pythia_inside::Error,
    pythia_model::Error,
    pythia_runtime::Error
);
#[cfg(feature = "hub")]
from_libraries!(pythia_hub::Error);
