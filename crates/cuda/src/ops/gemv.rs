//! Quantized weights times a few rows: the product of generation.

use super::Output;
use super::product::{ProductArgs, Weights};
use super::quantize::Quantized;
use crate::compile::{Kernel, Source};
use crate::device::Device;

#[cfg(test)]
mod tests;

/// Maximum rows of x per launch.
pub(crate) const MOST_ROWS: usize = 8;

/// Matrices of up to this many rows per multiprocessor have one row per warp: with four rows per warp there would be
/// too few warps to keep the memory busy. Four rows share the cost of reading x and of adding up.
const SINGLE_ROWS: usize = 16;

/// A kernel for some number of rows of x.
struct Variant {
    /// Rows of x it has registers for.
    tokens: usize,
    warps: usize,
    /// The kernels for one row of the weights to a warp and for four.
    names: [&'static str; 2],
}

const VARIANTS: [Variant; 4] = [
    Variant { tokens: 1, warps: 2, names: ["gemv_1_1", "gemv_1_4"] },
    Variant { tokens: 2, warps: 2, names: ["gemv_2_1", "gemv_2_4"] },
    Variant { tokens: 4, warps: 2, names: ["gemv_4_1", "gemv_4_4"] },
    Variant { tokens: MOST_ROWS, warps: 1, names: ["gemv_8_1", "gemv_8_4"] },
];

/// The product of `weights` with `n` rows of `x`, at most [`MOST_ROWS`].
///
/// # Safety
/// `weights` must be good for reading, and `x` for `n` rows of as many columns; the output's bias, where it has one,
/// for reading `rows` floats, and its output for writing `n` times as many, which none of the others overlap.
pub(crate) unsafe fn product(device: &Device, weights: Weights, x: Quantized, n: usize, output: Output) {
    let single = weights.rows <= SINGLE_ROWS * device.multiprocessors();
    // SAFETY: the caller's promise.
    unsafe { launch(device, weights, x, n, output, single) }
}

/// With one row of the weights per warp if `single`, otherwise four.
///
/// # Safety
/// As [`product`].
unsafe fn launch(device: &Device, weights: Weights, x: Quantized, n: usize, output: Output, single: bool) {
    assert!(n <= MOST_ROWS, "no more rows of x than the kernels take");
    let variant = VARIANTS.iter().find(|variant| n <= variant.tokens).expect("a variant for every n");
    let (name, rows_of_warp) = if single { (variant.names[0], 1) } else { (variant.names[1], 4) };
    let blocks = if n == 0 { 0 } else { weights.rows.div_ceil(variant.warps * rows_of_warp) };
    let kernel = Kernel { source: Source::Gemv, format: Some(weights.ty), name };
    let args = ProductArgs::new(weights, x, n, output);
    // SAFETY: a warp reads whole sixteens of its rows, from addresses that are multiples of 16 as the matrix begins at
    // one, up to 30 bytes past the last, and writes the elements of the output that are its own. The rest is the
    // caller's promise.
    unsafe { device.launch(kernel, [blocks, 1, 1], 32 * variant.warps, args) };
}
