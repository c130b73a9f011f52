//! Activations as int8 blocks of 32 with an f32 scale: the right-hand side of every integer product.

use crate::dot::UNIT;
use crate::isa::{Isa, Kernel, Supported};
use crate::shared::SharedMut;
use std::ops::Range;

/// Blocks whose largest magnitude is below this are taken as zero: the inverse of their scale would overflow.
const SMALLEST_AMAX: f32 = 1e-30;

/// Units that are quantized together.
const TOGETHER: usize = 16;

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

    /// Makes room for `x`, `[rows, cols]`; every row must then be [quantized](Filling::quantize).
    pub(crate) fn begin<'a>(&'a mut self, x: &'a [f32], cols: usize) -> Filling<'a> {
        assert!(cols.is_multiple_of(UNIT) && x.len().is_multiple_of(cols), "whole rows of whole blocks");
        self.cols = cols;
        self.codes.resize(x.len(), 0);
        self.scales.resize(x.len() / UNIT, 0.0);
        self.sums.resize(x.len() / 16, 0);
        let (codes, scales) = (SharedMut::new(&mut self.codes), SharedMut::new(&mut self.scales));
        Filling { x, cols, codes, scales, sums: SharedMut::new(&mut self.sums) }
    }
}

/// Rows that tasks quantize.
pub(crate) struct Filling<'a> {
    x: &'a [f32],
    cols: usize,
    codes: SharedMut<'a, u8>,
    scales: SharedMut<'a, f32>,
    sums: SharedMut<'a, i32>,
}

/// Some of the rows of a [`QuantizedRows`].
#[derive(Clone, Copy)]
pub(crate) struct Slice<'a> {
    pub(crate) codes: &'a [u8],
    pub(crate) scales: &'a [f32],
    pub(crate) sums: &'a [i32],
}

impl Slice<'_> {
    /// Row `m` of those that have `units` each.
    #[inline(always)]
    pub(crate) fn row(&self, m: usize, units: usize) -> Self {
        Self {
            codes: &self.codes[m * units * UNIT..][..units * UNIT],
            scales: &self.scales[m * units..][..units],
            sums: &self.sums[m * 2 * units..][..2 * units],
        }
    }
}

impl<'a> Filling<'a> {
    /// Quantizes some rows: code = nearest(x * 127 / amax), ties to even.
    ///
    /// # Safety
    /// No other task may work on these rows, and no [`Slice`] of them from an earlier call may be in use.
    pub(crate) unsafe fn quantize(&self, isa: Supported, rows: Range<usize>) -> Slice<'a> {
        let units_per_row = self.cols / UNIT;
        let (first, units) = (rows.start * units_per_row, rows.len() * units_per_row);
        // SAFETY: the caller's promise.
        let (codes, scales, sums) = unsafe {
            (
                self.codes.slice(first * UNIT, units * UNIT),
                self.scales.slice(first, units),
                self.sums.slice(2 * first, 2 * units),
            )
        };
        let x = &self.x[first * UNIT..][..units * UNIT];
        isa.dispatch(Quantize { x, codes: &mut *codes, scales: &mut *scales, sums: &mut *sums });
        Slice { codes, scales, sums }
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
        let Self { x, codes: out, scales, sums } = self;
        // Some units at a time: a vector then has the scales of all of them.
        let together = x.chunks(TOGETHER * UNIT).zip(out.chunks_mut(TOGETHER * UNIT));
        let results = scales.chunks_mut(TOGETHER).zip(sums.chunks_mut(2 * TOGETHER));
        for ((x, out), (scales, sums)) in together.zip(results) {
            let (x, out) = (x.as_chunks::<UNIT>().0, out.as_chunks_mut::<UNIT>().0);
            let mut amax = [0.0; TOGETHER];
            for (amax, x) in amax.iter_mut().zip(x) {
                // SAFETY: `x` has 32 floats.
                let (a, b) = unsafe { (isa.load(x.as_ptr()), isa.load(x.as_ptr().add(16))) };
                *amax = f32::from_bits(isa.largest_magnitude(a, b));
            }
            let (mut scale, mut inverse) = ([0.0; TOGETHER], [0.0; TOGETHER]);
            for u in 0..TOGETHER {
                (scale[u], inverse[u]) = scale_of(amax[u]);
            }
            scales.copy_from_slice(&scale[..scales.len()]);
            let sums = sums.as_chunks_mut::<2>().0;
            for (u, ((x, out), sums)) in x.iter().zip(out).zip(sums).enumerate() {
                let (amax, inverse) = (amax[u], inverse[u]);
                for half in 0..2 {
                    // SAFETY: `x` has 32 floats and `out` 32 bytes.
                    unsafe {
                        let codes = codes(isa, isa.load(x.as_ptr().add(16 * half)), amax, inverse);
                        sums[half] = isa.store_i8(out.as_mut_ptr().add(16 * half), codes);
                    }
                }
            }
        }
    }
}

/// Scale and codes of a block of 32. One that has an infinity or NaN gets codes 0 and a scale that is not a number, and
/// so do products with it.
#[inline(always)]
pub(crate) fn quantize_32<I: Isa>(isa: I, a: I::F, b: I::F) -> (f32, [I::N; 2]) {
    let amax = f32::from_bits(isa.largest_magnitude(a, b));
    let (scale, inverse) = scale_of(amax);
    (scale, [codes(isa, a, amax, inverse), codes(isa, b, amax, inverse)])
}

/// Scale of a block and what its elements are multiplied by, from its largest magnitude, which is infinity or above if
/// an element is not finite.
#[inline(always)]
pub(crate) fn scale_of(amax: f32) -> (f32, f32) {
    match amax {
        _ if !amax.is_finite() => (f32::NAN, 0.0),
        _ if amax < SMALLEST_AMAX => (0.0, 0.0),
        _ => (amax / 127.0, 127.0 / amax),
    }
}

/// The same for 16 blocks whose elements are not negative. Where one is NaN, so is the scale.
#[inline(always)]
pub(crate) fn scales_of<I: Isa>(isa: I, amax: I::F) -> (I::F, I::F) {
    let (smallest, zero, largest_code) = (isa.splat(SMALLEST_AMAX), isa.splat(0.0), isa.splat(127.0));
    let known = |x| isa.select_lt(amax, smallest, zero, x);
    (known(isa.div(amax, largest_code)), known(isa.div(largest_code, amax)))
}

/// Codes of some of a block's elements, with what [`scale_of`] found for the block.
#[inline(always)]
pub(crate) fn codes<I: Isa>(isa: I, x: I::F, amax: f32, inverse: f32) -> I::N {
    let x = if amax.is_finite() { x } else { isa.splat(0.0) };
    isa.round(isa.mul(x, isa.splat(inverse)))
}
