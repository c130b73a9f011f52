//! Q2_K: affine, 2 bits, a super-block of 16 groups of 16.
//!
//! ```text
//! byte  0                               16                                              80      82         84
//!       | low nibble scale, high minimum | 2 runs of 32: bit pairs of l, l + 32, + 64, + 96 | d f16 | dmin f16 |
//! value j = d * scale[j / 16] * q[j] - dmin * min[j / 16]
//! ```

use super::{Quantized, block, whole};
use crate::lanes::Lanes;
use crate::scales::{Group, Levels, Scales};
use crate::search::affine::Affine;
use crate::search::super_block::AffineSuperBlock;
use crate::search::{Batch, Fit, Fitted};
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

impl Fit for Q2_K {
    #[inline(always)]
    fn fit<V: Lanes>(batch: &Batch<V>) -> Fitted<V> {
        let plain = Affine { top: 3.0, first: -0.5, step: 0.1, steps: 15, absolute: true };
        AffineSuperBlock::<16, 16> { plain, level_weights: false, sigma2: 1.0, top: 15.0 }.fit(batch)
    }
}

impl Quantized for Q2_K {
    const GROUP_ELEMS: usize = 16;
    const LEVELS: Levels = Levels::integers(0, 3);
    const SCALES: Option<(i8, i8)> = Some((0, 15));
    const MINS: Option<(u8, u8)> = Some((0, 15));

    fn group(scales: &Scales, g: usize) -> Group {
        Group::affine(scales, g)
    }

    fn pack(scales: &Scales, codes: &[u8]) -> Self {
        Self {
            scales: from_fn(|g| scales.scales[g] as u8 | scales.mins[g] << 4),
            qs: pack_pairs(whole(codes)),
            d: scales.d.to_le_bytes(),
            dmin: scales.dmin.to_le_bytes(),
        }
    }

    fn unpack(&self, codes: &mut [u8]) -> Scales {
        unpack_pairs(&self.qs, codes);
        Scales {
            scales: self.scales.map(|packed| (packed & 15) as i8),
            mins: self.scales.map(|packed| packed >> 4),
            ..Scales::read(self.d, self.dmin)
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

/// The inverse of [`pack_pairs`], for codes of two bits.
pub(super) fn unpack_pairs(qs: &[u8; 64], codes: &mut [u8]) {
    for (j, code) in codes.iter_mut().enumerate() {
        *code = qs[j / 128 * 32 + j % 32] >> (j % 128 / 32 * 2) & 3;
    }
}
