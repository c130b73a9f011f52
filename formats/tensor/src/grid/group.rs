//! A group of elements on its way through the search: magnitudes, weights, signs.

use crate::lanes::{Lanes, MAX_LANES};
use crate::search::Batch;

/// Runs of eight elements in the largest group.
pub(super) const MAX_RUNS: usize = 4;

/// Weights of elements where no importance is known.
#[derive(Clone, Copy)]
pub(crate) enum Plain {
    /// As if all importances were one.
    Flat,
    /// Squares.
    Squares,
    /// Squares and a quarter of the mean square.
    Blended,
}

/// A group per lane.
pub(super) struct Group<V, const SIZE: usize> {
    /// Magnitudes. With even signs, one of eight may be negative.
    pub(super) x: [V; SIZE],
    pub(super) weights: [V; SIZE],
    /// Signs per run of eight, as integers.
    pub(super) signs: [V; MAX_RUNS],
}

impl<V: Lanes, const SIZE: usize> Group<V, SIZE> {
    /// Group `g` of a super-block. `mean_square` is that of the super-block, times what it counts in the weights; with
    /// `even_signs`, every eight have an even number of minuses.
    #[inline(always)]
    pub(super) fn new(batch: &Batch<V>, g: usize, mean_square: V, plain: Plain, even_signs: bool) -> Self {
        let (zero, one) = (V::splat(0.0), V::splat(1.0));
        let x = batch.group::<SIZE>(g);
        let mut group = Group { x: [zero; SIZE], weights: [zero; SIZE], signs: [zero; MAX_RUNS] };
        for i in 0..SIZE {
            let square = x[i] * x[i];
            group.weights[i] = match (&batch.importance, plain) {
                (Some(importance), _) => importance[g * SIZE + i] * (mean_square + square).sqrt(),
                (None, Plain::Flat) => (mean_square + square).sqrt(),
                (None, Plain::Squares) => square,
                (None, Plain::Blended) => V::splat(0.25) * mean_square + square,
            };
        }
        for run in 0..SIZE / 8 {
            let mut minus = [zero; 8];
            let mut product = one;
            let mut least = zero;
            let mut at = zero;
            for i in 0..8 {
                let (x, w) = (x[8 * run + i], group.weights[8 * run + i]);
                let negative = x.lt(zero);
                group.x[8 * run + i] = V::select(negative, zero - x, x);
                minus[i] = V::select(negative, one, zero);
                product = V::select(negative, zero - product, product);
                let size = w * x * x;
                if i == 0 {
                    least = size;
                } else {
                    let less = size.lt(least);
                    least = V::select(less, size, least);
                    at = V::select(less, V::splat(i as f32), at);
                }
            }
            let odd = product.lt(zero);
            let stored = if even_signs { 7 } else { 8 };
            for (i, &minus) in minus.iter().enumerate() {
                let mut minus = minus;
                if even_signs {
                    // One sign must be flipped: that of the element with the least weight.
                    let flip = odd & !at.ne(V::splat(i as f32));
                    let x = &mut group.x[8 * run + i];
                    *x = V::select(flip, zero - *x, *x);
                    minus = V::select(flip, one - minus, minus);
                }
                if i < stored {
                    group.signs[run] = group.signs[run] + minus * V::splat(f32::from(1u8 << i));
                }
            }
        }
        group
    }

    /// Weighted products of odd numbers with magnitudes, and of odd numbers with themselves.
    #[inline(always)]
    pub(super) fn sums(&self, odds: &[V; SIZE]) -> (V, V) {
        let (mut sum_qx, mut sum_q2) = (V::splat(0.0), V::splat(0.0));
        for (i, &odd) in odds.iter().enumerate() {
            sum_qx = sum_qx + self.weights[i] * self.x[i] * odd;
            sum_q2 = sum_q2 + self.weights[i] * odd * odd;
        }
        (sum_qx, sum_q2)
    }
}

/// A group per lane, for looking at one lane after another.
pub(super) struct Columns<const SIZE: usize> {
    pub(super) x: [[f32; MAX_LANES]; SIZE],
    /// Square roots of the weights.
    pub(super) roots: [[f32; MAX_LANES]; SIZE],
}

impl<const SIZE: usize> Columns<SIZE> {
    #[inline(always)]
    pub(super) fn new<V: Lanes>(group: &Group<V, SIZE>) -> Self {
        let mut columns = Self { x: [[0.0; MAX_LANES]; SIZE], roots: [[0.0; MAX_LANES]; SIZE] };
        for i in 0..SIZE {
            group.x[i].store(&mut columns.x[i]);
            group.weights[i].sqrt().store(&mut columns.roots[i]);
        }
        columns
    }
}
