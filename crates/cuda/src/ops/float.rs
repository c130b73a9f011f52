//! Products of weights, as floats, with f32 rows.

use super::product::Weights;
use super::{Output, OutputArgs};
use crate::compile::{Kernel, Source};
use crate::device::{Args, Device, Ptr};
use crate::layout::{Shared, shared_structs};

#[cfg(test)]
mod tests;

shared_structs! {
    struct FloatArgs {
        weights: Ptr,
        x: Ptr,
        output: OutputArgs,
        cols: u32,
        n: u32,
    }
}

/// A kernel for a few rows of `x` at a time, which reads all weights for each such few.
struct Few {
    name: &'static str,
    /// Rows of `x`.
    n: usize,
    /// Rows of the weights that a block multiplies: for each of 4 warps, 4 times what a group of 8 threads has.
    rows: usize,
}

const FEW: [Few; 4] = [
    Few { name: "few_1", n: 1, rows: 16 },
    Few { name: "few_2", n: 2, rows: 16 },
    Few { name: "few_4", n: 4, rows: 32 },
    Few { name: "few_8", n: 8, rows: 32 },
];
const FEW_THREADS: usize = 128;
/// With more rows of `x` than these the tiles of `many` are at least half full.
const MOST_FEW: usize = 16;

const MANY_THREADS: usize = 256;
/// Rows of the weights and of `x` that a block of `many` multiplies.
const TILE: usize = 32;

pub(super) const SHARED: Shared = Shared {
    file: "float.cu",
    structs: &[FloatArgs::LAYOUT],
    constants: &[("FEW_THREADS", FEW_THREADS), ("MANY_THREADS", MANY_THREADS), ("TILE", TILE)],
};

/// `weights` times `n` rows of `x`, f32 `[n, cols]`.
///
/// # Panics
/// If there are more rows or columns than 32 bits count.
///
/// # Safety
/// `weights` and `x` must be good for reading these matrices, `output.bias` for reading `rows` floats unless it is 0,
/// and `output.out` for writing `n * rows` of them, which no other address overlaps. `x` is a multiple of 16, and `n`
/// and the rows of the weights are not 0.
pub(crate) unsafe fn product(device: &Device, weights: Weights, x: Ptr, n: usize, output: Output) {
    let Weights { ty, rows, cols, at: weights } = weights;
    debug_assert!(cols.is_multiple_of(32) && cols.is_multiple_of(ty.block_elems()), "whole blocks");
    let narrow = |x: usize| u32::try_from(x).expect("rows and columns of a matrix");
    let args = FloatArgs { weights, x, output: output.of_rows(rows), cols: narrow(cols), n: narrow(n) };
    let kernel = |name| Kernel { source: Source::Float, format: Some(ty), name };
    // SAFETY: the kernels read what the caller vouches for (past the last row, the last row), and write each element of
    // `out` once.
    unsafe {
        if n <= MOST_FEW {
            let few = FEW.iter().find(|few| n <= few.n).unwrap_or(&FEW[3]);
            device.launch(kernel(few.name), [rows.div_ceil(few.rows), n.div_ceil(few.n), 1], FEW_THREADS, args);
        } else {
            // Neighbouring blocks share rows of the weights, so that those come from memory once.
            device.launch(kernel("many"), [n.div_ceil(TILE), rows.div_ceil(TILE), 1], MANY_THREADS, args);
        }
    }
}
