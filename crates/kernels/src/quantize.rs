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
        let Self { x, codes, scales, sums } = self;
        // Some units at a time, so that what has to be found for a unit alone is found for many in vectors.
        let together = x.chunks(TOGETHER * UNIT).zip(codes.chunks_mut(TOGETHER * UNIT));
        let results = scales.chunks_mut(TOGETHER).zip(sums.chunks_mut(2 * TOGETHER));
        for ((x, codes), (scales, sums)) in together.zip(results) {
            let (x, codes) = (x.as_chunks::<UNIT>().0, codes.as_chunks_mut::<UNIT>().0);
            let mut amax = [0.0; TOGETHER];
            for (amax, x) in amax.iter_mut().zip(x) {
                // SAFETY: `x` has 32 floats.
                let (a, b) = unsafe { (isa.load(x.as_ptr()), isa.load(x.as_ptr().add(16))) };
                *amax = f32::from_bits(isa.largest_magnitude(a, b));
            }
            let (mut scale, mut inverse) = ([0.0; TOGETHER], [0.0; TOGETHER]);
            for u in 0..TOGETHER {
                // Infinite or not a number: such a unit gets a scale that is not a number, and so do products with it.
                (scale[u], inverse[u]) = match amax[u] {
                    _ if !amax[u].is_finite() => (f32::NAN, 0.0),
                    _ if amax[u] < SMALLEST_AMAX => (0.0, 0.0),
                    _ => (amax[u] / 127.0, 127.0 / amax[u]),
                };
            }
            scales.copy_from_slice(&scale[..scales.len()]);
            let sums = sums.as_chunks_mut::<2>().0;
            for (u, ((x, codes), sums)) in x.iter().zip(codes).zip(sums).enumerate() {
                // SAFETY: `x` has 32 floats and `codes` 32 bytes.
                unsafe {
                    let zero = isa.splat(0.0);
                    let (a, b) = if amax[u].is_finite() {
                        (isa.load(x.as_ptr()), isa.load(x.as_ptr().add(16)))
                    } else {
                        (zero, zero)
                    };
                    let inverse = isa.splat(inverse[u]);
                    *sums = [
                        isa.store_i8(codes.as_mut_ptr(), isa.round(isa.mul(a, inverse))),
                        isa.store_i8(codes.as_mut_ptr().add(16), isa.round(isa.mul(b, inverse))),
                    ];
                }
            }
        }
    }
}
