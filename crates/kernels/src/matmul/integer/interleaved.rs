//! Few rows of `x`, and rows of `W` that are interleaved: one stream of memory, no sum across lanes, and no panel.

use super::{Corrections, Job, LANES, STEPS, for_size, groups_per_unit};
use crate::dot::{Column, Format, UNIT, for_each_unit};
use crate::isa::{Isa, Kernel};
use std::marker::PhantomData;
use std::ops::Range;

/// How far ahead memory is asked for, in bytes. Hardware prefetchers know such a stream, but stop at every page.
const AHEAD: usize = 4096;

pub(super) struct Interleaved<'a, T> {
    pub(super) job: &'a Job<'a>,
    pub(super) corrections: &'a Corrections,
    pub(super) range: Range<usize>,
    pub(super) format: PhantomData<T>,
}

impl<T: Format> Kernel for Interleaved<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { job, corrections, .. } = self;
        let row_bytes = job.weights.data.len() / job.weights.rows;
        for column in self.range.clone().step_by(LANES) {
            let rows = &job.weights.data[column * row_bytes..][..LANES * row_bytes];
            // Tiles after the first find the rows in the cache.
            for &(first, size) in &corrections.tiles {
                for_size!(size, I::TUNING.integer_tile.x, M => if I::TUNING.is_direct(M, T::SPLIT) {
                    isa.call(Tile::<T, M> { job, corrections, rows, column, first, format: PhantomData });
                } else {
                    unreachable!("a tile has no more rows than x")
                });
            }
        }
    }
}

/// `M` rows of `x` from `first` on times 16 rows of `W`, which are columns of the product from `column` on. A function of
/// its own, so that registers are given out for one size alone.
struct Tile<'a, T, const M: usize> {
    job: &'a Job<'a>,
    corrections: &'a Corrections,
    rows: &'a [u8],
    column: usize,
    first: usize,
    format: PhantomData<T>,
}

impl<T: Format, const M: usize> Kernel for Tile<'_, T, M> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { first, corrections: c, .. } = self;
        let units_per_block = T::ELEMS / UNIT;
        let groups_per_block = units_per_block * groups_per_unit(T::SPLIT);
        let units = self.job.x.cols / UNIT;
        let groups = units * groups_per_unit(T::SPLIT);
        let bytes_per_unit = LANES * size_of::<T>() / units_per_block;
        // All cut to blocks beforehand, so that no index in the loop needs a check.
        let codes = c.codes[first * units * STEPS..][..M * units * STEPS].as_chunks::<M>().0;
        let scales = c.scales[first * units..][..M * units].as_chunks::<M>().0;
        let starts = c.starts[first * groups..][..M * groups].as_chunks::<M>().0;
        let sums = c.sums[first * groups..][..M * groups].as_chunks::<M>().0;
        let blocks = codes.chunks_exact(units_per_block * STEPS).zip(scales.chunks_exact(units_per_block));
        let corrections = starts.chunks_exact(groups_per_block).zip(sums.chunks_exact(groups_per_block));
        let rows = self.rows.as_ptr().cast::<T>();
        assert!(self.rows.len() == LANES * units / units_per_block * size_of::<T>());
        let mut acc = [isa.splat(0.0); M];
        for (block, ((codes, scales), (starts, sums))) in blocks.zip(corrections).enumerate() {
            let at = rows.wrapping_add(LANES * block);
            let column = Column::interleaved(at);
            // SAFETY: `block` is within the 16 rows, checked above.
            let header = unsafe { T::header(isa, column) };
            let ahead = at.cast::<u8>().wrapping_add(AHEAD);
            for_each_unit!(I, T, T::INTERLEAVED_ROUND, unit => {
                // Else what units share is kept in registers that there are not, and all prefetches end up in one heap.
                if unit > 0 {
                    isa.in_order();
                }
                if first == 0 {
                    isa.prefetch_bytes(ahead.wrapping_add(unit * bytes_per_unit), bytes_per_unit);
                }
                let x = codes[unit * STEPS..].first_chunk::<STEPS>().expect("steps of a unit");
                let (first_x, last_x) = (x.first_chunk().expect("half of them"), x.last_chunk().expect("half of them"));
                let groups = unit * groups_per_unit(T::SPLIT)..(unit + 1) * groups_per_unit(T::SPLIT);
                let mut dots = [isa.parts([isa.splat_quads(0); M]); 2];
                for quad in 0..I::PARTS / 4 {
                    let mut w = [[isa.splat_bytes(0); STEPS / 2]; 2];
                    for word in 0..STEPS / 2 {
                        let part = column.part::<I>(word * (I::PARTS / 4) + quad);
                        // SAFETY: the blocks of `column` are readable.
                        [w[0][word], w[1][word]] = unsafe { T::codes(isa, part, unit) };
                    }
                    let mut start = [[isa.splat_quads(0); M]; 2];
                    for (half, group) in groups.clone().enumerate() {
                        for m in 0..M {
                            start[half][m] = isa.splat_quads(starts[group][m]);
                        }
                    }
                    let [[a, b, c, d], [e, f, g, h]] = w;
                    if T::SPLIT {
                        dots[0][quad] = isa.dot_words(start[0], w[0], first_x, T::BITS);
                        dots[1][quad] = isa.dot_words(start[1], w[1], last_x, T::BITS);
                    } else {
                        dots[0][quad] = isa.dot_words(start[0], [a, b, c, d, e, f, g, h], x, T::BITS);
                    }
                }
                let (w, min) = (T::scales(isa, header, unit), T::mins(isa, header, unit));
                for (half, group) in groups.enumerate() {
                    for m in 0..M {
                        let mut quads = isa.parts(isa.splat_quads(0));
                        for quad in 0..I::PARTS / 4 {
                            quads[quad] = dots[half][quad][m];
                        }
                        let dot = isa.to_float(isa.join_quads(quads));
                        acc[m] = isa.fma(dot, isa.mul(w[half], isa.splat(scales[unit][m])), acc[m]);
                        if T::AFFINE {
                            acc[m] = isa.fma(min[half], isa.splat(sums[group][m]), acc[m]);
                        }
                    }
                }
            });
        }
        // SAFETY: the task of these columns is the only one to write them.
        unsafe { self.job.out.finish(isa, first, self.column, acc) };
    }
}
