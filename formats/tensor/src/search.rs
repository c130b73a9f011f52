//! The encoders, over many blocks at once, one block per lane: a search for scales, then rounding.

pub(crate) mod affine;
mod fitted;
pub(crate) mod levels;
pub(crate) mod positive;
pub(crate) mod super_block;
pub(crate) mod symmetric;
#[cfg(test)]
pub(crate) mod tests;

use crate::blocks::{MAX_ELEMS, Quantized};
use crate::fit::MAGIC;
use crate::lanes::{self, Lanes, MAX_LANES};
pub(crate) use fitted::{Fitted, Rule};
use std::array::from_fn;

/// A format whose encoder searches for scales, many blocks at once.
pub(crate) trait Search: Quantized {
    /// Whether importances are blended with the mean square of the row, which then must be known.
    const USES_ROW: bool = false;
    /// What is done with a block instead, where no importances are known.
    const PLAIN: Option<fn(&[f32]) -> Self> = None;

    /// Quantizes a block per lane; lanes from `out.len()` on are not wanted. `codes` is a buffer in any state. Must be
    /// `#[inline(always)]`.
    fn search<V: Lanes>(batch: &Batch<V>, codes: &mut Codes, out: &mut [Self]);
}

/// A format whose encoder chooses all scales before any code.
pub(crate) trait Fit: Quantized {
    /// As in [`Search`].
    const USES_ROW: bool = false;
    /// As in [`Search`].
    const PLAIN: Option<fn(&[f32]) -> Self> = None;

    /// The scales of a block per lane. Must be `#[inline(always)]`, and so must [`round`](Self::round).
    fn fit<V: Lanes>(batch: &Batch<V>) -> Fitted<V>;

    /// The codes of a block per lane, for the scales that were chosen.
    #[inline(always)]
    fn round<V: Lanes>(batch: &Batch<V>, fitted: &Fitted<V>, codes: &mut Codes) {
        fitted.round::<Self>(batch, codes);
    }
}

impl<B: Fit> Search for B {
    const USES_ROW: bool = <B as Fit>::USES_ROW;
    const PLAIN: Option<fn(&[f32]) -> Self> = <B as Fit>::PLAIN;

    #[inline(always)]
    fn search<V: Lanes>(batch: &Batch<V>, codes: &mut Codes, out: &mut [Self]) {
        let fitted = B::fit(batch);
        B::round(batch, &fitted, codes);
        let scales = fitted.scales::<B>();
        for (lane, out) in out.iter_mut().enumerate() {
            *out = B::pack(&scales[lane], &codes.lane(lane)[..B::ELEMS]);
        }
    }
}

/// A block per lane.
pub(crate) struct Batch<V> {
    /// Element by element.
    pub(crate) x: Vec<V>,
    /// Mean squared activation of every element's column, if known.
    pub(crate) importance: Option<Vec<V>>,
    /// Mean square of the row a block is of, where [`Search::USES_ROW`].
    pub(crate) row_mean_square: V,
}

impl<V: Lanes> Batch<V> {
    /// Sum of squares of a run of elements, in their order.
    #[inline(always)]
    pub(crate) fn sum_of_squares(x: &[V]) -> V {
        let mut sum = V::splat(0.0);
        for &x in x {
            sum = sum + x * x;
        }
        sum
    }

    /// The weight of every element of group `g` of `SIZE`: `importance * sqrt(sigma2 + x^2)`, where the importance is
    /// known; else what `plain` makes of the element.
    #[inline(always)]
    pub(crate) fn weights<const SIZE: usize>(&self, g: usize, sigma2: V, plain: impl Fn(V) -> V) -> [V; SIZE] {
        let x = self.group::<SIZE>(g);
        match &self.importance {
            Some(importance) => from_fn(|i| importance[g * SIZE + i] * (sigma2 + x[i] * x[i]).sqrt()),
            None => x.map(plain),
        }
    }

