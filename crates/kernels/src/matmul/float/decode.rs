//! Quantized weights as f32, 16 rows side by side: every value is that of the scalar decoder, to the bit.
//!
//! Both compute `scale * (code - OFFSET)` and, where there are minima, add `min`, each step rounded once. The
//! two find the scales in different ways, which changes nothing: scales are exact in f32.
//!
//! Scales and minima of all 16 rows are found first, as vectors over rows. Then the codes, for as many rows at a time
//! as a vector of bytes holds, so that the sums of these rows stay in registers. The number of a unit is no constant in
//! these loops: unrolled they take minutes to compile.

use super::{Job, LANES, Lanes};
use crate::dot::{Column, Format, UNIT, for_each_unit};
use crate::isa::{Isa, Kernel, Supported};
use crate::matmul::Weights;
use crate::matmul::integer::{groups_per_unit, sixteen_rows};
use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Range;

/// What a quantized type needs to meet f32 activations.
#[derive(Clone, Copy)]
pub(in crate::matmul) struct Decoder {
    /// Decodes 16 rows from `first` on; those that are missing at the end repeat the last. The result has the vectors
    /// of `group` rows in turn: `[16 / group][cols / 16][group]`, so row by row where `group` is 1.
    pub(in crate::matmul) panel: fn(Supported, &Weights<'_>, first: usize, group: usize, out: &mut [Lanes]),
    /// Some rows times one row of `x`, without storing what was decoded.
    pub(in crate::matmul) one: fn(&Job<'_>, Supported, Range<usize>),
}

impl Decoder {
    pub(in crate::matmul) fn of<T: Format>() -> Self {
        Self {
            panel: |isa, weights, first, group, out| {
                isa.dispatch(Panel::<T> { weights, first, group, out, format: PhantomData });
            },
            one: |job, isa, range| isa.dispatch(One::<T> { job, range, format: PhantomData }),
        }
    }
}

/// Of 16 rows: `[groups][16 rows]`.
#[derive(Default)]
struct Scales {
    scales: Vec<Lanes>,
    /// Where the format has minima.
    mins: Vec<Lanes>,
    /// The last rows of a matrix, as `sixteen_rows` fills them up.
    padded: Vec<u8>,
}

thread_local! {
    /// Taken and put back, as in the integer product.
    static SCALES: Cell<Scales> = Cell::new(Scales::default());
}

impl Scales {
    /// # Safety
    /// 16 rows of `units` units each, `stride` bytes apart.
    #[inline(always)]
    unsafe fn read<I: Isa, T: Format>(&mut self, isa: I, rows: *const T, stride: usize, units: usize) {
        let units_per_block = T::ELEMS / UNIT;
        let groups = units * groups_per_unit(T::SPLIT);
        self.scales.resize(groups, Lanes::default());
        self.mins.resize(groups, Lanes::default());
        for block in 0..units / units_per_block {
            // SAFETY: the caller's promise.
            let header = unsafe { T::header(isa, Column::new(rows.add(block), stride)) };
            for_each_unit!(I, T, T::ROUND, unit => {
                let (scales, mins) = (T::scales(isa, header, unit), T::mins(isa, header, unit));
                for half in 0..groups_per_unit(T::SPLIT) {
                    let g = (block * units_per_block + unit) * groups_per_unit(T::SPLIT) + half;
                    // SAFETY: 16 floats each.
                    unsafe {
                        isa.store(self.scales[g].0.as_mut_ptr(), scales[half]);
                        if T::AFFINE {
                            isa.store(self.mins[g].0.as_mut_ptr(), mins[half]);
                        }
                    }
                }
            });
        }
    }

    /// Scales and minima of unit `u`: of its first 16 elements and of the last.
    #[inline(always)]
    fn unit<T: Format>(&self, u: usize) -> Unit<'_> {
        let (first, last) = (u * groups_per_unit(T::SPLIT), (u + 1) * groups_per_unit(T::SPLIT) - 1);
        Unit { scales: [&self.scales[first].0, &self.scales[last].0], mins: [&self.mins[first].0, &self.mins[last].0] }
    }
}

/// Scales and minima of 16 rows.
#[derive(Clone, Copy)]
struct Unit<'a> {
    scales: [&'a [f32; LANES]; 2],
    mins: [&'a [f32; LANES]; 2],
}

impl Unit<'_> {
    /// 16 elements: `codes` has those of row `row` as the `at`th of its part; `half` tells the first from the last.
    #[inline(always)]
    fn values<I: Isa, T: Format>(self, isa: I, codes: I::B, at: usize, row: usize, half: usize) -> I::F {
        // Prepared a second time, two's complement bytes are as they were.
        let codes = isa.widen(if T::SIGNED { isa.prepare_i8(codes) } else { codes }, at);
        let codes = if T::OFFSET == 0 { codes } else { isa.add_int(codes, isa.splat_int(-T::OFFSET)) };
        let values = isa.mul(isa.splat(self.scales[half][row]), isa.to_float(codes));
        if T::AFFINE { isa.add(values, isa.splat(self.mins[half][row])) } else { values }
    }
}

struct Panel<'a, T> {
    weights: &'a Weights<'a>,
    first: usize,
    group: usize,
    out: &'a mut [Lanes],
    format: PhantomData<T>,
}

