//! Values as objects of Python.

use crate::error::Problem;
use numpy::{PyArray1, PyArray2, PyArrayDyn, PyArrayMethods};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyModule};
use pythia_gguf::{Metadata, Value};
use serde::Serialize;

/// What JSON would make of a value: dicts, lists, strings, numbers and `None`.
pub(crate) fn json<'py>(py: Python<'py>, value: &impl Serialize) -> PyResult<Bound<'py, PyAny>> {
    let text = serde_json::to_string(value).map_err(|error| Problem::data(error).raise(py))?;
    PyModule::import(py, "json")?.call_method1("loads", (text,))
}

/// An array of `rows` rows that takes over the memory of `values`.
pub(crate) fn matrix(py: Python<'_>, rows: usize, values: Vec<f32>) -> PyResult<Bound<'_, PyArray2<f32>>> {
    let cols = values.len() / rows.max(1);
    PyArray1::from_vec(py, values).reshape([rows, cols])
}

/// An array of any number of dimensions that takes over the memory of `values`.
pub(crate) fn array(py: Python<'_>, shape: Vec<usize>, values: Vec<f32>) -> PyResult<Bound<'_, PyArrayDyn<f32>>> {
    PyArray1::from_vec(py, values).reshape(shape)
}

/// Metadata of a file as a dict.
pub(crate) fn metadata<'py>(py: Python<'py>, metadata: &Metadata) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    metadata.iter().try_for_each(|(key, value)| dict.set_item(key, entry(py, value)?))?;
    Ok(dict)
}

fn entry<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    if let Some(integer) = value.integer() {
        return integer.into_bound_py_any(py);
    }
    match value {
        Value::F32(x) => x.into_bound_py_any(py),
        Value::F64(x) => x.into_bound_py_any(py),
        Value::Bool(x) => x.into_bound_py_any(py),
        Value::String(x) => x.into_bound_py_any(py),
        Value::Array(array) => {
            let items = (0..array.len()).filter_map(|index| array.get(index)).map(|item| entry(py, &item));
            PyList::new(py, items.collect::<PyResult<Vec<_>>>()?)?.into_bound_py_any(py)
        }
        other => Err(Problem::data(format_args!("metadata: a value {}", other.describe())).raise(py)),
    }
}
