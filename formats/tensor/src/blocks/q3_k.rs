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

use super::q2_k::pack_pairs;
use super::{Codec, block};
use crate::fit::{f16_bytes, f16_value};
use crate::lanes::Lanes;
use crate::search::symmetric::{SymmetricFit, largest};
use crate::search::{self, Batch, Codes, Search};
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

impl Search for Q3_K {
    #[inline(always)]
    fn search<V: Lanes>(batch: &Batch<V>, out: &mut [Self]) {
        let zero = V::splat(0.0);
        let mut codes = [zero; 256];
        let mut fitted = [zero; 16];
        let mut sums = [zero; 16];
        let sigma2 = V::splat(2.0) * Batch::sum_of_squares(&batch.x) / V::splat(256.0);
        for g in 0..16 {
            let x = batch.group::<16>(g);
            let codes = codes[16 * g..].first_chunk_mut::<16>().expect("a group");
            if batch.importance.is_some() {
                let weights = batch.weights(g, sigma2, |x| x * x);
                let fit = SymmetricFit::new(x, &weights, HALF);
                fitted[g] = fit.scale;
                *codes = x.map(|x| fit.code(x));
                for w in weights {
                    sums[g] = sums[g] + w;
                }
            } else {
                (fitted[g], *codes) = SymmetricFit::refined(x, HALF);
            }
        }
        let (d, scales) = if batch.importance.is_some() {
            let fit = SymmetricFit::new(&fitted, &sums, SCALE_HALF);
            (fit.scale, fitted.map(|scale| fit.code(scale)))
        } else {
            by_largest(&fitted)
        };
        let d16 = d.map(|d| f16_value(f16_bytes(d)));
        for (j, code) in codes.iter_mut().enumerate() {
            let step = d16 * (scales[j / 16] - V::splat(SCALE_HALF));
            let rounded = (batch.x[j] / step).nearest().clamp(-HALF, HALF - 1.0) + V::splat(HALF);
            // Such a group decodes to zero whatever its codes; the reference leaves those of the scale search.
            *code = V::select(step.ne(zero), rounded, *code);
        }
        let (codes, scales, d) = (Codes::new(&codes), Codes::new(&scales), d.to_array());
        for (lane, out) in out.iter_mut().enumerate() {
            let (codes, scales) = (codes.lane(lane), scales.lane(lane));
            let mut hmask = [0; 32];
            for (j, code) in codes.iter().enumerate() {
                hmask[j % 32] |= code >> 2 << (j / 32);
            }
            *out = Self { hmask, qs: pack_pairs(codes), scales: pack_scales(scales), d: f16_bytes(d[lane]) };
        }
    }
}

/// Rounds to 32nds of the largest, which becomes -32. A super-block of zeros has scales of 0, which mean -32.
#[inline(always)]
fn by_largest<V: Lanes>(x: &[V; 16]) -> (V, [V; 16]) {
    let (zero, one) = (V::splat(0.0), V::splat(1.0));
    let (_, max) = largest(x);
    let inverse = V::splat(-SCALE_HALF) / max;
    let any = max.ne(zero);
    let code = |x: V| (inverse * x).nearest().clamp(-SCALE_HALF, SCALE_HALF - 1.0) + V::splat(SCALE_HALF);
    (V::select(any, one / inverse, zero), x.map(|x| V::select(any, code(x), zero)))
}

fn pack_scales(scales: &[u8; 16]) -> [u8; 12] {
    from_fn(|i| match i {
        0..8 => scales[i] & 15 | scales[i + 8] << 4,
        _ => (0..4).fold(0, |byte, part| byte | scales[i - 8 + 4 * part] >> 4 << (2 * part)),
    })
}

impl Q3_K {
    /// Scale of group `g`, -32..=31.
    fn scale(&self, g: usize) -> i8 {
        let low = self.scales[g % 8] >> (4 * (g / 8)) & 15;
        let high = self.scales[8 + g % 4] >> (2 * (g / 4)) & 3;
        (low | high << 4) as i8 - 32
    }
}

impl Codec for Q3_K {
    fn encode(src: &[f32], importance: Option<&[f32]>, dst: &mut [Self]) {
        search::encode(src, importance, dst);
    }

    fn decode(&self, values: &mut [f32]) {
        let d = f16_value(self.d);
        for (j, v) in values.iter_mut().enumerate() {
            let low = self.qs[j / 128 * 32 + j % 32] >> (j % 128 / 32 * 2) & 3;
            let high = self.hmask[j % 32] >> (j / 32) & 1;
            *v = d * f32::from(self.scale(j / 16)) * f32::from((low | high << 2) as i8 - 4);
        }
    }
}
