//! A name, or several.

use pyo3::prelude::*;

/// A str, or a sequence of them.
#[derive(Debug, FromPyObject)]
pub(crate) enum Names {
    #[pyo3(annotation = "str")]
    One(String),
    #[pyo3(annotation = "sequence of str")]
    Several(Vec<String>),
}

impl Names {
    /// All.
    pub(crate) fn list(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }
}
