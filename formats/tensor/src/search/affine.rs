//! `value ~ scale * code - min` for one group, `code` in `0..=top`, `min >= 0`.

use super::Rule;
use crate::lanes::Lanes;

/// Which scales are tried, and how errors count.
#[derive(Clone, Copy)]
pub(crate) struct Affine {
    /// The largest code.
    pub(crate) top: f32,
    /// The range is divided by `top + first + step * n`...
    pub(crate) first: f32,
    pub(crate) step: f32,
    /// ... for `n` in `0..=steps`.
    pub(crate) steps: u8,
    /// Errors count by magnitude rather than squared.
    pub(crate) absolute: bool,
}

impl Affine {
    /// The search that every format makes where importances are known.
    pub(crate) const fn weighted(top: f32) -> Self {
        Self { top, first: -0.9, step: 0.05, steps: 36, absolute: false }
    }
}

/// What was found, per lane.
#[derive(Clone, Copy)]
pub(crate) struct AffineFit<V> {
    /// 0 for a group that is constant.
    pub(crate) scale: V,
    /// What is subtracted; not negative.
    pub(crate) min: V,
    /// Codes are `nearest(inverse * (value - offset))`: the ones that scale and minimum were fitted to.
    inverse: V,
    offset: V,
    top: f32,
}

impl<V: Lanes> AffineFit<V> {
    /// A place for one.
    pub(crate) fn none() -> Self {
        let zero = V::splat(0.0);
        Self { scale: zero, min: zero, inverse: zero, offset: zero, top: 0.0 }
    }

    /// How the elements of the group that was fitted become codes.
    #[inline(always)]
    pub(crate) fn rule(&self) -> Rule<V> {
        Rule::times(self.inverse, self.offset)
    }

    #[inline(always)]
    fn code(&self, x: V) -> V {
        self.rule().apply(x).nearest().clamp(0.0, self.top)
    }
}

impl Affine {
    /// Fits a group. For each range tried, scale and minimum are the weighted least squares of the codes it gives. The
    /// minimum of the best so far is the start of the next range: that is the reference's order of events.
    #[inline(always)]
    pub(crate) fn fit<V: Lanes, const SIZE: usize>(self, x: &[V; SIZE], weights: &[V; SIZE]) -> AffineFit<V> {
        let zero = V::splat(0.0);
        let (mut min, mut max) = (x[0], x[0]);
        let (mut sum_w, mut sum_x) = (weights[0], weights[0] * x[0]);
        for i in 1..SIZE {
            min = x[i].min(min);
            max = x[i].max(max);
            sum_w = sum_w + weights[i];
            sum_x = sum_x + weights[i] * x[i];
        }
        min = min.min(zero);
        let constant = !min.lt(max);
        let constant_min = min;

        let top = V::splat(self.top);
        let mut best = AffineFit { scale: zero, min, inverse: top / (max - min), offset: min, top: self.top };
        best.scale = V::splat(1.0) / best.inverse;
        let mut codes = [zero; SIZE];
        for (code, &x) in codes.iter_mut().zip(x) {
            *code = best.code(x);
        }
        let mut best_error = self.error(x, weights, &codes, best.scale, min);
        for n in 0..=self.steps {
            let divisor = V::splat(self.first + self.step * f32::from(n) + self.top);
            let mut next = AffineFit { inverse: divisor / (max - min), offset: min, ..best };
            let (mut sum_l, mut sum_l2, mut sum_xl) = (zero, zero, zero);
            for i in 0..SIZE {
                let code = next.code(x[i]);
                codes[i] = code;
                let weighted = weights[i] * code;
                sum_l = sum_l + weighted;
                sum_l2 = sum_l2 + weighted * code;
                sum_xl = sum_xl + weighted * x[i];
            }
            let determinant = sum_w * sum_l2 - sum_l * sum_l;
            let solvable = zero.lt(determinant);
            next.scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
            next.min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
            let positive = zero.lt(next.min);
            next.scale = V::select(positive, sum_xl / sum_l2, next.scale);
            next.min = V::select(positive, zero, next.min);
            let error = self.error(x, weights, &codes, next.scale, next.min);
            let better = solvable & error.lt(best_error);
            best_error = V::select(better, error, best_error);
            best.scale = V::select(better, next.scale, best.scale);
            best.inverse = V::select(better, next.inverse, best.inverse);
            best.offset = V::select(better, next.offset, best.offset);
            min = V::select(better, next.min, min);
        }
        AffineFit {
            scale: V::select(constant, zero, best.scale),
            min: zero - V::select(constant, constant_min, min),
            inverse: V::select(constant, zero, best.inverse),
            offset: V::select(constant, zero, best.offset),
            top: self.top,
        }
    }

    #[inline(always)]
    fn error<V: Lanes, const SIZE: usize>(
        self,
        x: &[V; SIZE],
        weights: &[V; SIZE],
        codes: &[V; SIZE],
        scale: V,
        min: V,
    ) -> V {
        let mut error = V::splat(0.0);
        for i in 0..SIZE {
            let difference = scale * codes[i] + min - x[i];
            let size = if self.absolute { difference.abs() } else { difference * difference };
            error = error + weights[i] * size;
        }
        error
    }
}
