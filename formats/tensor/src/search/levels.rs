//! `value ~ scale * LEVELS[code]`: the sixteen unevenly spaced levels of IQ4_NL and IQ4_XS.

use super::symmetric::{EMPTY_GROUP, largest};
use crate::blocks::LEVELS;
use crate::lanes::Lanes;
use crate::scales::middle;

/// The level nearest to `x`.
#[inline(always)]
fn nearest_level<V: Lanes>(x: V) -> V {
    let mut level = V::splat(f32::from(LEVELS[0]));
    for pair in LEVELS.windows(2) {
        level = V::select(x.lt(middle(pair)), level, V::splat(f32::from(pair[1])));
    }
    level
}

/// The scale of a group of 32: the plain one and 15 candidates around it, by weighted least squares. 0 for an empty
/// group.
#[inline(always)]
pub(crate) fn fit<V: Lanes>(x: &[V; 32], weights: &[V; 32]) -> V {
    const TRIES: i32 = 7;
    let zero = V::splat(0.0);
    let first = f32::from(LEVELS[0]);
    let (amax, max) = largest(x);
    let inverse = V::splat(1.0) / ((zero - max) / V::splat(first));
    let (sum_qx, sum_q2) = sums(x, weights, inverse);
    // Weights may all be zero. The reference then stores a scale that is not a number.
    let mut scale = V::select(zero.lt(sum_q2), sum_qx / sum_q2, zero);
    let mut best = scale * sum_qx;
    for n in -TRIES..=TRIES {
        let (sum_qx, sum_q2) = sums(x, weights, V::splat(n as f32 + first) / max);
        let better = zero.lt(sum_q2) & (best * sum_q2).lt(sum_qx * sum_qx);
        scale = V::select(better, sum_qx / sum_q2, scale);
        best = V::select(better, scale * sum_qx, best);
    }
    V::select(amax.lt(V::splat(EMPTY_GROUP)), zero, scale)
}

/// Weighted products of levels with values, and of levels with themselves.
#[inline(always)]
fn sums<V: Lanes>(x: &[V; 32], weights: &[V; 32], inverse: V) -> (V, V) {
    let (mut sum_qx, mut sum_q2) = (V::splat(0.0), V::splat(0.0));
    for i in 0..32 {
        let level = nearest_level(inverse * x[i]);
        let weighted = weights[i] * level;
        sum_qx = sum_qx + weighted * x[i];
        sum_q2 = sum_q2 + weighted * level;
    }
    (sum_qx, sum_q2)
}
