//! Q3_K: symmetric, 3 bits, a super-block of 16 groups of 16.
//!
//! ```text
//! byte  0                            32                    96                  108     110
//!       | third bits: bit u of byte l | bit pairs as in Q2_K | 6-bit group scales | d f16 |
//! value j = d * (scale[j / 16] - 32) * (q[j] - 4)
//! ```
//! Unit u of 32 elements has its third bits in bit u of the first 32 bytes. Of the 12 bytes of scales, byte g of the
//! first 8 holds the lower nibbles of g (low) and g + 8 (high); byte 8 + g % 4 holds the upper pairs of g, g + 4, ...,
//! lowest first.

use super::q2_k::{pack_pairs, unpack_pairs};
use super::{Quantized, block, whole};
use crate::fit::stored;
use crate::lanes::{Lanes, Portable};
use crate::scales::{Group, Levels, Scales};
use crate::search::symmetric::{SymmetricFit, largest};
use crate::search::{Batch, Codes, Fit, Fitted, Rule};
use std::array::from_fn;

/// 256 elements in 110 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct Q3_K {
    /// Third bits.
    pub hmask: [u8; 32],
    /// Lower two bits.
    pub qs: [u8; 64],
    /// Group scales, 6 bits each, around 32.
    pub scales: [u8; 12],
    /// Scale of the group scales, a little-endian f16.
    pub d: [u8; 2],
}
block!(Q3_K, elems = 256, bytes = 110);

/// Half the number of codes, and of group scales.
const HALF: f32 = 4.0;
const SCALE_HALF: f32 = 32.0;

impl Fit for Q3_K {
    #[inline(always)]
    fn fit<V: Lanes>(batch: &Batch<V>) -> Fitted<V> {
        let zero = V::splat(0.0);
        let mut fitted = [zero; 16];
        let mut sums = [zero; 16];
        let mut rules = [Rule::lowest(); 16];
        let sigma2 = V::splat(2.0) * Batch::sum_of_squares(&batch.x) / V::splat(256.0);
        for g in 0..16 {
            let x = batch.group::<16>(g);
            if batch.importance.is_some() {
                let weights = batch.weights(g, sigma2, |x| x * x);
                let fit = SymmetricFit::new(x, &weights, HALF);
                (fitted[g], rules[g]) = (fit.scale, fit.rule());
                for w in weights {
                    sums[g] = sums[g] + w;
                }
            } else {
                (fitted[g], _) = SymmetricFit::refined(x, HALF);
            }
        }
        let (d, scales) = if batch.importance.is_some() {
            let fit = SymmetricFit::new(&fitted, &sums, SCALE_HALF);
            (fit.scale, fitted.map(|x| fit.rule().apply(x).nearest().clamp(-SCALE_HALF, SCALE_HALF - 1.0)))
        } else {
            by_largest(&fitted)
        };
        let mut all = Fitted { scales, ..Fitted::single(d, zero, Rule::lowest()) };
        let d = stored(d);
        for g in 0..16 {
            all.rules[g] = Rule::over(d * scales[g], zero, rules[g]);
        }
        all
    }

    #[inline(always)]
    fn round<V: Lanes>(batch: &Batch<V>, fitted: &Fitted<V>, codes: &mut Codes) {
        fitted.round::<Self>(batch, codes);
        if batch.importance.is_some() {
            return;
        }
        let d = stored(fitted.d);
        for g in 0..16 {
            let step = d * fitted.scales[g];
            if !V::any(!step.ne(V::splat(0.0))) {
                continue;
            }
            let steps = step.to_array();
            for lane in (0..V::N).filter(|&lane| steps[lane] == 0.0 || steps[lane].is_nan()) {
                let mut x = [0.0; 16];
                x.iter_mut().zip(batch.group::<16>(g)).for_each(|(x, lanes)| *x = lanes.to_array()[lane]);
                codes.lane_mut(lane)[16 * g..][..16].copy_from_slice(&refined_codes(x));
            }
        }
    }
}

/// A group whose step is zero decodes to zeros whatever its codes; the reference leaves those of the scale search. This
/// is rare. Inlined it would cost a third of the speed of all other groups.
#[cold]
#[inline(never)]
fn refined_codes(x: [f32; 16]) -> [u8; 16] {
    let (_, codes) = SymmetricFit::refined(&x.map(Portable::<1>::splat), HALF);
    codes.map(|code| code.to_array()[0] as u8)
}

/// Rounds to 32nds of the largest, which becomes -32. So do all in a super-block of zeros.
#[inline(always)]
fn by_largest<V: Lanes>(x: &[V; 16]) -> (V, [V; 16]) {
    let (zero, one) = (V::splat(0.0), V::splat(1.0));
    let (_, max) = largest(x);
    let inverse = V::splat(-SCALE_HALF) / max;
    let any = max.ne(zero);
    let scale = |x: V| (inverse * x).nearest().clamp(-SCALE_HALF, SCALE_HALF - 1.0);
    (V::select(any, one / inverse, zero), x.map(|x| V::select(any, scale(x), V::splat(-SCALE_HALF))))
}

fn pack_scales(scales: &Scales) -> [u8; 12] {
    let scales = scales.scales.map(|scale| (scale + 32) as u8);
    from_fn(|i| match i {
        0..8 => scales[i] & 15 | scales[i + 8] << 4,
        _ => (0..4).fold(0, |byte, part| byte | scales[i - 8 + 4 * part] >> 4 << (2 * part)),
    })
}

impl Quantized for Q3_K {
    const GROUP_ELEMS: usize = 16;
    const LEVELS: Levels = Levels::integers(-4, 3);
    const SCALES: Option<(i8, i8)> = Some((-32, 31));

    fn group(scales: &Scales, g: usize) -> Group {
        Group::scaled(scales, g)
    }

    fn pack(scales: &Scales, codes: &[u8]) -> Self {
        let codes = whole(codes);
        let mut hmask = [0; 32];
        for (j, code) in codes.iter().enumerate() {
            hmask[j % 32] |= code >> 2 << (j / 32);
        }
        Self { hmask, qs: pack_pairs(codes), scales: pack_scales(scales), d: scales.d.to_le_bytes() }
    }

    fn unpack(&self, codes: &mut [u8]) -> Scales {
        unpack_pairs(&self.qs, codes);
        for (u, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (code, high) in codes.iter_mut().zip(&self.hmask) {
                *code |= (high >> u & 1) << 2;
            }
        }
        let low = |g: usize| self.scales[g % 8] >> (4 * (g / 8)) & 15;
        let high = |g: usize| self.scales[8 + g % 4] >> (2 * (g / 4)) & 3;
        Scales { scales: from_fn(|g| (low(g) | high(g) << 4) as i8 - 32), ..Scales::read(self.d, [0; 2]) }
    }
}
