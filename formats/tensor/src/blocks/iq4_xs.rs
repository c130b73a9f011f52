//! IQ4_XS: the sixteen levels of IQ4_NL in a super-block of 8 groups of 32.
//!
//! ```text
//! byte  0       2                           4                             8                        136
//!       | d f16 | upper pairs of scales u16 | lower nibbles, 2 per byte   | 8 runs of 16 as in IQ4_NL |
//! value j = d * (scale[j / 32] - 32) * LEVELS[q[j]]
//! ```

use super::iq4_nl::LEVELS;
use super::q4_0::{pack_nibbles, unpack_nibbles};
use super::{Codec, block};
use crate::fit::{f16_bytes, f16_value};
use crate::lanes::Lanes;
use crate::search::levels;
use crate::search::symmetric::largest;
use crate::search::{self, Batch, Codes, Search};
use std::array::from_fn;

/// 256 elements in 136 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct IQ4_XS {
    /// Scale of the group scales, a little-endian f16.
    pub d: [u8; 2],
    /// Upper two bits of the group scales, a little-endian u16.
    pub scales_h: [u8; 2],
    /// Lower four bits of the group scales.
    pub scales_l: [u8; 4],
    /// Codes.
    pub qs: [u8; 128],
}
block!(IQ4_XS, elems = 256, bytes = 136);

impl Search for IQ4_XS {
    #[inline(always)]
    fn search<V: Lanes>(batch: &Batch<V>, out: &mut [Self]) {
        let (zero, one) = (V::splat(0.0), V::splat(1.0));
        let sigma2 = Batch::sum_of_squares(&batch.x) * V::splat(2.0 / 256.0);
        let mut fitted = [zero; 8];
        for (g, scale) in fitted.iter_mut().enumerate() {
            *scale = levels::fit(batch.group(g), &batch.weights(g, sigma2, |x| x * x));
        }
        let (_, max) = largest(&fitted);
        let d = (zero - max) / V::splat(32.0);
        let inverse = V::select(d.ne(zero), one / d, zero);
        let scales = fitted.map(|scale| (inverse * scale).nearest().clamp(-32.0, 31.0));
        let mut codes = [zero; 256];
        for (j, code) in codes.iter_mut().enumerate() {
            let step = d * scales[j / 32];
            *code = levels::nearest_code(V::select(step.ne(zero), one / step, zero) * batch.x[j]);
        }
        let codes = Codes::new(&codes);
        let scales = Codes::new(&scales.map(|scale| scale + V::splat(32.0)));
        // A block of zeros has the super-scale -0, as in the reference.
        let d = V::select(max.ne(zero), d, V::splat(-0.0)).to_array();
        for (lane, out) in out.iter_mut().enumerate() {
            let (scales, runs) = (scales.lane(lane), codes.lane(lane).as_chunks::<32>().0);
            let upper = (0..8).fold(0u16, |bits, g| bits | u16::from(scales[g] >> 4) << (2 * g));
            *out = Self {
                d: f16_bytes(d[lane]),
                scales_h: upper.to_le_bytes(),
                scales_l: from_fn(|i| scales[2 * i] & 15 | scales[2 * i + 1] << 4),
                qs: from_fn(|i| pack_nibbles(&runs[i / 16])[i % 16]),
            };
        }
    }
}

impl Codec for IQ4_XS {
    fn encode(src: &[f32], importance: Option<&[f32]>, dst: &mut [Self]) {
        search::encode(src, importance, dst);
    }

    fn decode(&self, values: &mut [f32]) {
        let (d, upper) = (f16_value(self.d), u16::from_le_bytes(self.scales_h));
        let runs = self.qs.as_chunks::<16>().0;
        for (g, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let low = self.scales_l[g / 2] >> (4 * (g % 2)) & 15;
            let scale = low | ((upper >> (2 * g) & 3) << 4) as u8;
            let step = d * f32::from(scale as i8 - 32);
            for (v, c) in values.iter_mut().zip(unpack_nibbles(&runs[g])) {
                *v = step * f32::from(LEVELS[usize::from(c)]);
            }
        }
    }
}
