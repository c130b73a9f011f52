//! Values of another run, from a file that an export of activations wrote.

use super::tensors::{floats, integers, not_finite, parse, read, shape, wrong};
use super::{Change, check_below};
use crate::{Array, Error, Selection};
use pythia_schema::Hparams;
use safetensors::SafeTensors;
use std::path::Path;

/// Puts the rows of a safetensors file in the place of those at the same positions: of its tensors that are named as the
/// hooks of `selection`, `[rows, n_embd]`, `[rows, n_head, head_dim]` or `[rows, n_ff]`. The tensor `positions` says which
/// position a row is of; without it they are those from 0. A file with several texts has `offsets`, where each begins; the
/// rows are those of the first. With `positions` only those are taken. Which tokens the rows are of is not looked at:
/// values of another text are what patching is for.
///
/// # Errors
/// If the file cannot be read, lacks a hook or a position, holds a number that is not finite at one, or its arrays do not
/// fit each other or the model; as [`Change::patch`].
pub fn patches(
    path: &Path,
    selection: &Selection,
    positions: Option<&[usize]>,
    hparams: &Hparams,
) -> Result<Vec<Change>, Error> {
    let bytes = read(path)?;
    let file = parse(&bytes, path)?;
    let index = Index::read(&file, path)?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let mut changes = Vec::new();
    for &hook in selection.hooks() {
        let of = hook.to_string();
        let tensor = file.tensor(&of).map_err(|_| Error::file(path, format!("has no tensor '{of}'")))?;
        let n = index.rows.unwrap_or_else(|| tensor.shape().first().copied().unwrap_or(0));
        let fits = |wanted: &[usize]| tensor.shape() == wanted && n > 0;
        let mut wanted = crate::cache::shape(hook, hparams, n);
        if !fits(&wanted) {
            wanted[0] = wanted[0].max(1);
            let problem = format!("found shape {}, wanted {wanted:?}", shape(tensor.shape()));
            return Err(wrong(path, &of, problem));
        }
        let data = floats(&tensor, &of, path)?;
        let width = data.len() / n;
        let stored = index.positions(n);
        let wanted = positions.unwrap_or(&stored);
        let mut taken = Vec::with_capacity(wanted.len() * width);
        for &position in wanted {
            check_below("position", position, hparams.n_ctx)?;
            let row = stored.iter().position(|of| *of == position);
            let row = row.ok_or_else(|| Error::file(path, format!("has no row for position {position}")))?;
            let values = &data[row * width..(row + 1) * width];
            if let Some((at, x)) = not_finite(values) {
                let problem = format!("found {x} at position {position}, element {at}, wanted finite numbers");
                return Err(wrong(path, &of, problem));
            }
            taken.extend_from_slice(values);
        }
        let array = Array { shape: crate::cache::shape(hook, hparams, wanted.len()), data: taken };
        changes.push(Change::patch(hparams, hook, wanted, &array, &name)?);
    }
    Ok(changes)
}

/// What a file says of its rows.
struct Index {
    /// How many there are, if it says so.
    rows: Option<usize>,
    /// Those of the first text.
    first: Option<usize>,
    positions: Option<Vec<usize>>,
}

impl Index {
    fn read(file: &SafeTensors<'_>, path: &Path) -> Result<Self, Error> {
        let offsets = integers(file, "offsets", path)?;
        if let Some(offsets) = &offsets
            && !(offsets.len() >= 2 && offsets[0] == 0 && offsets.is_sorted())
        {
            return Err(wrong(path, "offsets", "wanted 0 and then where each text ends, ascending"));
        }
        let first = offsets.as_ref().map(|offsets| offsets[1]);
        if first == Some(0) {
            return Err(Error::file(path, "its first text has no rows".to_owned()));
        }
        let positions = integers(file, "positions", path)?;
        let tokens = integers(file, "tokens", path)?.map(|tokens| tokens.len());
        // All that say how many rows there are must say the same.
        let said = [
            ("offsets", offsets.and_then(|offsets| offsets.last().copied())),
            ("positions", positions.as_ref().map(Vec::len)),
            ("tokens", tokens),
        ];
        let mut said = said.into_iter().filter_map(|(name, rows)| Some((name, rows?)));
        let Some((by, rows)) = said.next() else { return Ok(Self { rows: None, first, positions }) };
        if let Some((name, found)) = said.find(|(_, other)| *other != rows) {
            return Err(wrong(path, name, format_args!("found {found} rows, wanted {rows}, those of '{by}'")));
        }
        let of_first = |positions: &Vec<usize>| positions[..first.unwrap_or(rows)].is_sorted_by(|a, b| a < b);
        if !positions.as_ref().is_none_or(of_first) {
            return Err(wrong(path, "positions", "those of the first text do not ascend"));
        }
        Ok(Self { rows: Some(rows), first, positions })
    }

    /// Of the first text, if there are `n` rows in all.
    fn positions(&self, n: usize) -> Vec<usize> {
        let first = self.first.unwrap_or(n);
        match &self.positions {
            Some(positions) => positions[..first].to_vec(),
            None => (0..first).collect(),
        }
    }
}
