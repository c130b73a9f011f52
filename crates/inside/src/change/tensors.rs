//! Tensors in files of strangers.

use crate::Error;
use pythia_text::{ReadError, cut_middle, quoted};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::path::Path;

/// The largest file that is read.
const MAX_BYTES: u64 = 1 << 30;

/// Reads a whole file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    pythia_text::read_bytes(path, MAX_BYTES).map_err(|error| match error {
        ReadError::Io(source) => Error::Io { path: path.to_owned(), source },
        ReadError::Refused(problem) => Error::file(path, problem),
    })
}

/// The tensors of a safetensors file.
pub(super) fn parse<'a>(bytes: &'a [u8], path: &Path) -> Result<SafeTensors<'a>, Error> {
    let wrong = |error: safetensors::SafeTensorError| {
        Error::file(path, format!("no safetensors file: {}", cut_middle(&error.to_string(), 150, 50)))
    };
    SafeTensors::deserialize(bytes).map_err(wrong)
}

/// What is wrong with a tensor.
pub(super) fn wrong(path: &Path, name: &str, problem: impl std::fmt::Display) -> Error {
    Error::file(path, format!("tensor {}: {problem}", quoted(name, '\'', 80)))
}

/// The numbers of a tensor of floats.
pub(super) fn floats(tensor: &TensorView<'_>, name: &str, path: &Path) -> Result<Vec<f32>, Error> {
    let bytes = tensor.data();
    Ok(match tensor.dtype() {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)).collect(),
        Dtype::F64 => bytes.as_chunks().0.iter().map(|&x| f64::from_le_bytes(x) as f32).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|&x| half::f16::from_le_bytes(x).to_f32()).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|&x| half::bf16::from_le_bytes(x).to_f32()).collect(),
        other => return Err(wrong(path, name, format_args!("found type {other:?}, wanted floats"))),
    })
}

/// The numbers of an integer tensor of one dimension, if there is one of this name.
pub(super) fn integers(file: &SafeTensors<'_>, name: &str, path: &Path) -> Result<Option<Vec<usize>>, Error> {
    let Ok(tensor) = file.tensor(name) else { return Ok(None) };
    if tensor.shape().len() != 1 {
        let problem = format!("found shape {}, wanted one dimension", shape(tensor.shape()));
        return Err(wrong(path, name, problem));
    }
    let bytes = tensor.data();
    let wide: Vec<i64> = match tensor.dtype() {
        Dtype::I32 => bytes.as_chunks().0.iter().map(|&x| i64::from(i32::from_le_bytes(x))).collect(),
        Dtype::I64 => bytes.as_chunks().0.iter().map(|&x| i64::from_le_bytes(x)).collect(),
        other => return Err(wrong(path, name, format_args!("found type {other:?}, wanted I32 or I64"))),
    };
    let numbers: Result<Vec<usize>, _> = wide.into_iter().map(usize::try_from).collect();
    numbers.map(Some).map_err(|_| wrong(path, name, "found a negative number"))
}

/// A shape for a message, at most some dimensions of it.
pub(super) fn shape(shape: &[usize]) -> String {
    /// No value of a model has as many.
    const MOST: usize = 8;
    if shape.len() <= MOST { format!("{shape:?}") } else { format!("of {} dimensions", shape.len()) }
}

/// The first number that is NaN or infinite, and where. One such number would spoil all that a pass computes after it, and
/// look like damage of the weights.
pub(super) fn not_finite(values: &[f32]) -> Option<(usize, f32)> {
    values.iter().copied().enumerate().find(|(_, x)| !x.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_wrote_is_shown_in_a_short_line() {
        let name = "x".repeat(1 << 16);
        let line = wrong(Path::new("f"), &name, format_args!("found shape {}", shape(&[1; 1000]))).to_string();
        assert!(line.len() < 200 && line.ends_with("found shape of 1000 dimensions"), "{line}");
        assert_eq!(shape(&[2, 3]), "[2, 3]");
        let header = format!("{{\"{name}\":{{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,9]}}}}");
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 9]].concat();
        let line = parse(&bytes, Path::new("f")).unwrap_err().to_string();
        assert!(line.len() < 300, "{line}");
    }
}
