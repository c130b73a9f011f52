//! Quantized weights times a few rows: the product of decoding.

use super::quantize::Quantized;
use super::{Epilogue, EpilogueArgs};
use crate::compile::{Kernel, Source};
use crate::device::{Args, Device, Ptr};
use pythia_tensor::TensorType;

#[cfg(test)]
mod tests;

/// Rows of x that one launch takes.
pub(crate) const MOST_ROWS: usize = 8;

/// Matrices of up to this many rows to a multiprocessor have a warp for each: with four to a warp there would be too few
/// warps to keep the memory busy. More rows to a warp share what it costs to read x and to add up.
const SINGLE_ROWS: usize = 16;

#[derive(Clone, Copy)]
#[repr(C)]
struct GemvArgs {
    weights: Ptr,
    x: Quantized,
    epilogue: EpilogueArgs,
    row_bytes: u64,
    units: u32,
    n: u32,
}

// SAFETY: the layout of `GemvArgs` in kernels/gemv.cu: fields of 8 bytes, then pairs of 4.
unsafe impl Args for GemvArgs {}

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

/// The product of `weights`, `[rows, cols]`, with `n` rows of `x`, at most [`MOST_ROWS`].
///
/// # Safety
/// `weights` must be good for reading a matrix of this type and shape and 64 bytes more, and a multiple of 256; `x` for
/// reading `n` rows of `cols`; the epilogue's bias, where it has one, for reading `rows` floats, and its output for
/// writing `n` times as many, which none of the others overlap.
#[allow(clippy::too_many_arguments)] // a product has these
pub(crate) unsafe fn product(
    device: &Device,
    ty: TensorType,
    weights: Ptr,
    rows: usize,
    cols: usize,
    x: Quantized,
    n: usize,
    epilogue: Epilogue,
) {
    let single = rows <= SINGLE_ROWS * device.multiprocessors();
    // SAFETY: the caller's promise.
    unsafe { launch(device, ty, weights, (rows, cols), x, n, epilogue, single) }
}

/// With a warp to a row of the weights where `single`, else to four.
///
/// # Safety
/// As [`product`].
#[allow(clippy::too_many_arguments)] // as above
unsafe fn launch(
    device: &Device,
    ty: TensorType,
    weights: Ptr,
    (rows, cols): (usize, usize),
    x: Quantized,
    n: usize,
    epilogue: Epilogue,
    single: bool,
) {
    let row_bytes = ty.row_bytes(cols).expect("whole blocks in a row");
    assert!(
        cols.is_multiple_of(32) && u32::try_from(row_bytes).is_ok(),
        "a row of whole units that 32 bits can address"
    );
    assert!(n <= MOST_ROWS, "no more rows of x than the kernels take");
    let variant = VARIANTS.iter().find(|variant| n <= variant.tokens).expect("a variant for every n");
    let (name, rows_of_warp) = if single { (variant.names[0], 1) } else { (variant.names[1], 4) };
    let blocks = if n == 0 { 0 } else { rows.div_ceil(variant.warps * rows_of_warp) };
    let kernel = Kernel { source: Source::Gemv, format: Some(ty), name };
    let epilogue = epilogue.of_rows(rows);
    let args = GemvArgs { weights, x, epilogue, row_bytes: row_bytes as u64, units: (cols / 32) as u32, n: n as u32 };
    // SAFETY: a warp reads whole sixteens of its rows, from addresses that are multiples of 16 as the matrix begins at
    // one, up to 30 bytes past the last, and writes the elements of the output that are its own. The rest is the
    // caller's promise.
    unsafe { device.launch(kernel, [blocks, 1, 1], 32 * variant.warps, args) };
}
