//! Many rows of `x`: 16 rows of `W` decoded once into a panel. [`Multiply`] multiplies one or two panels at a time.
//! For few rows of `x` a panel holds only some columns of `W` at a time: it stays in the first cache, and sums wait in
//! memory.
//!
//! A step of the panel holds 4 consecutive codes of each of 16 rows, 64 bytes: one multiply-accumulate of a dot
//! instruction against 4 activations of one row of `x`, the same for all lanes. Lane = row of `W`, so nothing is ever
//! summed across lanes.

use super::multiply::Multiply;
use super::{CACHE_LINE_BYTES, Corrections, Job, LANES, Lanes, STEPS, groups_per_unit, sixteen_rows, unit_codes};
use crate::dot::{Column, Format, Pair, UNIT, for_each_unit};
use crate::isa::{Isa, Kernel};
use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Range;

/// `INTERLEAVED` says how the rows of `W` lie.
pub(super) struct Many<'a, T, const INTERLEAVED: bool> {
    pub(super) job: &'a Job<'a>,
    pub(super) corrections: &'a Corrections,
    pub(super) range: Range<usize>,
    pub(super) format: PhantomData<T>,
}

/// 16 rows of `W`, unpacked.
#[derive(Default)]
pub(super) struct Panel {
    /// `[units][8 steps][16 rows]` of 4 codes.
    pub(super) codes: Vec<Step>,
    /// `[groups][16 rows]`.
    pub(super) scales: Vec<Lanes>,
    /// The same, where the format has minima.
    pub(super) mins: Vec<Lanes>,
}

/// 4 codes of each of 16 rows; the ISA may mix those of 4 steps.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
pub(super) struct Step(pub(super) [u32; LANES]);

/// Asks for the next rows of `W`, a little with every step of the product: asked for where they are decoded, they would
/// come while nothing is multiplied. With up to [`AHEAD_WHILE_DECODING`] rows of `x`, decoding takes most of the time.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    next: *const u8,
    lines: usize,
    per_step: usize,
}

impl Ahead {
    #[inline(always)]
    pub(super) fn step<I: Isa>(&mut self, isa: I) {
        let lines = self.lines.min(self.per_step);
        isa.prefetch_bytes(self.next, lines * CACHE_LINE_BYTES);
        self.next = self.next.wrapping_add(lines * CACHE_LINE_BYTES);
        self.lines -= lines;
    }
}

thread_local! {
    /// Taken and put back rather than borrowed in a closure: a closure would be compiled without the ISA's features.
    static PANELS: Cell<[Panel; 2]> = Cell::new(Default::default());
    /// Sums of all tiles while panels hold only some of the columns.
    static SUMS: Cell<Vec<Lanes>> = const { Cell::new(Vec::new()) };
}

/// Up to so many rows of `x`, a panel holds [`FEW_UNITS`] at a time. (Measured on Zen 5, 410m Q4_0 and Q4_K_M: 2 to 5 rows
/// take 8 to 17 % less time, 6 the same, 8 to 16 some 2 % more.)
const FEW_ROWS: usize = 6;
/// Units of columns that are unpacked at a time then: two panels of them fit the first cache.
const FEW_UNITS: usize = 16;
/// Up to so many rows of `x`, the next rows of `W` are asked for while these are decoded. (Zen 5, Q4_0 from memory, one
/// thread: 2, 3 and 4 rows take 39, 30 and 17 % less time than with the requests between the products.)
const AHEAD_WHILE_DECODING: usize = 4;

/// What the panels hold.
#[derive(Clone, Copy)]
pub(super) struct Part {
    /// The first of their rows of `W`, which are columns of the product.
    pub(super) column: usize,
    /// The first group of each row, and the one after the last.
    pub(super) first: usize,
    pub(super) end: usize,
    pub(super) is_last: bool,
}

impl Part {
    /// Whether they are all columns.
    pub(super) fn is_whole(self) -> bool {
        self.first == 0 && self.is_last
    }
}

impl<T: Format, const INTERLEAVED: bool> Kernel for Many<'_, T, INTERLEAVED> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (mut panels, mut sums) = (PANELS.take(), SUMS.take());
        let mut padded = Vec::new();
        let units_per_block = T::ELEMS / UNIT;
        let blocks = self.job.x.cols / T::ELEMS;
        let at_once = if self.job.x.len() <= FEW_ROWS { (FEW_UNITS / units_per_block).max(1) } else { blocks };
        let rows_of_tile = I::TUNING.integer_tile.w * LANES;
        for first in self.range.clone().step_by(rows_of_tile) {
            let end = self.range.end.min(first + rows_of_tile);
            let mut ahead = self.ahead(end, rows_of_tile);
            for block in (0..blocks).step_by(at_once) {
                let last = blocks.min(block + at_once);
                for (panel, first) in panels.iter_mut().zip((first..end).step_by(LANES)) {
                    let (rows, stride) = sixteen_rows::<T>(&self.job.weights, first, &mut padded);
                    let next = rows.cast::<u8>().wrapping_add(rows_of_tile * stride + block * LANES * size_of::<T>());
                    let next = (self.job.x.len() <= AHEAD_WHILE_DECODING).then_some(next);
                    // SAFETY: 16 whole rows of `stride` bytes lie behind `rows`, of `blocks` blocks, one after another or
                    // interleaved.
                    unsafe {
                        let rows = if INTERLEAVED { rows.add(LANES * block) } else { rows.add(block) };
                        panel.decode::<I, T, INTERLEAVED>(isa, rows, stride, (last - block) * units_per_block, next);
                    }
                }
                let groups = units_per_block * groups_per_unit(T::SPLIT);
                let part = Part { column: first, first: block * groups, end: last * groups, is_last: last == blocks };
                let panels = &panels[..(end - first).div_ceil(LANES)];
                self.multiply(isa, panels, part, &mut sums, &mut ahead);
            }
        }
        PANELS.set(panels);
        SUMS.set(sums);
    }
}

