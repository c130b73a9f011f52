//! Token ids as callers give them.

use crate::error::Problem;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;
use pythia_runtime::Tokenizer;

/// A text, or ids: a list, a tuple, or an array of one dimension.
#[derive(Debug)]
pub(crate) enum Tokens {
    Text(String),
    Ids(Vec<u32>),
}

impl<'py> FromPyObject<'_, 'py> for Tokens {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(text) = object.cast::<PyString>() {
            return Ok(Self::Text(text.extract()?));
        }
        ids(&object).map(Self::Ids)
    }
}

impl Tokens {
    /// The ids. A text gets no token added.
    pub(crate) fn ids(self, tokenizer: &Tokenizer) -> Result<Vec<u32>, Problem> {
        match self {
            Self::Text(text) => encode(tokenizer, &text),
            Self::Ids(ids) => Ok(ids),
        }
    }
}

/// The ids of any sequence of integers.
///
/// # Errors
/// `TypeError` if it is none, `UsageError` if an integer cannot be an id.
pub(crate) fn ids(object: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
    let py = object.py();
    let wrong = |what: &str| PyTypeError::new_err(format!("found {what}, wanted a str or a sequence of token ids"));
    let integers: Vec<i64> = match object.extract() {
        Ok(integers) => integers,
        Err(_) => return Err(wrong(&object.get_type().name()?.to_string_lossy())),
    };
    let id = |integer: i64| {
        u32::try_from(integer).map_err(|_| Problem::usage(format_args!("found the token id {integer}")).raise(py))
    };
    integers.into_iter().map(id).collect()
}

/// The ids of a text.
pub(crate) fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, Problem> {
    Ok(tokenizer.encode(text).map_err(pythia_runtime::Error::from)?)
}
