//! A super-block of groups with scales and minima that are themselves multiples of one scale and one minimum.

use super::affine::{Affine, AffineFit};
use super::{Batch, Fitted, Rule, positive};
use crate::blocks::MAX_ELEMS as ELEMS;
use crate::fit::stored;
use crate::lanes::Lanes;
use crate::scales::MAX_GROUPS;

/// `GROUPS` groups of `SIZE` elements, and how they are searched.
pub(crate) struct AffineSuperBlock<const GROUPS: usize, const SIZE: usize> {
    /// What is tried where no importances are known.
    pub(crate) plain: Affine,
    /// Whether the weight of an element without importance is its magnitude plus the root mean square of its group,
    /// rather than the magnitude alone.
    pub(crate) level_weights: bool,
    /// With importances, sigma^2 in the weights is this many times the mean square of the super-block.
    pub(crate) sigma2: f32,
    /// The largest group scale and minimum.
    pub(crate) top: f32,
}

impl<const GROUPS: usize, const SIZE: usize> AffineSuperBlock<GROUPS, SIZE> {
    /// Fits every group by itself, then scales and minima to multiples of one.
    #[inline(always)]
    pub(crate) fn fit<V: Lanes>(&self, batch: &Batch<V>) -> Fitted<V> {
        const { assert!(GROUPS * SIZE == ELEMS && GROUPS <= MAX_GROUPS) };
        let zero = V::splat(0.0);
        let weighted = batch.importance.is_some();
        let sigma2 = Batch::sum_of_squares(&batch.x) * V::splat(self.sigma2 / ELEMS as f32);
        let affine = if weighted { Affine::weighted(self.plain.top) } else { self.plain };
        let mut fits = [AffineFit::none(); GROUPS];
        let (mut fitted, mut fitted_mins, mut sums) = ([zero; GROUPS], [zero; GROUPS], [zero; GROUPS]);
        for g in 0..GROUPS {
            let x = batch.group::<SIZE>(g);
            let level =
                if self.level_weights { (Batch::sum_of_squares(x) / V::splat(SIZE as f32)).sqrt() } else { zero };
            let weights = batch.weights(g, sigma2, |x| level + x.abs());
            fits[g] = affine.fit(x, &weights);
            (fitted[g], fitted_mins[g]) = (fits[g].scale, fits[g].min);
            for w in weights {
                sums[g] = sums[g] + w;
            }
        }
        let (d, scales) = round_all(&fitted, &sums, self.top, weighted);
        let (dmin, mins) = round_all(&fitted_mins, &sums, self.top, weighted);
        let mut all = Fitted::single(d, dmin, Rule::lowest());
        let (d, dmin) = (stored(d), stored(dmin));
        for g in 0..GROUPS {
            (all.scales[g], all.mins[g]) = (scales[g], mins[g]);
            all.rules[g] = Rule::over(d * scales[g], dmin * mins[g], fits[g].rule());
        }
        all
    }
}

/// Scales (or minima) as multiples of one: by a weighted search, or of the largest divided by `top`.
#[inline(always)]
fn round_all<V: Lanes, const GROUPS: usize>(
    x: &[V; GROUPS],
    weights: &[V; GROUPS],
    top: f32,
    weighted: bool,
) -> (V, [V; GROUPS]) {
    if weighted {
        return positive::fit(x, weights, top);
    }
    let (zero, top) = (V::splat(0.0), V::splat(top));
    let mut max = zero;
    for &x in x {
        max = x.max(max);
    }
    let inverse = V::select(zero.lt(max), top / max, zero);
    (max / top, x.map(|x| (inverse * x).nearest().min(top)))
}
