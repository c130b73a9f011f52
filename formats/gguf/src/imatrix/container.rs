//! The GGUF form.
//!
//! ```text
//! NAME.in_sum2  F32 [n_mats, cols]   sums of squared inputs
//! NAME.counts   F32 [n_mats, 1]      tokens
//! ```
//! Other tensors are left alone: newer writers add `NAME.in_sum`, the plain sums.

use super::{Imatrix, ImatrixEntry};
use crate::error::{Error, quoted};
use crate::keys;
use crate::metadata::Metadata;
use crate::read::Gguf;
use crate::tensor::TensorInfo;
use crate::write::Layout;
use pythia_tensor::TensorType;

pub(super) const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

/// The value of [`keys::TYPE`].
const TYPE: &str = "imatrix";
const DATASETS: &str = "imatrix.datasets";
const CHUNK_COUNT: &str = "imatrix.chunk_count";
const CHUNK_SIZE: &str = "imatrix.chunk_size";

pub(super) fn parse(bytes: &[u8]) -> Result<Imatrix, Error> {
    let gguf = Gguf::parse(bytes)?;
    check_type(&gguf.metadata)?;
    let mut entries = Vec::new();
    for tensor in gguf.tensors() {
        if let Some(name) = tensor.name.strip_suffix(SUMS) {
            let counts = partner(&gguf, tensor, name, COUNTS)?;
            entries.push(entry(&gguf, bytes, name, tensor, counts)?);
        } else if let Some(name) = tensor.name.strip_suffix(COUNTS) {
            partner(&gguf, tensor, name, SUMS)?;
        }
    }
    let datasets = gguf.metadata.strings(DATASETS)?.unwrap_or_default().to_vec();
    let chunk_count = gguf.metadata.u32(CHUNK_COUNT)?.unwrap_or_default();
    let chunk_size = gguf.metadata.u32(CHUNK_SIZE)?.unwrap_or_default();
    Ok(Imatrix { entries, datasets, chunk_count, chunk_size })
}

/// The message if a model was given instead of an importance matrix.
fn check_type(metadata: &Metadata) -> Result<(), Error> {
    let wanted = format!("'{TYPE}', as files of importance matrices have it");
    match metadata.str(keys::TYPE)? {
        Some(TYPE) => Ok(()),
        Some(other) => Err(Error::key(keys::TYPE, quoted(other), wanted)),
        None => Err(Error::missing_key(keys::TYPE, wanted)),
    }
}

fn partner<'a>(gguf: &'a Gguf, tensor: &TensorInfo, name: &str, suffix: &str) -> Result<&'a TensorInfo, Error> {
    let partner = format!("{name}{suffix}");
    let missing = || Error::tensor(&tensor.name, format!("no {} with it", quoted(&partner)), "both");
    gguf.tensor(&partner).ok_or_else(missing)
}

fn entry(gguf: &Gguf, bytes: &[u8], name: &str, sums: &TensorInfo, counts: &TensorInfo) -> Result<ImatrixEntry, Error> {
    // Dimensions start with the row length, so that what is left is the number of matrices.
    let (n_mats, n_counts) = (sums.n_elems() / sums.dims[0], counts.n_elems());
    if n_counts != n_mats {
        let found = format!("{n_counts} counts");
        return Err(Error::tensor(&counts.name, found, format!("{n_mats}, one for each row of sums")));
    }
    ImatrixEntry::new(name, floats(gguf, bytes, sums)?, floats(gguf, bytes, counts)?)
}

fn floats(gguf: &Gguf, bytes: &[u8], tensor: &TensorInfo) -> Result<Vec<f32>, Error> {
    if tensor.ty.known() != Some(TensorType::F32) {
        return Err(Error::tensor(&tensor.name, format!("type {}", tensor.ty.name()), "F32"));
    }
    super::floats(gguf.data(bytes, tensor)).map_err(|e| e.in_tensor(&tensor.name))
}

pub(super) fn write(imatrix: &Imatrix) -> Result<Vec<u8>, Error> {
    let mut metadata = Metadata::new();
    metadata.insert(keys::TYPE, TYPE);
    metadata.insert(DATASETS, imatrix.datasets.clone());
    metadata.insert(CHUNK_COUNT, imatrix.chunk_count);
    metadata.insert(CHUNK_SIZE, imatrix.chunk_size);
    let mut table = Vec::new();
    let mut data = Vec::new();
    for entry in &imatrix.entries {
        for (suffix, values) in [(SUMS, &entry.sums), (COUNTS, &entry.counts)] {
            table.push((format!("{}{suffix}", entry.name), TensorType::F32, dims(values, entry.counts.len())));
            data.push(values);
        }
    }
    let layout = Layout::new(&metadata, table)?;
    let mut file = layout.header().to_vec();
    for (info, values) in layout.tensors().iter().zip(data) {
        file.resize(info.offset as usize, 0);
        file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
    file.resize(layout.total_bytes() as usize, 0);
    Ok(file)
}

/// As llama.cpp has them: without a last dimension of 1.
fn dims(values: &[f32], n_mats: usize) -> Vec<u64> {
    let cols = (values.len() / n_mats) as u64;
    if n_mats == 1 { vec![cols] } else { vec![cols, n_mats as u64] }
}
