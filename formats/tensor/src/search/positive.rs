//! `value ~ scale * code` for values that are not negative, `code` in `0..=top`: the group scales of a super-block.

use super::symmetric::EMPTY_GROUP;
use crate::lanes::Lanes;

/// Scale and codes by a weighted search of nine inverse scales, then moving one code at a time, up to five times.
#[inline(always)]
pub(crate) fn fit<V: Lanes, const SIZE: usize>(x: &[V; SIZE], weights: &[V; SIZE], top: f32) -> (V, [V; SIZE]) {
    let zero = V::splat(0.0);
    let mut max = zero;
    for &x in x {
        max = max.max(x);
    }
    let mut inverse = V::splat(top) / max;
    // The reference does not limit the codes of its first candidate.
    let mut best = error(x, weights, inverse, f32::MAX);
    for step in (-4..=4).filter(|&step| step != 0) {
        let candidate = V::splat(0.1 * step as f32 + top) / max;
        let error = error(x, weights, candidate, top);
        let better = error.lt(best);
        best = V::select(better, error, best);
        inverse = V::select(better, candidate, inverse);
    }
    let mut codes = x.map(|x| (inverse * x).nearest().min(V::splat(top)));
    let (mut sum_lx, mut sum_l2) = (zero, zero);
    for i in 0..SIZE {
        sum_lx = sum_lx + weights[i] * x[i] * codes[i];
        sum_l2 = sum_l2 + weights[i] * codes[i] * codes[i];
    }
    for _ in 0..5 {
        let mut changed = zero.lt(zero);
        for i in 0..SIZE {
            let w = weights[i];
            let rest_lx = sum_lx - w * x[i] * codes[i];
            let rest_l2 = sum_l2 - w * codes[i] * codes[i];
            let code = (x[i] * rest_l2 / rest_lx).nearest_any().min(V::splat(top));
            let next_lx = rest_lx + w * x[i] * code;
            let next_l2 = rest_l2 + w * code * code;
            let better = (sum_lx * sum_lx * next_l2).lt(next_lx * next_lx * sum_l2);
            let moved = zero.lt(rest_lx) & zero.lt(rest_l2) & code.ne(codes[i]) & better;
            codes[i] = V::select(moved, code, codes[i]);
            sum_lx = V::select(moved, next_lx, sum_lx);
            sum_l2 = V::select(moved, next_l2, sum_l2);
            changed = !(!changed & !moved);
        }
        if !V::any(changed) {
            break;
        }
    }
    let empty = max.lt(V::splat(EMPTY_GROUP));
    let scale = V::select(zero.lt(sum_l2), sum_lx / sum_l2, zero);
    (V::select(empty, zero, scale), codes.map(|code| V::select(empty, zero, code)))
}

#[inline(always)]
fn error<V: Lanes, const SIZE: usize>(x: &[V; SIZE], weights: &[V; SIZE], inverse: V, limit: f32) -> V {
    let (scale, limit) = (V::splat(1.0) / inverse, V::splat(limit));
    let mut error = V::splat(0.0);
    for i in 0..SIZE {
        let difference = x[i] - scale * (inverse * x[i]).nearest().min(limit);
        error = error + weights[i] * difference * difference;
    }
    error
}
