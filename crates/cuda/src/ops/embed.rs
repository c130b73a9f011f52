//! Rows of the embedding table.

use crate::compile::{Kernel, Source};
use crate::device::{Args, Device, Ptr};
use crate::layout::{Shared, shared_structs};
use pythia_tensor::TensorType;

#[cfg(test)]
mod tests;

/// Of a block.
const THREADS: usize = 128;
/// Elements that a thread decodes.
const UNIT: usize = 32;

shared_structs! {
    struct EmbedArgs {
        table: Ptr,
        tokens: Ptr,
        out: Ptr,
        cols: u32,
        n: u32,
    }
}

pub(super) const SHARED: Shared = Shared { file: "embed.cu", structs: &[EmbedArgs::LAYOUT], constants: &[] };

/// Decodes rows `tokens`, u32 `[n]`, of a table with rows of `cols` elements into `out`, f32 `[n, cols]`.
///
/// # Panics
/// If there are more columns or tokens than 32 bits count.
///
/// # Safety
/// `table` must be good for reading the rows that `tokens` names, `tokens` for reading `n` numbers, `out` for writing
/// `n * cols` floats; a row of the table is whole blocks, and a multiple of 32 elements. `table` and `out` are
/// multiples of 256.
pub(crate) unsafe fn embed(device: &Device, ty: TensorType, table: Ptr, cols: usize, tokens: Ptr, n: usize, out: Ptr) {
    debug_assert!(cols.is_multiple_of(UNIT) && cols.is_multiple_of(ty.block_elems()), "whole blocks");
    let kernel = Kernel { source: Source::Embed, format: Some(ty), name: "embed" };
    let narrow = |x: usize| u32::try_from(x).expect("rows and columns of a matrix");
    let args = EmbedArgs { table, tokens, out, cols: narrow(cols), n: narrow(n) };
    // SAFETY: the kernel reads what the caller vouches for, and writes one unit in each of as many threads as there
    // are.
    unsafe { device.launch(kernel, [(n * (cols / UNIT)).div_ceil(THREADS), 1, 1], THREADS, args) };
}
