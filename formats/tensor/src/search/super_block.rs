//! A super-block of groups with scales and minima that are themselves multiples of one scale and one minimum.

use super::affine::{Affine, AffineFit};
use super::{Batch, Codes, positive};
use crate::fit::{f16_bytes, f16_value};
use crate::lanes::{Lanes, MAX_LANES};

/// Elements of a super-block.
const ELEMS: usize = 256;

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

/// A super-block per lane, but for how its parts are packed.
pub(crate) struct Found<const GROUPS: usize> {
    d: [f32; MAX_LANES],
    dmin: [f32; MAX_LANES],
    scales: Codes<GROUPS>,
    mins: Codes<GROUPS>,
    codes: Codes<ELEMS>,
}

/// The parts of one super-block.
pub(crate) struct Parts<'a, const GROUPS: usize> {
    pub(crate) d: [u8; 2],
    pub(crate) dmin: [u8; 2],
    pub(crate) scales: &'a [u8; GROUPS],
    pub(crate) mins: &'a [u8; GROUPS],
    pub(crate) codes: &'a [u8; ELEMS],
}

impl<const GROUPS: usize> Found<GROUPS> {
    /// The parts of one lane.
    pub(crate) fn lane(&self, lane: usize) -> Parts<'_, GROUPS> {
        Parts {
            d: f16_bytes(self.d[lane]),
            dmin: f16_bytes(self.dmin[lane]),
            scales: self.scales.lane(lane),
            mins: self.mins.lane(lane),
            codes: self.codes.lane(lane),
        }
    }
}

impl<const GROUPS: usize, const SIZE: usize> AffineSuperBlock<GROUPS, SIZE> {
    /// Fits every group by itself, then scales and minima to multiples of one, then rounds the elements once more.
    #[inline(always)]
    pub(crate) fn search<V: Lanes>(&self, batch: &Batch<V>) -> Found<GROUPS> {
        const { assert!(GROUPS * SIZE == ELEMS) };
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
        let d16 = d.map(|d| f16_value(f16_bytes(d)));
        let dmin16 = dmin.map(|d| f16_value(f16_bytes(d)));
        let mut codes = [zero; ELEMS];
        for (j, code) in codes.iter_mut().enumerate() {
            let g = j / SIZE;
            let (step, min) = (d16 * scales[g], dmin16 * mins[g]);
            let rounded = ((batch.x[j] + min) / step).nearest().clamp(0.0, self.plain.top);
            // Such a group decodes to its minimum whatever its codes; the reference leaves those of the scale search.
            *code = V::select(step.ne(zero), rounded, fits[g].code(batch.x[j]));
        }
        Found {
            d: d.to_array(),
            dmin: dmin.to_array(),
            scales: Codes::new(&scales),
            mins: Codes::new(&mins),
            codes: Codes::new(&codes),
        }
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
