//! The native part of the Python package `pythia_quant`.
//!
//! It holds no computation: every function calls a library of this workspace with the interpreter let go, and turns
//! what comes back into objects of Python. The package around it is in `python/pythia_quant`, its types in
//! `_native.pyi` there. The texts of help are the comments of what Python sees.

#![forbid(unsafe_code)]

mod change;
mod compare;
mod convert;
mod drafting;
mod error;
mod generation;
mod ids;
mod model;
mod names;
mod object;
mod options;
mod source;
mod text;
mod work;

use pyo3::pymodule;

/// See the package.
#[pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }

    #[pymodule_export]
    use crate::compare::compare;
    #[pymodule_export]
    use crate::convert::{convert, quantize};
    #[pymodule_export]
    use crate::generation::Generation;
    #[pymodule_export]
    use crate::model::Model;
}