impl Panel {
    /// Asks for as many bytes from `ahead` on as it decodes.
    ///
    /// # Safety
    /// 16 rows of `units` units each: `stride` bytes apart, or interleaved from `rows` on.
    #[inline(always)]
    unsafe fn decode<I: Isa, T: Format, const INTERLEAVED: bool>(
        &mut self,
        isa: I,
        rows: *const T,
        stride: usize,
        units: usize,
        ahead: Option<*const u8>,
    ) {
        let units_per_block = T::ELEMS / UNIT;
        let ahead_per_unit = if ahead.is_some() { LANES * size_of::<T>() / units_per_block } else { 0 };
        let mut ahead = ahead.unwrap_or(std::ptr::null());
        let groups = units * groups_per_unit(T::SPLIT);
        self.codes.resize(units * STEPS, Step::default());
        self.scales.resize(groups, Lanes::default());
        self.mins.resize(groups, Lanes::default());
        // As pointers: neither a check nor a length read again per unit.
        let (codes, scales_at, mins_at) = (self.codes.as_mut_ptr(), self.scales.as_mut_ptr(), self.mins.as_mut_ptr());
        for block in 0..units / units_per_block {
            // SAFETY: the caller's promise.
            let (column, header) = unsafe {
                let column = if INTERLEAVED {
                    Column::interleaved(rows.add(LANES * block))
                } else {
                    Column::new(rows.add(block), isa.renewed(stride))
                };
                (column, T::header(isa, column))
            };
            let mut pair = Pair::empty(isa);
            for_each_unit!(I, T, T::ROUND, unit => {
                let u = block * units_per_block + unit;
                isa.prefetch_bytes(ahead, ahead_per_unit);
                ahead = ahead.wrapping_add(ahead_per_unit);
                let (scales, mins) = (T::scales(isa, header, unit), T::mins(isa, header, unit));
                for half in 0..groups_per_unit(T::SPLIT) {
                    let g = u * groups_per_unit(T::SPLIT) + half;
                    // SAFETY: group `g` of `groups`, 16 floats each.
                    unsafe {
                        isa.store(scales_at.add(g).cast(), scales[half]);
                        if T::AFFINE {
                            isa.store(mins_at.add(g).cast(), mins[half]);
                        }
                    }
                }
                if T::PAIRED && unit.is_multiple_of(2) {
                    // SAFETY: the blocks of `column` are readable.
                    pair = unsafe { T::pair(isa, column, unit / 2) };
                }
                let mut halves = [isa.parts(isa.splat_bytes(0)); 2];
                for part in 0..I::PARTS {
                    // SAFETY: the blocks of `column` are readable; the pair is that of the unit.
                    [halves[0][part], halves[1][part]] = unsafe { unit_codes::<I, T>(isa, column, &pair, part, unit) };
                }
                for half in 0..2 {
                    let steps = if INTERLEAVED { isa.as_words(halves[half]) } else { isa.transpose(halves[half]) };
                    // SAFETY: half of unit `u` of `units`: 4 steps of 64 bytes.
                    unsafe { isa.store_steps(codes.add(u * STEPS + 4 * half).cast(), steps) };
                }
            });
        }
    }
}

impl<T: Format, const INTERLEAVED: bool> Many<'_, T, INTERLEAVED> {
    /// What asks for `rows` rows from `first` on, while all tiles of the panels before are multiplied.
    fn ahead(&self, first: usize, rows: usize) -> Ahead {
        let Job { weights, x, .. } = self.job;
        let stride = weights.data.len() / weights.rows;
        let rows = if x.len() > AHEAD_WHILE_DECODING { rows.min(weights.rows - first) } else { 0 };
        let lines = (rows * stride).div_ceil(CACHE_LINE_BYTES);
        let steps = self.corrections.tiles.len() * (x.cols / UNIT) * groups_per_unit(T::SPLIT);
        Ahead { next: weights.data.as_ptr().wrapping_add(first * stride), lines, per_step: lines.div_ceil(steps) }
    }

    #[inline(always)]
    fn multiply<I: Isa>(&self, isa: I, panels: &[Panel], part: Part, sums: &mut Vec<Lanes>, ahead: &mut Ahead) {
        let Self { job, corrections, .. } = *self;
        /// An arm for every kind of format: a constant chooses it.
        macro_rules! for_kind {
            ($($split:literal $affine:literal $bits:literal,)*) => {
                const { assert!(false $(|| matches!((T::SPLIT, T::AFFINE, T::BITS), ($split, $affine, $bits)))*) }
                match (T::SPLIT, T::AFFINE, T::BITS) {
                    $(($split, $affine, $bits) => {
                        isa.call(Multiply::<$split, $affine, $bits> { job, corrections, panels, part, sums, ahead });
                    })*
                    _ => unreachable!("checked above"),
                }
            };
        }
        for_kind! {
            false false 4,
            false true 4,
            false false 5,
            false true 5,
            false false 8,
            true true 2,
            true false 3,
            true false 6,
            true false 8,
        }
    }
}
