//! Products of quantized weights with many rows, on tensor cores.

use super::Output;
use super::product::{ProductArgs, Weights};
use super::quantize::Quantized;
use crate::compile::{Kernel, Source};
use crate::device::Device;

#[cfg(test)]
mod tests;

/// What a block of a kernel computes.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    name: &'static str,
    /// Rows of the weights.
    rows: usize,
    /// Rows of x.
    tokens: usize,
    /// Instructions that one of a multiprocessor's four schedulers issues for a block and 64 columns: counted in the
    /// machine code of Q4_K for sm_90.
    issues: usize,
}

/// Threads of a block, of every shape: a warp to each scheduler.
const THREADS: usize = 128;

/// Of every shape the next has a fraction of the outputs: few rows of either matrix must still reach all of a device.
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

    /// What 64 columns of a product cost the busiest scheduler, in instructions. A block alone on a multiprocessor
    /// leaves each scheduler one warp, which waits for its own results: it takes about as long as two together.
    fn cost(&self, n: usize, rows: usize, multiprocessors: usize) -> usize {
        self.blocks(n, rows).div_ceil(multiprocessors).max(2) * self.issues
    }
}

/// The shape for a product: the cheapest.
fn shape(n: usize, rows: usize, multiprocessors: usize) -> &'static Shape {
    SHAPES.iter().min_by_key(|shape| shape.cost(n, rows, multiprocessors)).expect("there are shapes")
}

/// What the products of [`gemv`](super::gemv), which take up to this many rows of x each, cost a scheduler in
/// instructions: some for a unit of 32 columns (decoded, then 8 `dp4a` and 10 more per row of x) by a lane.
const GEMV_TOKENS: usize = super::gemv::MOST_ROWS;
const GEMV_ISSUES_PER_UNIT: usize = 45 + 18 * GEMV_TOKENS;

/// What a launch costs however little it does, in instructions that a scheduler could have issued: two microseconds.
const LAUNCH: usize = 3500;

/// Whether [`product`] is expected to take less time for `n` rows of x than products of a few rows at a time.
///
/// Both are bound by the instructions they issue, as a matrix is in the L2 cache after the first of several small
/// products. A small product spreads any matrix over all of a device and decodes it anew each time. A tile decodes its
/// part once, but of matrices with few rows there are too few tiles, and each walks through all columns alone. So the
/// answer depends on how many rows a multiprocessor has. The counts are of instructions, not of measured time.
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
