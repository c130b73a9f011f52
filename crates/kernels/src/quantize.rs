//! Activations as int8 blocks of 32 with an f32 scale: the right-hand side of every integer product.

use crate::dot::UNIT;
use crate::isa::{Isa, Kernel, Supported};
use crate::shared::SharedMut;
use crate::team::Team;

/// Blocks whose largest magnitude is below this are taken as zero: the inverse of their scale would overflow.
const SMALLEST_AMAX: f32 = 1e-30;

/// Rows of activations, quantized. The buffers are reused from product to product.
#[derive(Debug, Default)]
pub(crate) struct QuantizedRows {
    /// Elements in a row.
    pub(crate) cols: usize,
    /// Codes, -127..=127: `[rows, cols]`.
    pub(crate) codes: Vec<u8>,
    /// Scales, `amax / 127`: `[rows, cols / 32]`.
    pub(crate) scales: Vec<f32>,
    /// Sums of the codes of each 16 elements: `[rows, cols / 16]`.
    pub(crate) sums: Vec<i32>,
}

impl QuantizedRows {
    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.codes.len() / self.cols
    }

    /// Quantizes `x`, `[rows, cols]`: code = nearest(x * 127 / amax), ties to even.
    pub(crate) fn fill(&mut self, team: &Team, isa: Supported, x: &[f32], cols: usize) {
        assert!(cols.is_multiple_of(UNIT) && x.len().is_multiple_of(cols), "whole rows of whole blocks");
        let rows = x.len() / cols;
        self.cols = cols;
        self.codes.resize(x.len(), 0);
        self.scales.resize(x.len() / UNIT, 0.0);
        self.sums.resize(x.len() / 16, 0);
        let codes = SharedMut::new(&mut self.codes);
        let scales = SharedMut::new(&mut self.scales);
        let sums = SharedMut::new(&mut self.sums);
        let units_per_row = cols / UNIT;
        team.run_ranges(rows, 1, &|range| {
            let (first, units) = (range.start * units_per_row, range.len() * units_per_row);
            // SAFETY: the ranges of different tasks do not overlap.
            let (codes, scales, sums) = unsafe {
                (codes.slice(first * UNIT, units * UNIT), scales.slice(first, units), sums.slice(2 * first, 2 * units))
            };
            isa.dispatch(Quantize { x: &x[first * UNIT..][..units * UNIT], codes, scales, sums });
        });
    }
}

struct Quantize<'a> {
    x: &'a [f32],
    codes: &'a mut [u8],
    scales: &'a mut [f32],
    sums: &'a mut [i32],
}

impl Kernel for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for (u, x) in self.x.chunks_exact(UNIT).enumerate() {
            let codes = &mut self.codes[u * UNIT..][..UNIT];
            // SAFETY: `x` has 32 floats and `codes` 32 bytes.
            unsafe {
                let (a, b) = (isa.load(x.as_ptr()), isa.load(x.as_ptr().add(16)));
                // Infinite or not a number: such a block gets a scale that is not a number, and so do products with it.
                let amax = f32::from_bits(isa.largest_magnitude(a, b));
                let (scale, inverse) = match amax {
                    _ if !amax.is_finite() => (f32::NAN, 0.0),
                    _ if amax < SMALLEST_AMAX => (0.0, 0.0),
                    _ => (amax / 127.0, 127.0 / amax),
                };
                let zero = isa.splat(0.0);
                let (a, b) = if amax.is_finite() { (a, b) } else { (zero, zero) };
                let (a, b) = (isa.round(isa.mul(a, isa.splat(inverse))), isa.round(isa.mul(b, isa.splat(inverse))));
                self.scales[u] = scale;
                self.sums[2 * u] = isa.store_i8(codes.as_mut_ptr(), a);
                self.sums[2 * u + 1] = isa.store_i8(codes.as_mut_ptr().add(16), b);
            }
        }
    }
}
