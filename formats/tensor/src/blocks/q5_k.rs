//! Q5_K: affine, 5 bits, a super-block of 8 groups of 32.
//!
//! ```text
//! byte  0       2          4                         16                              48                   176
//!       | d f16 | dmin f16 | 6-bit scales and minima | fifth bits: bit g of byte l   | nibbles as in Q4_K |
//! value j = d * scale[j / 32] * q[j] - dmin * min[j / 32]
//! ```

use super::q4_k::{pack_nibbles, unpack_nibbles};
use super::{Quantized, block, six_bit, whole};
use crate::lanes::Lanes;
use crate::scales::{Group, Levels, Scales};
use crate::search::affine::Affine;
use crate::search::super_block::AffineSuperBlock;
use crate::search::{Batch, Fit, Fitted};

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

impl Fit for Q5_K {
    #[inline(always)]
    fn fit<V: Lanes>(batch: &Batch<V>) -> Fitted<V> {
        let plain = Affine { top: 31.0, first: -0.5, step: 0.1, steps: 15, absolute: false };
        AffineSuperBlock::<8, 32> { plain, level_weights: true, sigma2: 2.0, top: 63.0 }.fit(batch)
    }
}

impl Quantized for Q5_K {
    const GROUP_ELEMS: usize = 32;
    const LEVELS: Levels = Levels::integers(0, 31);
    const SCALES: Option<(i8, i8)> = Some((0, 63));
    const MINS: Option<(u8, u8)> = Some((0, 63));

    fn group(scales: &Scales, g: usize) -> Group {
        Group::affine(scales, g)
    }

    fn pack(scales: &Scales, codes: &[u8]) -> Self {
        let (d, dmin, codes) = (scales.d.to_le_bytes(), scales.dmin.to_le_bytes(), whole::<256>(codes));
        let mut qh = [0; 32];
        for (j, code) in codes.iter().enumerate() {
            qh[j % 32] |= code >> 4 << (j / 32);
        }
        Self { d, dmin, scales: six_bit::pack(scales), qh, qs: pack_nibbles(codes) }
    }

    fn unpack(&self, codes: &mut [u8]) -> Scales {
        unpack_nibbles(&self.qs, codes);
        for (g, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (code, high) in codes.iter_mut().zip(&self.qh) {
                *code |= (high >> g & 1) << 4;
            }
        }
        six_bit::unpack(&self.scales, Scales::read(self.d, self.dmin))
    }
}
