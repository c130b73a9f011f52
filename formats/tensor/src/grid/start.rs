//! Where the search of IQ2_XXS starts: a scale for codes in `0..=4`.

use crate::lanes::Lanes;

/// The largest code.
const TOP: f32 = 4.0;

/// A scale by a weighted search of nine inverse scales, then moving one code at a time, up to five times: what
/// `search::positive` does, but some values may be negative. Their codes are, too, and the reference keeps codes in
/// bytes, so that it reads them back as large ones.
#[inline(always)]
pub(super) fn scale<V: Lanes, const SIZE: usize>(x: &[V; SIZE], weights: &[V; SIZE], max: V) -> V {
    let (zero, top) = (V::splat(0.0), V::splat(TOP));
    let mut inverse = top / max;
    let mut best = zero;
    let unit = V::splat(1.0) / inverse;
    for i in 0..SIZE {
        let difference = x[i] - unit * byte((inverse * x[i]).nearest_any());
        best = best + weights[i] * difference * difference;
    }
    for step in -4..=4 {
        if step == 0 {
            continue;
        }
        let candidate = V::splat(0.1 * step as f32 + TOP) / max;
        let unit = V::splat(1.0) / candidate;
        let mut error = zero;
        for i in 0..SIZE {
            let difference = x[i] - unit * (candidate * x[i]).nearest_any().min(top);
            error = error + weights[i] * difference * difference;
        }
        let better = error.lt(best);
        best = V::select(better, error, best);
        inverse = V::select(better, candidate, inverse);
    }
    let mut codes = [zero; SIZE];
    let (mut sum_lx, mut sum_l2) = (zero, zero);
    for i in 0..SIZE {
        let code = (inverse * x[i]).nearest_any().min(top);
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
            let code = (x[i] * rest_l2 / rest_lx).nearest_any().min(top);
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
    V::select(zero.lt(sum_l2), sum_lx / sum_l2, zero)
}

/// An integer modulo 256.
#[inline(always)]
fn byte<V: Lanes>(x: V) -> V {
    let runs = ((x - V::splat(127.5)) / V::splat(256.0)).nearest();
    x - V::splat(256.0) * runs
}
