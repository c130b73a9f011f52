//! Elements of a source as f32.

use crate::Error;
use crate::source::{Source, SourceTensor};
use pythia_checkpoint::{Dtype, to_f32};
use pythia_tensor::TensorType;
use std::ops::Range;

/// Elements read at a time, rounded to whole rows.
const CHUNK_ELEMS: usize = 1 << 20;

/// Replaces `out` by the rows `rows` of a tensor as f32, in the order of GGUF.
///
/// # Errors
/// If rows are missing, or the system refuses to read them.
pub fn read_f32(
    source: &dyn Source,
    tensor: &SourceTensor,
    rows: Range<usize>,
    out: &mut Vec<f32>,
) -> Result<(), Error> {
    let step = (CHUNK_ELEMS / tensor.row_elems().max(1)).max(1);
    let (mut bytes, mut values) = (Vec::new(), Vec::new());
    out.clear();
    out.reserve_exact(rows.len() * tensor.row_elems());
    for first in rows.clone().step_by(step) {
        source.read_rows(tensor, first..rows.end.min(first + step), &mut bytes)?;
        decode(tensor.ty, &bytes, &mut values);
        out.extend_from_slice(&values);
    }
    Ok(())
}

/// Replaces `values` by the elements in `bytes`, which are whole blocks.
pub(crate) fn decode(ty: TensorType, bytes: &[u8], values: &mut Vec<f32>) {
    match ty {
        TensorType::F32 => to_f32(Dtype::F32, bytes, values),
        TensorType::F16 => to_f32(Dtype::F16, bytes, values),
        TensorType::BF16 => to_f32(Dtype::BF16, bytes, values),
        _ => {
            values.resize(bytes.len() / ty.block_bytes() * ty.block_elems(), 0.0);
            ty.decode(bytes, values);
        }
    }
}
