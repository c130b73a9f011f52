//! `value ~ scale * code` for one group, `code` in `-half..half`.

use super::Rule;
use crate::lanes::Lanes;
use std::array::from_fn;

/// Groups whose largest magnitude is below this are stored as zeros.
pub(crate) const EMPTY_GROUP: f32 = 1e-15;

/// What was found, per lane.
#[derive(Clone, Copy)]
pub(crate) struct SymmetricFit<V> {
    /// Least-squares scale; 0 for an (almost) empty group.
    pub(crate) scale: V,
    /// Levels are `nearest(inverse * value)`: the one the scale was fitted to, not `1 / scale`. 0 for an empty group.
    inverse: V,
}

/// Weighted products of codes with values, and of codes with themselves.
#[inline(always)]
fn sums<V: Lanes, const SIZE: usize>(
    x: &[V; SIZE],
    weights: &[V; SIZE],
    weighted: &[V; SIZE],
    inverse: V,
    half: f32,
) -> (V, V) {
    let (mut sum_lx, mut sum_l2) = (V::splat(0.0), V::splat(0.0));
    for i in 0..SIZE {
        let code = (inverse * x[i]).nearest().clamp(-half, half - 1.0);
        sum_lx = sum_lx + weighted[i] * code;
        sum_l2 = sum_l2 + weights[i] * code * code;
    }
    (sum_lx, sum_l2)
}

/// The largest magnitude of each lane, and its first holder with its sign.
#[inline(always)]
pub(crate) fn largest<V: Lanes>(x: &[V]) -> (V, V) {
    let (mut amax, mut max) = (V::splat(0.0), V::splat(0.0));
    for &x in x {
        let larger = amax.lt(x.abs());
        amax = V::select(larger, x.abs(), amax);
        max = V::select(larger, x, max);
    }
    (amax, max)
}

impl<V: Lanes> SymmetricFit<V> {
    /// A place for one.
    pub(crate) fn none() -> Self {
        Self { scale: V::splat(0.0), inverse: V::splat(0.0) }
    }

    /// Tries 19 inverse scales around `-half / max`, by weighted least squares.
    #[inline(always)]
    pub(crate) fn new<const SIZE: usize>(x: &[V; SIZE], weights: &[V; SIZE], half: f32) -> Self {
        let zero = V::splat(0.0);
        let (amax, max) = largest(x);
        let weighted: [V; SIZE] = from_fn(|i| weights[i] * x[i]);
        let mut inverse = V::splat(-half) / max;
        let (sum_lx, sum_l2) = sums(x, weights, &weighted, inverse, half);
        let mut scale = V::select(sum_l2.ne(zero), sum_lx / sum_l2, zero);
        let mut best = scale * sum_lx;
        for step in (-9..=9).filter(|&step| step != 0) {
            let candidate = V::splat(-(half + 0.1 * step as f32)) / max;
            let (sum_lx, sum_l2) = sums(x, weights, &weighted, candidate, half);
            let better = zero.lt(sum_l2) & (best * sum_l2).lt(sum_lx * sum_lx);
            scale = V::select(better, sum_lx / sum_l2, scale);
            best = V::select(better, scale * sum_lx, best);
            inverse = V::select(better, candidate, inverse);
        }
        let empty = amax.lt(V::splat(EMPTY_GROUP));
        Self { scale: V::select(empty, zero, scale), inverse: V::select(empty, zero, inverse) }
    }

    /// Three-bit codes start from the plain rounding, and each in turn is then moved to where it fits best, up to five
    /// times. Weights are the squares of the values.
    #[inline(always)]
    pub(crate) fn refined<const SIZE: usize>(x: &[V; SIZE], half: f32) -> (V, [V; SIZE]) {
        let zero = V::splat(0.0);
        let (amax, max) = largest(x);
        let inverse = V::splat(-half) / max;
        let mut codes: [V; SIZE] = x.map(|x| (inverse * x).nearest().clamp(-half, half - 1.0));
        let (mut sum_lx, mut sum_l2) = (zero, zero);
        for i in 0..SIZE {
            let w = x[i] * x[i];
            sum_lx = sum_lx + w * x[i] * codes[i];
            sum_l2 = sum_l2 + w * codes[i] * codes[i];
        }
        for _ in 0..5 {
            let mut changed = zero.lt(zero);
            for i in 0..SIZE {
                let w = x[i] * x[i];
                let rest_lx = sum_lx - w * x[i] * codes[i];
                let rest_l2 = sum_l2 - w * codes[i] * codes[i];
                let code = (x[i] * rest_l2 / rest_lx).nearest_any().clamp(-half, half - 1.0);
                let next_lx = rest_lx + w * x[i] * code;
                let next_l2 = rest_l2 + w * code * code;
                let better = (sum_lx * sum_lx * next_l2).lt(next_lx * next_lx * sum_l2);
                let moved = zero.lt(rest_lx) & code.ne(codes[i]) & zero.lt(next_l2) & better;
                codes[i] = V::select(moved, code, codes[i]);
                sum_lx = V::select(moved, next_lx, sum_lx);
                sum_l2 = V::select(moved, next_l2, sum_l2);
                changed = !(!changed & !moved);
            }
            // A lane that changed nothing would change nothing again.
            if !V::any(changed) {
                break;
            }
        }
        let empty = amax.lt(V::splat(EMPTY_GROUP));
        let scale = V::select(zero.lt(sum_l2), sum_lx / sum_l2, zero);
        (V::select(empty, zero, scale), codes.map(|code| V::select(empty, zero, code + V::splat(half))))
    }

    /// How the elements of the group become levels. An empty group has code 0 throughout, not the level 0: that is what
    /// the reference leaves.
    #[inline(always)]
    pub(crate) fn rule(&self) -> Rule<V> {
        let any = self.inverse.ne(V::splat(0.0));
        Rule::select(any, Rule::times(self.inverse, V::splat(0.0)), Rule::lowest())
    }
}
