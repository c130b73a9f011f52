//! Q4_K: affine, 4 bits, a super-block of 8 groups of 32.
//!
//! ```text
//! byte  0       2          4                          16                                     144
//!       | d f16 | dmin f16 | 6-bit scales and minima  | 4 runs of 32: low nibble element l, high: l + 32 of 64 |
//! value j = d * scale[j / 32] * q[j] - dmin * min[j / 32]
//! ```

use super::{Quantized, block, six_bit, whole};
use crate::lanes::Lanes;
use crate::scales::{Group, Levels, Scales};
use crate::search::affine::Affine;
use crate::search::super_block::AffineSuperBlock;
use crate::search::{Batch, Fit, Fitted};

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

impl Fit for Q4_K {
    #[inline(always)]
    fn fit<V: Lanes>(batch: &Batch<V>) -> Fitted<V> {
        let plain = Affine { top: 15.0, first: -1.0, step: 0.1, steps: 20, absolute: false };
        AffineSuperBlock::<8, 32> { plain, level_weights: true, sigma2: 2.0, top: 63.0 }.fit(batch)
    }
}

impl Quantized for Q4_K {
    const GROUP_ELEMS: usize = 32;
    const LEVELS: Levels = Levels::integers(0, 15);
    const SCALES: Option<(i8, i8)> = Some((0, 63));
    const MINS: Option<(u8, u8)> = Some((0, 63));

    fn group(scales: &Scales, g: usize) -> Group {
        Group::affine(scales, g)
    }

    fn pack(scales: &Scales, codes: &[u8]) -> Self {
        let (d, dmin) = (scales.d.to_le_bytes(), scales.dmin.to_le_bytes());
        Self { d, dmin, scales: six_bit::pack(scales), qs: pack_nibbles(whole(codes)) }
    }

    fn unpack(&self, codes: &mut [u8]) -> Scales {
        unpack_nibbles(&self.qs, codes);
        six_bit::unpack(&self.scales, Scales::read(self.d, self.dmin))
    }
}

/// The low nibbles of codes: of each 64, code `l` in the low and `l + 32` in the high nibble of byte `l`.
pub(super) fn pack_nibbles(codes: &[u8; 256]) -> [u8; 128] {
    std::array::from_fn(|i| {
        let l = i / 32 * 64 + i % 32;
        codes[l] & 15 | codes[l + 32] << 4
    })
}

/// The inverse of [`pack_nibbles`], for codes of four bits.
pub(super) fn unpack_nibbles(qs: &[u8; 128], codes: &mut [u8]) {
    for (codes, qs) in codes.as_chunks_mut::<64>().0.iter_mut().zip(qs.as_chunks::<32>().0) {
        let (low, high) = codes.split_at_mut(32);
        low.iter_mut().zip(qs).for_each(|(code, q)| *code = q & 15);
        high.iter_mut().zip(qs).for_each(|(code, q)| *code = q >> 4);
    }
}
