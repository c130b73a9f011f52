//! One row of `x`, or as few as two register tiles take: rows of `W` are read as they lie in the file, several at a
//! time, and widened on their way into the multiplication.

use super::{Element, Job, LANES, Lanes, Storage, for_size};
use crate::isa::{Isa, Kernel, Supported, TileSize};
use pythia_tensor::blocks;
use std::cell::Cell;
use std::ops::Range;

pub(super) struct Few<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) storage: Storage,
    /// First row of `x` and size of each tile.
    pub(super) tiles: &'a [(usize, TileSize)],
    pub(super) range: Range<usize>,
    /// What decoders run on.
    pub(super) isa: Supported,
}

thread_local! {
    /// 16 rows of quantized weights, decoded; taken and put back, as in the integer product.
    static DECODED: Cell<Vec<Lanes>> = const { Cell::new(Vec::new()) };
}

impl Kernel for Few<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let w = &self.job.weights;
        let row_bytes = w.data.len() / w.rows;
        let mut decoded = DECODED.take();
        for first in self.range.clone().step_by(LANES) {
            let count = LANES.min(w.rows - first);
            let bytes = &w.data[first * row_bytes..][..count * row_bytes];
            match self.storage {
                Storage::F32 => self.sixteen(isa, blocks::cast::<blocks::F32>(bytes), first),
                Storage::F16 => self.sixteen(isa, blocks::cast::<blocks::F16>(bytes), first),
                Storage::BF16 => self.sixteen(isa, blocks::cast::<blocks::BF16>(bytes), first),
                Storage::Blocks(decoder) => {
                    decoded.resize(w.cols, Lanes::default());
                    (decoder.panel)(self.isa, w, first, 1, &mut decoded);
                    self.sixteen(isa, Lanes::flat(&decoded), first);
                }
            }
        }
        DECODED.set(decoded);
    }
}

impl Few<'_> {
    /// Up to 16 rows of `W`, the first for `column` of the output.
    #[inline(always)]
    fn sixteen<I: Isa, E: Element>(&self, isa: I, rows: &[E], column: usize) {
        if I::TUNING.float_tile.w == 4 {
            self.tiles::<I, E, 4, 8>(isa, rows, column);
        } else {
            self.tiles::<I, E, 2, 4>(isa, rows, column);
        }
    }

    /// `R` rows at a time, or `ONE` times a single row of `x`: more, so that there are enough independent sums.
    #[inline(always)]
    fn tiles<I: Isa, E: Element, const R: usize, const ONE: usize>(&self, isa: I, rows: &[E], column: usize) {
        for &(first, size) in self.tiles {
            for_size!(size, I::TUNING.float_tile.x, T => if T == 1 {
                self.tile::<I, E, ONE, 1>(isa, rows, first, column);
            } else {
                self.tile::<I, E, R, T>(isa, rows, first, column);
            });
        }
    }

    /// `R` rows at a time times `T` rows of `x` from `first` on; lanes without a row repeat the last.
    #[inline(always)]
    fn tile<I: Isa, E: Element, const R: usize, const T: usize>(
        &self,
        isa: I,
        rows: &[E],
        first: usize,
        column: usize,
    ) {
        let cols = self.job.weights.cols;
        let x = &self.job.x[first * cols..][..T * cols];
        assert!(!rows.is_empty() && rows.len().is_multiple_of(cols) && cols.is_multiple_of(LANES));
        let last = rows.len() / cols - 1;
        let mut sums = [[isa.splat(0.0); LANES]; T];
        for row in (0..LANES).step_by(R) {
            let mut w = [rows.as_ptr(); R];
            for (r, w) in w.iter_mut().enumerate() {
                *w = w.wrapping_add((row + r).min(last) * cols);
            }
            // The rows are one run of memory read as `R` streams, which hardware prefetchers lose: the next `R` are
            // asked for in the order they lie in (as in the integer product).
            let mut ahead = rows.as_ptr().wrapping_add((row + R) * cols).cast::<u8>();
            let ahead_per_step = R * LANES * size_of::<E>();
            let mut acc = [[isa.splat(0.0); T]; R];
            for k in (0..cols).step_by(LANES) {
                isa.prefetch_bytes(ahead, ahead_per_step);
                ahead = ahead.wrapping_add(ahead_per_step);
                let mut a = [isa.splat(0.0); T];
                for t in 0..T {
                    // SAFETY: k + 16 <= cols, and `x` has T rows.
                    a[t] = unsafe { isa.load(x.as_ptr().add(t * cols + k)) };
                }
                for r in 0..R {
                    // SAFETY: every pointer of `w` is to a whole row.
                    let w = unsafe { E::load(isa, w[r].add(k)) };
                    for t in 0..T {
                        acc[r][t] = isa.fma(w, a[t], acc[r][t]);
                    }
                }
            }
            for r in 0..R {
                for t in 0..T {
                    sums[t][row + r] = acc[r][t];
                }
            }
        }
        for t in 0..T {
            // SAFETY: this task alone works on these columns.
            unsafe { self.job.out.finish(isa, first + t, column, [isa.sum_each(sums[t])]) };
        }
    }
}
