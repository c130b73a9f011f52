//! Values of another run, from a file that an export of activations wrote.

use super::{Change, vectors};
use crate::{Array, Error, Selection};
use pythia_schema::Hparams;
use safetensors::{Dtype, SafeTensors};
use std::path::Path;

/// Puts the rows of a safetensors file in the place of those at the same positions: of its tensors that are named as the
/// hooks of `selection`, `[rows, ...]`. The tensor `positions` says which position a row is of; without it they are those
/// from 0. A file with several texts has `offsets`, where each begins; the rows are those of the first. With `positions`
/// only those are taken.
///
/// # Errors
/// If the file cannot be read, lacks a hook or a position, or does not fit the model; as [`Change::patch`].
pub fn patches(
    path: &Path,
    selection: &Selection,
    positions: Option<&[usize]>,
    hparams: &Hparams,
) -> Result<Vec<Change>, Error> {
    let bytes = vectors::read(path)?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| Error::file(path, format!("no safetensors file: {e}")))?;
    let rows = match integers(&file, "offsets", path)? {
        Some(offsets) => *offsets.get(1).ok_or_else(|| Error::file(path, "'offsets' has no text".to_owned()))?,
        None => usize::MAX,
    };
    let stored = integers(&file, "positions", path)?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let mut changes = Vec::new();
    for &hook in selection.hooks() {
        let tensor =
            file.tensor(&hook.to_string()).map_err(|_| Error::file(path, format!("has no tensor '{hook}'")))?;
        if tensor.shape().len() < 2 {
            let problem = format!("tensor '{hook}': found shape {:?}, wanted a row per position", tensor.shape());
            return Err(Error::file(path, problem));
        }
        let wrong = || Error::file(path, format!("tensor '{hook}': found {:?}, wanted floats", tensor.dtype()));
        let data = vectors::floats(tensor.dtype(), tensor.data()).ok_or_else(wrong)?;
        if data.is_empty() {
            let problem = format!("tensor '{hook}': found shape {:?}, wanted at least one number", tensor.shape());
            return Err(Error::file(path, problem));
        }
        let n = tensor.shape().first().copied().unwrap_or(0).min(rows);
        let of_row: Vec<usize> = match &stored {
            Some(stored) if stored.len() >= n => stored[..n].to_vec(),
            Some(stored) => {
                let problem = format!("tensor '{hook}': found {n} rows, wanted {}, those of 'positions'", stored.len());
                return Err(Error::file(path, problem));
            }
            None => (0..n).collect(),
        };
        let wanted: Vec<usize> = positions.map_or_else(|| of_row.clone(), <[usize]>::to_vec);
        let width = data.len().checked_div(tensor.shape().first().copied().unwrap_or(0)).unwrap_or(0);
        let mut taken = Vec::with_capacity(wanted.len() * width);
        for position in &wanted {
            let row = of_row.iter().position(|of| of == position);
            let row = row.ok_or_else(|| Error::file(path, format!("has no row for position {position}")))?;
            taken.extend_from_slice(&data[row * width..(row + 1) * width]);
        }
        let shape = [&[wanted.len()], &tensor.shape()[1..]].concat();
        changes.push(Change::patch(hparams, hook, &wanted, &Array { shape, data: taken }, &name)?);
    }
    Ok(changes)
}

/// The numbers of an integer tensor, if there is one of this name.
fn integers(file: &SafeTensors<'_>, name: &str, path: &Path) -> Result<Option<Vec<usize>>, Error> {
    let Ok(tensor) = file.tensor(name) else { return Ok(None) };
    let bytes = tensor.data();
    let wide: Vec<i64> = match tensor.dtype() {
        Dtype::I32 => bytes.as_chunks().0.iter().map(|&x| i64::from(i32::from_le_bytes(x))).collect(),
        Dtype::I64 => bytes.as_chunks().0.iter().map(|&x| i64::from_le_bytes(x)).collect(),
        other => return Err(Error::file(path, format!("tensor '{name}': found {other:?}, wanted I32 or I64"))),
    };
    let numbers: Result<Vec<usize>, _> = wide.into_iter().map(usize::try_from).collect();
    numbers.map(Some).map_err(|_| Error::file(path, format!("tensor '{name}': found a negative number")))
}