impl<T: Format> Kernel for Panel<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { weights, first, group, out, .. } = self;
        let (units, len) = (weights.cols / UNIT, weights.cols / LANES);
        assert!(out.len() == LANES * len && LANES.is_multiple_of(group) && len == 2 * units, "memory for 16 rows");
        let (mut scales, mut padded) = (SCALES.take(), Vec::new());
        std::mem::swap(&mut padded, &mut scales.padded);
        let (rows, stride) = sixteen_rows::<T>(weights, first, &mut padded);
        let units_per_block = T::ELEMS / UNIT;
        // SAFETY: 16 whole rows of `stride` bytes lie behind `rows`.
        unsafe { scales.read(isa, rows, stride, units) };
        for part in 0..I::PARTS {
            for block in 0..units / units_per_block {
                // SAFETY: as above; the block is within its row.
                let column = unsafe { Column::new(rows.add(block), stride).part::<I>(part) };
                for unit in 0..units_per_block {
                    // SAFETY: the blocks of `column` are readable.
                    let codes = unsafe { T::codes(isa, column, unit) };
                    let u = block * units_per_block + unit;
                    let scales = scales.unit::<T>(u);
                    for at in 0..LANES / I::PARTS {
                        let row = part + at * I::PARTS;
                        let start = row / group * group * len + row % group + 2 * u * group;
                        for half in 0..2 {
                            let values = scales.values::<I, T>(isa, codes[half], at, row, half);
                            // SAFETY: 16 floats.
                            unsafe { isa.store(out[start + half * group].0.as_mut_ptr(), values) };
                        }
                    }
                }
            }
        }
        std::mem::swap(&mut padded, &mut scales.padded);
        SCALES.set(scales);
    }
}

/// One row of `x`. The order is that of `few`: lane l of a row's accumulator takes elements l, l + 16, ...
struct One<'a, T> {
    job: &'a Job<'a>,
    range: Range<usize>,
    format: PhantomData<T>,
}

impl<T: Format> Kernel for One<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let w = &self.job.weights;
        let (mut scales, mut padded) = (SCALES.take(), Vec::new());
        std::mem::swap(&mut padded, &mut scales.padded);
        for first in self.range.clone().step_by(LANES) {
            let (rows, stride) = sixteen_rows::<T>(w, first, &mut padded);
            // SAFETY: 16 whole rows of `stride` bytes lie behind `rows`; this task alone writes these 16 results.
            unsafe {
                scales.read(isa, rows, stride, w.cols / UNIT);
                let y = sixteen(isa, rows, stride, &scales, self.job.x);
                self.job.out.finish(isa, 0, first, [y]);
            }
        }
        std::mem::swap(&mut padded, &mut scales.padded);
        SCALES.set(scales);
    }
}

/// 16 rows times `x`.
///
/// # Safety
/// 16 whole rows, `stride` bytes apart, as long as `x`.
#[inline(always)]
unsafe fn sixteen<I: Isa, T: Format>(isa: I, rows: *const T, stride: usize, scales: &Scales, x: &[f32]) -> I::F {
    let units_per_block = T::ELEMS / UNIT;
    let mut sums = [isa.splat(0.0); LANES];
    for part in 0..I::PARTS {
        // As many as a part has rows, which is at most 4.
        let mut acc = [isa.splat(0.0); 4];
        for (block, x) in x.chunks_exact(T::ELEMS).enumerate() {
            // SAFETY: the caller's promise.
            let column = unsafe { Column::new(rows.add(block), stride).part::<I>(part) };
            for unit in 0..units_per_block {
                // SAFETY: the blocks of `column` are readable; 32 floats of `x`.
                let (codes, x) = unsafe {
                    let x = x[unit * UNIT..][..UNIT].as_ptr();
                    (T::codes(isa, column, unit), [isa.load(x), isa.load(x.add(LANES))])
                };
                let scales = scales.unit::<T>(block * units_per_block + unit);
                for at in 0..LANES / I::PARTS {
                    let row = part + at * I::PARTS;
                    for half in 0..2 {
                        acc[at] = isa.fma(scales.values::<I, T>(isa, codes[half], at, row, half), x[half], acc[at]);
                    }
                }
            }
        }
        for at in 0..LANES / I::PARTS {
            sums[part + at * I::PARTS] = acc[at];
        }
    }
    isa.sum_each(sums)
}
