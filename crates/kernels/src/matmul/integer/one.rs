//! One row of `x`: 16 rows of `W` side by side, each lane of the accumulator one of them.

use super::{Corrections, Job, LANES, groups_per_unit, sixteen_rows};
use crate::dot::{Format, UNIT};
use crate::isa::{Isa, Kernel};
use std::marker::PhantomData;
use std::ops::Range;

const CACHE_LINE_BYTES: usize = 64;

/// Rows r and r + 8 share vectors: half of each row's unit at a time. That halves the sums across lanes, which cost
/// more than the products.
const PAIRS: usize = LANES / 2;

pub(super) struct One<'a, T> {
    pub(super) job: &'a Job<'a>,
    pub(super) corrections: &'a Corrections,
    pub(super) range: Range<usize>,
    pub(super) format: PhantomData<T>,
}

impl<T: Format> Kernel for One<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let mut padded = Vec::new();
        for first in self.range.clone().step_by(LANES) {
            let (rows, stride) = sixteen_rows::<T>(&self.job.weights, first, &mut padded);
            // SAFETY: 16 rows of `stride` bytes lie behind `rows`; this task alone writes these 16 results.
            unsafe {
                let y = self.sixteen(isa, rows, stride);
                self.job.out.finish(isa, 0, first, y);
            }
        }
    }
}

impl<T: Format> One<'_, T> {
    /// # Safety
    /// 16 whole rows, `stride` bytes apart.
    #[inline(always)]
    unsafe fn sixteen<I: Isa>(&self, isa: I, rows: *const T, stride: usize) -> I::F {
        let units_per_block = T::ELEMS / UNIT;
        let units = self.job.x.cols / UNIT;
        let (scales, starts, sums) = (&self.corrections.scales, &self.corrections.starts, &self.corrections.sums);
        assert!(scales.len() == units && starts.len() == units * groups_per_unit::<T>());
        assert!(sums.len() == starts.len() && self.job.x.codes.len() == units * UNIT);
        // The 16 rows are one run of memory, but they are read as 16 streams, which hardware prefetchers lose. So the
        // next 16 rows are asked for in the order they lie in, as much per unit as a unit of 16 rows takes. Into the
        // second cache: in the first, long rows would push out the ones being read (measured on Zen 4: without it a
        // third to a half of the speed, two groups ahead no faster, into the first cache 30 % slower for long rows).
        let ahead_per_unit = LANES * size_of::<T>() / units_per_block;
        let mut ahead = rows.cast::<u8>().wrapping_add(LANES * stride);
        let mut acc = isa.splat(0.0);
        let mut supers = acc;
        for u in 0..units {
            let mut line = 0;
            while line < ahead_per_unit {
                isa.prefetch(ahead.wrapping_add(line));
                line += CACHE_LINE_BYTES;
            }
            ahead = ahead.wrapping_add(ahead_per_unit);

            let (block, unit) = (u / units_per_block, u % units_per_block);
            // SAFETY: `block` is within the row, each row within the 16; activations have 32 bytes per unit.
            unsafe {
                let a = isa.doubled(self.job.x.codes.as_ptr().add(u * UNIT));
                let column = rows.add(block);
                if unit == 0 {
                    supers = T::super_scales(isa, column, stride);
                }
                let zero = isa.zero_quads();
                let mut parts = [[zero; PAIRS]; 2];
                for r in 0..PAIRS {
                    let (top, bottom) = (column.byte_add(r * stride), column.byte_add((r + PAIRS) * stride));
                    let w = T::codes_of_two(isa, top, bottom, unit);
                    parts[0][r] = dot::<I, T>(isa, zero, w[0], a[0]);
                    let acc = if T::SPLIT { zero } else { parts[0][r] };
                    parts[1][r] = dot::<I, T>(isa, acc, w[1], a[1]);
                }
                // Where a group is 32 elements, the second part already holds both halves.
                let second = isa.reduce(parts[1]);
                let groups = if T::SPLIT { [isa.reduce(parts[0]), second] } else { [second; 2] };
                let w = T::scales(isa, column, stride, unit, supers);
                for half in 0..groups_per_unit::<T>() {
                    let g = u * groups_per_unit::<T>() + half;
                    let dot = isa.to_float(isa.add_int(groups[half], isa.splat_int(starts[g])));
                    acc = isa.fma(dot, isa.mul(w[half], isa.splat(scales[u])), acc);
                    if T::AFFINE {
                        acc = isa.fma(T::mins(isa, column, stride, unit, half), isa.splat(sums[g]), acc);
                    }
                }
            }
        }
        acc
    }
}

#[inline(always)]
fn dot<I: Isa, T: Format>(isa: I, acc: I::Q, w: I::B, a: I::B) -> I::Q {
    if T::SIGNED { isa.dot_i8(acc, w, a) } else { isa.dot_u7(acc, w, a) }
}
