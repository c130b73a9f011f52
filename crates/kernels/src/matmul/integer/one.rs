//! One row of `x`: 16 rows of `W` side by side, each lane of the accumulator one of them.

use super::{Corrections, Job, LANES, excess, groups_per_unit, sixteen_rows, unit_codes};
use crate::dot::{Column, Format, Pair, UNIT, for_each_part, for_each_unit};
use crate::isa::{Isa, Kernel, Operations};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

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
                self.job.out.finish(isa, 0, first, [y]);
            }
        }
    }
}

impl<T: Format> One<'_, T> {
    /// # Safety
    /// 16 whole rows, `stride` bytes apart.
    #[inline(always)]
    unsafe fn sixteen<I: Isa>(&self, isa: I, rows: *const T, stride: usize) -> I::F {
        const { assert!(!T::RUNS || T::ELEMS == 8 * UNIT && !T::SIGNED) }
        let units_per_block = T::ELEMS / UNIT;
        let (scales, starts, sums) = (&self.corrections.scales, &self.corrections.starts, &self.corrections.sums);
        let (codes, groups_per_block) = (&self.job.x.codes, units_per_block * groups_per_unit(T::SPLIT));
        // The 16 rows are one run of memory, but they are read as 16 streams, which hardware prefetchers lose. So the
        // next 16 rows are asked for in the order they lie in, as much per unit as a unit of 16 rows takes. Into the
        // second cache: in the first, long rows would push out the ones being read (measured on Zen 4: without it a
        // third to a half of the speed, two groups ahead no faster, into the first cache 30 % slower for long rows).
        let ahead_per_unit = LANES * size_of::<T>() / units_per_block;
        let mut ahead = rows.cast::<u8>().wrapping_add(LANES * stride);
        let mut acc = isa.splat(0.0);
        // All cut to blocks beforehand, so that no index in the loop needs a check: checks would keep its parts apart.
        let blocks = codes.chunks_exact(T::ELEMS).zip(scales.chunks_exact(units_per_block));
        let corrections = starts.chunks_exact(groups_per_block).zip(sums.chunks_exact(groups_per_block));
        for (block, ((codes, scales), (starts, sums))) in blocks.zip(corrections).enumerate() {
            // SAFETY: `block` is within the row, each row within the 16.
            let (column, header) = unsafe {
                let column = Column::new(rows.add(block), stride);
                (column, T::header(isa, column))
            };
            let mut pair = Pair::empty(isa);
            let mut four = FourUnits::<I>::uninit();
            for_each_unit!(I, T, T::ROUND, unit => {
                // Else all prefetches of the unrolled units end up in one heap, and the queue of misses fills.
                if unit > 0 {
                    isa.in_order();
                }
                isa.prefetch_bytes(ahead, ahead_per_unit);
                ahead = ahead.wrapping_add(ahead_per_unit);

                if T::PAIRED && unit.is_multiple_of(2) {
                    // SAFETY: the blocks of `column` are readable.
                    pair = unsafe { T::pair(isa, column, unit / 2) };
                }
                let groups = if I::HOLDS_UNIT && T::RUNS {
                    if unit.is_multiple_of(4) {
                        let a = codes[unit * UNIT..][..4 * UNIT].as_ptr();
                        // SAFETY: 16 rows are readable; activations have 32 bytes per unit.
                        unsafe { multiply_four(isa, rows.add(block), stride, unit, a, &mut four) };
                    }
                    // SAFETY: the unit is one of the last four that were multiplied.
                    unsafe { isa.reduce_rows(four.as_ptr().cast::<I::Q>().add(unit % 4 * LANES), T::BITS, T::SPLIT) }
                } else {
                    // SAFETY: the blocks of `column` are readable; activations have 32 bytes per unit.
                    unsafe { dots(isa, column, &pair, unit, codes[unit * UNIT..][..UNIT].as_ptr()) }
                };
                let w = T::scales(isa, header, unit);
                let min = T::mins(isa, header, unit);
                for half in 0..groups_per_unit(T::SPLIT) {
                    let g = unit * groups_per_unit(T::SPLIT) + half;
                    let mut dot = groups[half];
                    if excess::<I, T>() != 0 {
                        dot = isa.add_int(dot, isa.splat_int(starts[g]));
                    }
                    acc = isa.fma(isa.to_float(dot), isa.mul(w[half], isa.splat(scales[unit])), acc);
                    if T::AFFINE {
                        acc = isa.fma(min[half], isa.splat(sums[g]), acc);
                    }
                }
            });
        }
        acc
    }
}

