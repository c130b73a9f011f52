//! Many rows of `x`: 16 rows of `W` decoded once into a panel, then register tiles over the rows of `x`.
//!
//! A tile of `x` stays in the first cache while the panel comes by from the second. Rows too long for that are cut into
//! stretches, between which the accumulators rest in memory: a register stored and loaded again is the same bits.

use super::{Element, Job, LANES, Lanes, Storage, Tiles, for_size};
use crate::isa::{Isa, Kernel, Supported};
use pythia_tensor::blocks;
use std::cell::Cell;
use std::ops::Range;

/// Vectors of a row that are multiplied before the next rows have their turn. With 6 rows of `x` 24 KiB, of the 32 or
/// 48 KiB that first caches have.
const STRETCH: usize = 64;

pub(super) struct Many<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) storage: Storage,
    pub(super) tiles: &'a Tiles,
    pub(super) range: Range<usize>,
    /// What decoders run on.
    pub(super) isa: Supported,
}

#[derive(Default)]
struct Buffers {
    /// `[16 / R][cols / 16][R rows]` of `W`.
    panel: Vec<Lanes>,
    /// `[16 rows of W][rows of x]` of a tile: accumulators.
    sums: Vec<Lanes>,
}

thread_local! {
    /// Taken and put back, as in the integer product.
    static BUFFERS: Cell<Buffers> = Cell::new(Buffers::default());
}

impl Kernel for Many<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let mut buffers = BUFFERS.take();
        if I::TUNING.float_tile.w == 4 {
            self.multiply::<I, 4>(isa, &mut buffers);
        } else {
            self.multiply::<I, 2>(isa, &mut buffers);
        }
        BUFFERS.set(buffers);
    }
}

impl Many<'_> {
    /// `R` rows of `W` in a register tile.
    #[inline(always)]
    fn multiply<I: Isa, const R: usize>(&self, isa: I, buffers: &mut Buffers) {
        let Buffers { panel, sums } = buffers;
        panel.resize(self.job.weights.cols, Lanes::default());
        sums.resize(LANES * I::TUNING.float_tile.x as usize, Lanes::default());
        for first in self.range.clone().step_by(LANES) {
            self.decode::<I, R>(isa, first, panel);
            for &(t, size) in &self.tiles.tiles {
                for_size!(size, I::TUNING.float_tile.x, T => self.tile::<I, R, T>(isa, panel, t, first, sums));
            }
        }
    }

    /// The panel of 16 rows from `first` on; what is missing of the last keeps other rows' values, whose results are
    /// dropped.
    #[inline(always)]
    fn decode<I: Isa, const R: usize>(&self, isa: I, first: usize, panel: &mut [Lanes]) {
        let w = &self.job.weights;
        let row_bytes = w.data.len() / w.rows;
        let bytes = &w.data[first * row_bytes..][..LANES.min(w.rows - first) * row_bytes];
        match self.storage {
            Storage::F32 => widen::<I, _, R>(isa, blocks::cast::<blocks::F32>(bytes), w.cols, panel),
            Storage::F16 => widen::<I, _, R>(isa, blocks::cast::<blocks::F16>(bytes), w.cols, panel),
            Storage::BF16 => widen::<I, _, R>(isa, blocks::cast::<blocks::BF16>(bytes), w.cols, panel),
            Storage::Blocks(decoder) => (decoder.panel)(self.isa, w, first, R, panel),
        }
    }

    /// `T` rows of `x` from `first` on times the panel, which begins at `column` of the output.
    #[inline(always)]
    fn tile<I: Isa, const R: usize, const T: usize>(
        &self,
        isa: I,
        panel: &[Lanes],
        first: usize,
        column: usize,
        sums: &mut [Lanes],
    ) {
        let len = self.job.weights.cols / LANES;
        let x = self.tiles.x[first * len..][..T * len].as_chunks::<T>().0;
        let sums = sums.as_chunks_mut::<T>().0;
        for start in (0..len).step_by(STRETCH) {
            let end = len.min(start + STRETCH);
            for (w, sums) in panel.chunks_exact(R * len).zip(sums.as_chunks_mut::<R>().0) {
                let mut acc = [[isa.splat(0.0); T]; R];
                // SAFETY: 16 floats each, everywhere below.
                unsafe {
                    if start > 0 {
                        for r in 0..R {
                            for t in 0..T {
                                acc[r][t] = isa.load(sums[r][t].0.as_ptr());
                            }
                        }
                    }
                    for (w, x) in w.as_chunks::<R>().0[start..end].iter().zip(&x[start..end]) {
                        let mut a = [isa.splat(0.0); T];
                        for t in 0..T {
                            a[t] = isa.load(x[t].0.as_ptr());
                        }
                        for r in 0..R {
                            let w = isa.load(w[r].0.as_ptr());
                            for t in 0..T {
                                acc[r][t] = isa.fma(w, a[t], acc[r][t]);
                            }
                        }
                    }
                    for r in 0..R {
                        for t in 0..T {
                            isa.store(sums[r][t].0.as_mut_ptr(), acc[r][t]);
                        }
                    }
                }
            }
        }
        for t in 0..T {
            let mut rows = [isa.splat(0.0); LANES];
            for r in 0..LANES {
                // SAFETY: 16 floats.
                rows[r] = unsafe { isa.load(sums[r][t].0.as_ptr()) };
            }
            // SAFETY: this task alone works on these columns.
            unsafe { self.job.out.finish(isa, first + t, column, [isa.sum_each(rows)]) };
        }
    }
}

/// Each row into every `R`th vector of a panel.
#[inline(always)]
fn widen<I: Isa, E: Element, const R: usize>(isa: I, rows: &[E], cols: usize, panel: &mut [Lanes]) {
    for (i, row) in rows.chunks_exact(cols).enumerate() {
        let panel = &mut panel[i / R * R * (cols / LANES) + i % R..];
        for (w, out) in row.as_chunks::<LANES>().0.iter().zip(panel.iter_mut().step_by(R)) {
            // SAFETY: 16 elements, and 16 floats.
            unsafe { isa.store(out.0.as_mut_ptr(), E::load(isa, w.as_ptr())) };
        }
    }
}
