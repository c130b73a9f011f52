//! Q2_K: affine, 2 bits, a super-block of 16 groups of 16.
//!
//! ```text
//! byte  0                               16                                              80      82         84
//!       | low nibble scale, high minimum | 2 runs of 32: bit pairs of l, l + 32, + 64, + 96 | d f16 | dmin f16 |
//! value j = d * scale[j / 16] * q[j] - dmin * min[j / 16]
//! ```

use super::{Codec, block};
use crate::fit::f16_value;
use crate::lanes::Lanes;
use crate::search::affine::Affine;
use crate::search::super_block::{AffineSuperBlock, Parts};
use crate::search::{self, Batch, Search};
use std::array::from_fn;

/// 256 elements in 84 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct Q2_K {
    /// Group scales in the low nibbles, group minima in the high ones.
    pub scales: [u8; 16],
    /// Codes.
    pub qs: [u8; 64],
    /// Scale of the group scales, a little-endian f16.
    pub d: [u8; 2],
    /// Scale of the group minima, a little-endian f16.
    pub dmin: [u8; 2],
}
block!(Q2_K, elems = 256, bytes = 84);

impl Search for Q2_K {
    #[inline(always)]
    fn search<V: Lanes>(batch: &Batch<V>, out: &mut [Self]) {
        let plain = Affine { top: 3.0, first: -0.5, step: 0.1, steps: 15, absolute: true };
        let found = AffineSuperBlock::<16, 16> { plain, level_weights: false, sigma2: 1.0, top: 15.0 }.search(batch);
        for (lane, out) in out.iter_mut().enumerate() {
            let Parts { d, dmin, scales, mins, codes } = found.lane(lane);
            *out = Self { scales: from_fn(|g| scales[g] | mins[g] << 4), qs: pack_pairs(codes), d, dmin };
        }
    }
}

/// The lowest two bits of codes: of each 128, those of `l`, `l + 32`, `l + 64`, `l + 96` in byte `l`, lowest first.
pub(super) fn pack_pairs(codes: &[u8; 256]) -> [u8; 64] {
    from_fn(|i| {
        let l = i / 32 * 128 + i % 32;
        (0..4).fold(0, |byte, part| byte | (codes[l + 32 * part] & 3) << (2 * part))
    })
}

impl Codec for Q2_K {
    fn encode(src: &[f32], importance: Option<&[f32]>, dst: &mut [Self]) {
        search::encode(src, importance, dst);
    }

    fn decode(&self, values: &mut [f32]) {
        let (d, dmin) = (f16_value(self.d), f16_value(self.dmin));
        for (j, v) in values.iter_mut().enumerate() {
            let packed = self.scales[j / 16];
            let code = self.qs[j / 128 * 32 + j % 32] >> (j % 128 / 32 * 2) & 3;
            *v = d * f32::from(packed & 15) * f32::from(code) - dmin * f32::from(packed >> 4);
        }
    }
}