/// Sums of products of a unit of 16 rows with 32 activations: of the first 16 elements and of the last, or twice of
/// all 32 where those share a scale.
///
/// # Safety
/// Blocks of 16 rows, and 32 bytes behind `a`.
#[inline(always)]
unsafe fn dots<I: Isa, T: Format>(isa: I, rows: Column<T>, pair: &Pair<I>, unit: usize, a: *const u8) -> [I::N; 2] {
    let zero = isa.splat_quads(0);
    let mut sums = [isa.parts(zero); 2];
    // SAFETY: the caller's promise.
    unsafe {
        let a = [isa.repeated(a), isa.repeated(a.add(16))];
        for_each_part!(I, part => {
            let w = unit_codes::<I, T>(isa, rows, pair, part, unit);
            let first = dot::<I, T>(isa, zero, w[0], a[0]);
            let last = dot::<I, T>(isa, if T::SPLIT { zero } else { first }, w[1], a[1]);
            // Codes that are looked up take so long that reading ahead is worth it.
            let in_turn = !T::PAIRED;
            sums[0][part] = if T::SPLIT && in_turn { isa.made(first) } else { first };
            sums[1][part] = if in_turn { isa.made(last) } else { last };
        });
    }
    let last = reduce::<I, T>(isa, sums[1]);
    [if T::SPLIT { reduce::<I, T>(isa, sums[0]) } else { last }, last]
}

#[inline(always)]
fn dot<I: Isa, T: Format>(isa: I, acc: I::Q, w: I::B, a: I::B) -> I::Q {
    if T::SIGNED { isa.dot_i8(acc, w, a) } else { isa.dot_few(acc, w, a) }
}

#[inline(always)]
fn reduce<I: Isa, T: Format>(isa: I, rows: I::Parts<I::Q>) -> I::N {
    if T::SIGNED { isa.reduce(rows) } else { isa.reduce_few(rows, T::BITS, if T::SPLIT { 1 } else { 2 }) }
}

/// Products of four units of 16 rows, as [`Operations::reduce_rows`](crate::isa::Operations::reduce_rows) wants each.
type FourUnits<I> = MaybeUninit<[[<I as Operations>::Q; LANES]; 4]>;

/// Products of four units, from `unit` on, with their activations. They share what they read of a row.
///
/// # Safety
/// Blocks of 16 rows, and 128 bytes behind `a`.
#[inline(always)]
unsafe fn multiply_four<I: Isa, T: Format>(
    isa: I,
    rows: *const T,
    stride: usize,
    unit: usize,
    a: *const u8,
    products: &mut FourUnits<I>,
) {
    let products = products.as_mut_ptr().cast::<I::Q>();
    // SAFETY: the caller's promise.
    unsafe {
        let a = [isa.load_bytes(a), isa.load_bytes(a.add(32)), isa.load_bytes(a.add(64)), isa.load_bytes(a.add(96))];
        for row in 0..LANES {
            let column = Column::<T>::of_row(rows.wrapping_byte_add(row * stride));
            // All read before any is written: the compiler could not tell the two apart.
            let mut dots = [isa.splat_quads(0); 4];
            for i in 0..4 {
                dots[i] = isa.dot_few(dots[i], T::codes(isa, column, unit + i)[0], a[i]);
            }
            for i in 0..4 {
                products.add(i * LANES + row).write(dots[i]);
            }
        }
    }
}
