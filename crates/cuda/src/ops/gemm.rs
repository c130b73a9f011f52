//! Products of quantized weights with many rows, on tensor cores.

use super::Output;
use super::product::{ProductArgs, Weights};
use super::quantize::Quantized;
use crate::compile::{Kernel, Source};
use crate::device::Device;

#[cfg(test)]
mod tests;

/// The tile of a block.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    name: &'static str,
    /// Rows of the weights.
    rows: usize,
    /// Rows of x.
    tokens: usize,
    /// Instructions that one of the four schedulers of a multiprocessor issues for a block and 64 columns, counted in
    /// the machine code of Q4_K for sm_90.
    issues: usize,
}

/// Threads of a block of any shape: one warp per scheduler.
const THREADS: usize = 128;

/// The shapes, largest first. Smaller tiles spread matrices with few rows over the whole device.
const SHAPES: [Shape; 3] = [
    Shape { name: "gemm_64x128", rows: 64, tokens: 128, issues: 850 },
    Shape { name: "gemm_64x64", rows: 64, tokens: 64, issues: 510 },
    Shape { name: "gemm_32x32", rows: 32, tokens: 32, issues: 210 },
];

impl Shape {
    fn blocks(&self, n: usize, rows: usize) -> usize {
        rows.div_ceil(self.rows) * n.div_ceil(self.tokens)
    }

    /// Tiles of x, then those of the weights: in two numbers where 16 bits do not count them, and then perhaps one
    /// more.
    fn grid(&self, n: usize, rows: usize) -> [usize; 3] {
        let (across, down) = (n.div_ceil(self.tokens), rows.div_ceil(self.rows));
        let deep = down.div_ceil(usize::from(u16::MAX)).max(1);
        [across, down.div_ceil(deep), deep]
    }

    /// Cost of 64 columns of a product on the busiest scheduler, in instructions. If a block is alone on a
    /// multiprocessor, each scheduler has one warp, which waits for its own results. It then takes about as long as two
    /// blocks together.
    fn cost(&self, n: usize, rows: usize, multiprocessors: usize) -> usize {
        self.blocks(n, rows).div_ceil(multiprocessors).max(2) * self.issues
    }
}

/// The cheapest shape for a product.
fn shape(n: usize, rows: usize, multiprocessors: usize) -> &'static Shape {
    SHAPES.iter().min_by_key(|shape| shape.cost(n, rows, multiprocessors)).expect("there are shapes")
}

/// Cost of the products of [`gemv`](super::gemv) by maximum rows of x, in instructions of a scheduler: those of a lane
/// for a unit of 32 columns (decoding, then 8 `dp4a` and 10 more per row of x).
const GEMV_TOKENS: usize = super::gemv::MOST_ROWS;
const GEMV_ISSUES_PER_UNIT: usize = 45 + 18 * GEMV_TOKENS;

/// Fixed cost of a launch, in instructions that a scheduler could issue meanwhile: two microseconds.
const LAUNCH: usize = 3500;

/// Whether [`product`] is expected to take less time for `n` rows of x than products of a few rows at a time.
///
/// Both are bound by instructions, because the matrix is in the L2 cache after the first of several small products. A
/// small product spreads any matrix over the whole device and decodes it again each time. A tile decodes its part once.
/// But a matrix with few rows has too few tiles, and each tile processes all columns alone. So the answer depends on
/// the number of rows per multiprocessor. The costs are counted in instructions, not measured.
pub(crate) fn prefers_gemm(n: usize, rows: usize, cols: usize, multiprocessors: usize) -> bool {
    let steps = cols.div_ceil(64);
    // Three steps are fetched, copied and decoded before anything overlaps.
    let tiles = LAUNCH + shape(n, rows, multiprocessors).cost(n, rows, multiprocessors) * (steps + 3);
    let lanes = 4 * 32 * multiprocessors;
    let few = LAUNCH + (rows * (cols / 32) * GEMV_ISSUES_PER_UNIT).div_ceil(lanes);
    tiles < few * n.div_ceil(GEMV_TOKENS)
}

/// The product of `weights` with `n` rows of `x`, on a device with int8 tensor cores.
///
/// # Safety
/// `weights` must be good for reading, and `x` for `n` rows of as many columns; the output's bias, where it has one,
/// for reading `rows` floats, and its output for writing `n` times as many, which none of the others overlap.
pub(crate) unsafe fn product(device: &Device, weights: Weights, x: Quantized, n: usize, output: Output) {
    let shape = shape(n, weights.rows, device.multiprocessors());
    // SAFETY: the caller's promise.
    unsafe { launch(device, weights, x, n, output, shape) }
}

/// With blocks of this shape.
///
/// # Safety
/// As [`product`].
unsafe fn launch(device: &Device, weights: Weights, x: Quantized, n: usize, output: Output, shape: &Shape) {
    let kernel = Kernel { source: Source::Gemm, format: Some(weights.ty), name: shape.name };
    let args = ProductArgs::new(weights, x, n, output);
    // SAFETY: blocks read rows of both matrices that exist, and of the weights whole sixteens of bytes, from addresses
    // that are multiples of 16 as the matrix begins at one, up to 15 bytes past the last. Each writes the elements of
    // the output that are its own. The rest is the caller's promise.
    unsafe { device.launch(kernel, shape.grid(n, weights.rows), THREADS, args) };
}
