//! `value ~ scale * code` for values that are not negative, `code` in `0..=top`: the group scales of a super-block, and
//! where the search of IQ2_XXS starts.

use super::symmetric::EMPTY_GROUP;
use crate::lanes::Lanes;

/// Scale and codes by a weighted search of nine inverse scales, then moving one code at a time, up to five times.
///
/// A value may be negative all the same, in IQ2_XXS. Its code is, too, and the reference keeps codes in bytes, so that
/// it reads them back as large ones.
#[inline(always)]
pub(crate) fn fit<V: Lanes, const SIZE: usize>(x: &[V; SIZE], weights: &[V; SIZE], top: f32) -> (V, [V; SIZE]) {
    let (zero, limit) = (V::splat(0.0), V::splat(top));
    let mut max = zero;
    for &x in x {
        max = max.max(x);
    }
    let mut inverse = limit / max;
    let mut codes = [zero; SIZE];
    for (code, &x) in codes.iter_mut().zip(x) {
        *code = byte((inverse * x).nearest_any());
    }
    let mut best = error(x, weights, &codes, inverse);
    for step in -4..=4 {
        if step == 0 {
            continue;
        }
        let candidate = V::splat(0.1 * step as f32 + top) / max;
        for (code, &x) in codes.iter_mut().zip(x) {
            *code = (candidate * x).nearest_any().min(limit);
        }
        let error = error(x, weights, &codes, candidate);
        let better = error.lt(best);
        best = V::select(better, error, best);
        inverse = V::select(better, candidate, inverse);
    }
    let (mut sum_lx, mut sum_l2) = (zero, zero);
    for i in 0..SIZE {
        let code = (inverse * x[i]).nearest_any().min(limit);
        sum_lx = sum_lx + weights[i] * x[i] * code;
        sum_l2 = sum_l2 + weights[i] * code * code;
        codes[i] = byte(code);
    }
    for _ in 0..5 {
        let mut changed = zero.lt(zero);
        for i in 0..SIZE {
            let w = weights[i];
            let rest_lx = sum_lx - w * x[i] * codes[i];
            let rest_l2 = sum_l2 - w * codes[i] * codes[i];
            let code = (x[i] * rest_l2 / rest_lx).nearest_any().min(limit);
            let next_lx = rest_lx + w * x[i] * code;
            let next_l2 = rest_l2 + w * code * code;
            let better = (sum_lx * sum_lx * next_l2).lt(next_lx * next_lx * sum_l2);
            let moved = zero.lt(rest_lx) & zero.lt(rest_l2) & code.ne(codes[i]) & better;
            codes[i] = V::select(moved, byte(code), codes[i]);
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
fn error<V: Lanes, const SIZE: usize>(x: &[V; SIZE], weights: &[V; SIZE], codes: &[V; SIZE], inverse: V) -> V {
    let scale = V::splat(1.0) / inverse;
    let mut error = V::splat(0.0);
    for i in 0..SIZE {
        let difference = x[i] - scale * codes[i];
        error = error + weights[i] * difference * difference;
    }
    error
}

/// An integer modulo 256.
#[inline(always)]
fn byte<V: Lanes>(x: V) -> V {
    let runs = ((x - V::splat(127.5)) / V::splat(256.0)).nearest();
    x - V::splat(256.0) * runs
}
