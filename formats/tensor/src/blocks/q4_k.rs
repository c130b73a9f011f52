//! Q4_K: affine, 4 bits, a super-block of 8 groups of 32.
//!
//! ```text
//! byte  0       2          4                          16                                     144
//!       | d f16 | dmin f16 | 6-bit scales and minima  | 4 runs of 32: low nibble element l, high: l + 32 of 64 |
//! value j = d * scale[j / 32] * q[j] - dmin * min[j / 32]
//! ```

use super::{Codec, block, six_bit};
use crate::fit::f16_value;
use crate::lanes::Lanes;
use crate::search::affine::Affine;
use crate::search::super_block::{AffineSuperBlock, Parts};
use crate::search::{self, Batch, Search};

/// 256 elements in 144 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct Q4_K {
    /// Scale of the group scales, a little-endian f16.
    pub d: [u8; 2],
    /// Scale of the group minima, a little-endian f16.
    pub dmin: [u8; 2],
    /// Group scales and minima, 6 bits each.
    pub scales: [u8; 12],
    /// Codes.
    pub qs: [u8; 128],
}
block!(Q4_K, elems = 256, bytes = 144);

impl Search for Q4_K {
    #[inline(always)]
    fn search<V: Lanes>(batch: &Batch<V>, out: &mut [Self]) {
        let plain = Affine { top: 15.0, first: -1.0, step: 0.1, steps: 20, absolute: false };
        let found = AffineSuperBlock::<8, 32> { plain, level_weights: true, sigma2: 2.0, top: 63.0 }.search(batch);
        for (lane, out) in out.iter_mut().enumerate() {
            let Parts { d, dmin, scales, mins, codes } = found.lane(lane);
            let scales = six_bit::pack(scales, mins);
            *out = Self { d, dmin, scales, qs: pack_nibbles(codes) };
        }
    }
}

impl Codec for Q4_K {
    fn encode(src: &[f32], importance: Option<&[f32]>, dst: &mut [Self]) {
        search::encode(src, importance, dst);
    }

    fn decode(&self, values: &mut [f32]) {
        let (d, dmin) = (f16_value(self.d), f16_value(self.dmin));
        for (g, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (scale, min) = six_bit::get(&self.scales, g);
            let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
            for (v, byte) in values.iter_mut().zip(&self.qs[g / 2 * 32..]) {
                *v = scale * f32::from(byte >> (4 * (g % 2)) & 15) - min;
            }
        }
    }
}

/// The low nibbles of codes: of each 64, code `l` in the low and `l + 32` in the high nibble of byte `l`.
pub(super) fn pack_nibbles(codes: &[u8; 256]) -> [u8; 128] {
    std::array::from_fn(|i| {
        let l = i / 32 * 64 + i % 32;
        codes[l] & 15 | codes[l + 32] << 4
    })
}
