//! Q5_K: affine, 5 bits, a super-block of 8 groups of 32.
//!
//! ```text
//! byte  0       2          4                         16                              48                   176
//!       | d f16 | dmin f16 | 6-bit scales and minima | fifth bits: bit g of byte l   | nibbles as in Q4_K |
//! value j = d * scale[j / 32] * q[j] - dmin * min[j / 32]
//! ```

use super::q4_k::pack_nibbles;
use super::{Codec, block, six_bit};
use crate::fit::f16_value;
use crate::lanes::Lanes;
use crate::search::affine::Affine;
use crate::search::super_block::{AffineSuperBlock, Parts};
use crate::search::{self, Batch, Search};

/// 256 elements in 176 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct Q5_K {
    /// Scale of the group scales, a little-endian f16.
    pub d: [u8; 2],
    /// Scale of the group minima, a little-endian f16.
    pub dmin: [u8; 2],
    /// Group scales and minima, 6 bits each.
    pub scales: [u8; 12],
    /// Fifth bits.
    pub qh: [u8; 32],
    /// Lower four bits.
    pub qs: [u8; 128],
}
block!(Q5_K, elems = 256, bytes = 176);

impl Search for Q5_K {
    #[inline(always)]
    fn search<V: Lanes>(batch: &Batch<V>, out: &mut [Self]) {
        let plain = Affine { top: 31.0, first: -0.5, step: 0.1, steps: 15, absolute: false };
        let found = AffineSuperBlock::<8, 32> { plain, level_weights: true, sigma2: 2.0, top: 63.0 }.search(batch);
        for (lane, out) in out.iter_mut().enumerate() {
            let Parts { d, dmin, scales, mins, codes } = found.lane(lane);
            let scales = six_bit::pack(scales, mins);
            let mut qh = [0; 32];
            for (j, code) in codes.iter().enumerate() {
                qh[j % 32] |= code >> 4 << (j / 32);
            }
            *out = Self { d, dmin, scales, qh, qs: pack_nibbles(codes) };
        }
    }
}

impl Codec for Q5_K {
    fn encode(src: &[f32], importance: Option<&[f32]>, dst: &mut [Self]) {
        search::encode(src, importance, dst);
    }

    fn decode(&self, values: &mut [f32]) {
        let (d, dmin) = (f16_value(self.d), f16_value(self.dmin));
        for (g, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (scale, min) = six_bit::get(&self.scales, g);
            let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
            for ((v, low), high) in values.iter_mut().zip(&self.qs[g / 2 * 32..]).zip(&self.qh) {
                let code = low >> (4 * (g % 2)) & 15 | (high >> g & 1) << 4;
                *v = scale * f32::from(code) - min;
            }
        }
    }
}
