//! What the first phase of an encoder hands to the second: scales, and how to round with them.

use super::{Batch, Codes};
use crate::blocks::Quantized;
use crate::fit::MAGIC;
use crate::lanes::{Lanes, MAX_LANES};
use crate::scales::{MAX_GROUPS, Scales};
use half::f16;
use std::array::from_fn;

/// Scales of a block per lane, and how the reference rounds with them.
pub(crate) struct Fitted<V> {
    pub(crate) d: V,
    pub(crate) dmin: V,
    /// Group scales and minima, as integers.
    pub(crate) scales: [V; MAX_GROUPS],
    pub(crate) mins: [V; MAX_GROUPS],
    pub(crate) rules: [Rule<V>; MAX_GROUPS],
}

impl<V: Lanes> Fitted<V> {
    /// Of blocks without groups.
    #[inline(always)]
    pub(crate) fn single(d: V, dmin: V, rule: Rule<V>) -> Self {
        let zeros = [V::splat(0.0); MAX_GROUPS];
        Self { d, dmin, scales: zeros, mins: zeros, rules: [rule; MAX_GROUPS] }
    }

    /// The codes of a block per lane, by the rules.
    #[inline(always)]
    pub(crate) fn round<B: Quantized>(&self, batch: &Batch<V>, codes: &mut Codes) {
        for (j, &x) in batch.x.iter().enumerate() {
            codes.set(j, B::LEVELS.code(self.rules[j / B::GROUP_ELEMS].apply(x)));
        }
    }

    /// As they are stored.
    #[inline(always)]
    pub(super) fn scales<B: Quantized>(&self) -> [Scales; MAX_LANES] {
        let (d, dmin) = (self.d.to_array(), self.dmin.to_array());
        let mut scales: [Scales; MAX_LANES] =
            from_fn(|lane| Scales { d: f16::from_f32(d[lane]), dmin: f16::from_f32(dmin[lane]), ..Scales::default() });
        let n_groups = B::ELEMS / B::GROUP_ELEMS;
        for g in 0..if n_groups == 1 { 0 } else { n_groups } {
            let (group, min) = (bytes(self.scales[g]), bytes(self.mins[g]));
            for lane in 0..V::N {
                scales[lane].scales[g] = group[lane] as i8;
                scales[lane].mins[g] = min[lane];
            }
        }
        scales
    }
}

/// How the reference rounds an element `x`: to the level nearest to `factor * (x - offset) / divisor`.
///
/// This is not always the inverse of `step * level - min`, because several formats round with a scale that is not yet
/// rounded to f16.
#[derive(Clone, Copy)]
pub(crate) struct Rule<V> {
    factor: V,
    offset: V,
    divisor: Option<V>,
}

impl<V: Lanes> Rule<V> {
    /// `factor * (x - offset)`
    #[inline(always)]
    pub(crate) fn times(factor: V, offset: V) -> Self {
        Self { factor, offset, divisor: None }
    }

    /// Code 0 for every value.
    #[inline(always)]
    pub(crate) fn lowest() -> Self {
        Self::times(V::splat(1.0), V::splat(f32::INFINITY))
    }

    /// `(x + min) / step`. A group whose step is zero decodes to one value whatever its codes; the reference leaves
    /// those of the scale search, which `other` gives.
    #[inline(always)]
    pub(crate) fn over(step: V, min: V, other: Self) -> Self {
        let (one, used) = (V::splat(1.0), step.ne(V::splat(0.0)));
        Self {
            factor: V::select(used, one, other.factor),
            offset: V::select(used, V::splat(0.0) - min, other.offset),
            divisor: Some(V::select(used, step, one)),
        }
    }

    /// Per lane `if mask { a } else { b }`.
    #[inline(always)]
    pub(crate) fn select(mask: V::Mask, a: Self, b: Self) -> Self {
        let one = V::splat(1.0);
        let either = a.divisor.or(b.divisor);
        Self {
            factor: V::select(mask, a.factor, b.factor),
            offset: V::select(mask, a.offset, b.offset),
            divisor: either.map(|_| V::select(mask, a.divisor.unwrap_or(one), b.divisor.unwrap_or(one))),
        }
    }

    /// The value that is rounded.
    #[inline(always)]
    pub(crate) fn apply(self, x: V) -> V {
        let scaled = self.factor * (x - self.offset);
        match self.divisor {
            Some(divisor) => scaled / divisor,
            None => scaled,
        }
    }
}

/// The lowest byte of an integer of less than 22 bits, two's complement, per lane.
#[inline(always)]
fn bytes<V: Lanes>(x: V) -> [u8; MAX_LANES] {
    // The lowest bits of the mantissa are the integer.
    (x + V::splat(MAGIC)).to_array().map(|lane| lane.to_bits() as u8)
}
