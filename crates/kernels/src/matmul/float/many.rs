//! Many rows of `x`: 16 rows of `W` decoded once into a panel, then register tiles over the rows of `x`.
//!
//! A tile of `x` stays in the first cache while the panel comes by from the second. Rows too long for that are cut into
//! stretches, between which the accumulators rest in memory: a register stored and loaded again is the same bits.

use super::{Decoder, Element, Job, LANES, Lanes, Tiles};
use crate::isa::{Isa, IsaLevel, Kernel};
use pythia_tensor::{TensorType, blocks};
use std::cell::Cell;
use std::ops::Range;

/// Vectors of a row that are multiplied before the next rows have their turn. With 6 rows of `x` 24 KiB, of the 32 or
/// 48 KiB that first caches have.
const STRETCH: usize = 64;

pub(super) struct Many<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) tiles: &'a Tiles,
    pub(super) range: Range<usize>,
    /// What `decoder` runs on.
    pub(super) level: IsaLevel,
    /// Of quantized weights.
    pub(super) decoder: Option<Decoder>,
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
        match I::FLOAT_TILE.0 {
            4 => self.multiply::<I, 4>(isa, &mut buffers),
            _ => self.multiply::<I, 2>(isa, &mut buffers),
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
        sums.resize(LANES * I::FLOAT_TILE.1, Lanes::default());
        for first in self.range.clone().step_by(LANES) {
            self.decode::<I, R>(isa, first, panel);
            for &(t, size) in &self.tiles.tiles {
                match size {
                    6 if I::FLOAT_TILE.1 >= 6 => self.tile::<I, R, 6>(isa, panel, t, first, sums),
                    4 if I::FLOAT_TILE.1 >= 4 => self.tile::<I, R, 4>(isa, panel, t, first, sums),
                    3 if I::FLOAT_TILE.1 >= 3 => self.tile::<I, R, 3>(isa, panel, t, first, sums),
                    2 => self.tile::<I, R, 2>(isa, panel, t, first, sums),
                    1 => self.tile::<I, R, 1>(isa, panel, t, first, sums),
                    _ => unreachable!("a tile that the ISA does not have"),
                }
            }
        }
    }

    /// The panel of 16 rows from `first` on; what is missing of the last keeps other rows' values, whose results are
    /// dropped.
    #[inline(always)]
    fn decode<I: Isa, const R: usize>(&self, isa: I, first: usize, panel: &mut [Lanes]) {
        let w = &self.job.weights;
        if let Some(decoder) = &self.decoder {
            return (decoder.panel)(self.level, w, first, R, panel);
        }
        let row_bytes = w.data.len() / w.rows;
        for i in 0..LANES.min(w.rows - first) {
            let bytes = &w.data[(first + i) * row_bytes..][..row_bytes];
            let panel = &mut panel[i / R * R * (w.cols / LANES) + i % R..];
            match w.ty {
                TensorType::F32 => widen::<I, _, R>(isa, blocks::cast::<blocks::F32>(bytes), panel),
                TensorType::F16 => widen::<I, _, R>(isa, blocks::cast::<blocks::F16>(bytes), panel),
                TensorType::BF16 => widen::<I, _, R>(isa, blocks::cast::<blocks::BF16>(bytes), panel),
                _ => unreachable!("quantized weights have a decoder"),
            }
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
            unsafe { self.job.out.finish(isa, first + t, column, isa.sum_each(rows)) };
        }
    }
}

/// A row into every `R`th vector of a panel.
#[inline(always)]
fn widen<I: Isa, E: Element, const R: usize>(isa: I, row: &[E], panel: &mut [Lanes]) {
    for (w, out) in row.as_chunks::<LANES>().0.iter().zip(panel.iter_mut().step_by(R)) {
        // SAFETY: 16 elements, and 16 floats.
        unsafe { isa.store(out.0.as_mut_ptr(), E::load(isa, w.as_ptr())) };
    }
}