    /// The elements of group `g` of `SIZE`.
    #[inline(always)]
    pub(crate) fn group<const SIZE: usize>(&self, g: usize) -> &[V; SIZE] {
        self.x[g * SIZE..].first_chunk().expect("a whole group")
    }
}

/// Encodes whole blocks. `importance` is that of a row; `src` then holds whole rows.
pub(crate) fn encode<B: Search>(src: &[f32], importance: Option<&[f32]>, dst: &mut [B]) {
    assert_eq!(src.len(), dst.len() * B::ELEMS, "elements do not match blocks");
    lanes::dispatch(Encode { src, importance, dst });
}

pub(crate) struct Encode<'a, B> {
    pub(crate) src: &'a [f32],
    pub(crate) importance: Option<&'a [f32]>,
    pub(crate) dst: &'a mut [B],
}

impl<B: Search> lanes::Task for Encode<'_, B> {
    #[inline(always)]
    fn run<V: Lanes>(self) {
        let elems = B::ELEMS;
        let blocks_per_row = self.importance.map_or(1, |row| row.len() / elems);
        let mean_squares = match self.importance {
            Some(row) if B::USES_ROW => self.src.chunks_exact(row.len()).map(mean_square).collect(),
            _ => Vec::new(),
        };
        let zero = V::splat(0.0);
        let mut codes = Codes([[0; MAX_ELEMS]; MAX_LANES]);
        let mut batch = Batch {
            x: vec![zero; elems],
            importance: self.importance.map(|_| vec![zero; elems]),
            row_mean_square: zero,
        };
        for (n, out) in self.dst.chunks_mut(V::N).enumerate() {
            // Where blocks run out, the last one fills the lanes.
            let block: [usize; MAX_LANES] = from_fn(|lane| n * V::N + lane.min(out.len() - 1));
            transpose(&mut batch.x, |lane| &self.src[block[lane] * elems..][..elems]);
            if let (Some(lanes), Some(row)) = (&mut batch.importance, self.importance) {
                transpose(lanes, |lane| &row[block[lane] % blocks_per_row * elems..][..elems]);
                if B::USES_ROW {
                    batch.row_mean_square = V::load(&block.map(|block| mean_squares[block / blocks_per_row]));
                }
            }
            B::search(&batch, &mut codes, out);
        }
    }
}

/// Puts element `j` of every lane's slice into `lanes[j]`.
#[inline(always)]
fn transpose<'a, V: Lanes>(lanes: &mut [V], source: impl Fn(usize) -> &'a [f32]) {
    let sources: [&[f32]; MAX_LANES] = from_fn(|lane| &source(lane)[..lanes.len()]);
    for (j, lane) in lanes.iter_mut().enumerate() {
        *lane = V::load(&from_fn::<f32, MAX_LANES, _>(|i| sources[i][j]));
    }
}

/// Mean square, summed in order as the reference does.
fn mean_square(row: &[f32]) -> f32 {
    let mut sum = 0.0;
    for x in row {
        sum += x * x;
    }
    sum / row.len() as f32
}

/// Codes of a block per lane, on their way into bytes.
pub(crate) struct Codes([[u8; MAX_ELEMS]; MAX_LANES]);

impl Codes {
    /// Those of element `j`, which are integers below 256.
    #[inline(always)]
    pub(crate) fn set<V: Lanes>(&mut self, j: usize, codes: V) {
        let lanes = (codes + V::splat(MAGIC)).to_array();
        for (codes, lane) in self.0.iter_mut().zip(&lanes[..V::N]) {
            // The lowest bits of the mantissa are the integer.
            codes[j] = lane.to_bits() as u8;
        }
    }

    /// Those of one lane.
    pub(crate) fn lane_mut(&mut self, lane: usize) -> &mut [u8; MAX_ELEMS] {
        &mut self.0[lane]
    }

    /// The same, to read.
    #[inline(always)]
    fn lane(&self, lane: usize) -> &[u8; MAX_ELEMS] {
        &self.0[lane]
    }
}
