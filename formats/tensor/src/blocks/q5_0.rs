//! Q5_0: symmetric, 5 bits.
//!
//! ```text
//! byte  0      2                6                                22
//!       | d f16 | fifth bits u32 | low nibble: element j, high: j + 16 |     value j = d * (q[j] - 16)
//! ```
//! Bit j of the little-endian word is the fifth bit of element j.

use super::q4_0::{pack_nibbles, unpack_nibbles};
use super::{Quantized, block, whole};
use crate::fit::{f16_bytes, inverse, signed_max};
use crate::lanes::Lanes;
use crate::scales::{Group, Levels, Scales};
use crate::search::symmetric::SymmetricFit;
use crate::search::{Batch, Fit, Fitted};

/// 32 elements in 22 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct Q5_0 {
    /// Scale, a little-endian f16.
    pub d: [u8; 2],
    /// Fifth bits, a little-endian word.
    pub qh: [u8; 4],
    /// Lower four bits.
    pub qs: [u8; 16],
}
block!(Q5_0, elems = 32, bytes = 22);

impl Q5_0 {
    fn plain(values: &[f32]) -> Self {
        let values: &[f32; 32] = values.try_into().expect("a block");
        let d = signed_max(values) / -16.0;
        let id = inverse(d);
        let mut codes = [0u8; 32];
        for (c, v) in codes.iter_mut().zip(values) {
            *c = ((v * id + 16.5) as i32).min(31) as u8;
        }
        Self { d: f16_bytes(d), qh: pack_fifth(&codes), qs: pack_nibbles(&codes) }
    }
}

impl Fit for Q5_0 {
    const USES_ROW: bool = true;
    const PLAIN: Option<fn(&[f32]) -> Self> = Some(Self::plain);

    #[inline(always)]
    fn fit<V: Lanes>(batch: &Batch<V>) -> Fitted<V> {
        let x = batch.group::<32>(0);
        let fit = SymmetricFit::new(x, &batch.weights(0, batch.row_mean_square, |x| x * x), 16.0);
        Fitted::single(fit.scale, V::splat(0.0), fit.rule())
    }
}

impl Quantized for Q5_0 {
    const LEVELS: Levels = Levels::integers(-16, 15);

    fn group(scales: &Scales, _: usize) -> Group {
        Group::symmetric(scales.d.to_f32())
    }

    fn pack(scales: &Scales, codes: &[u8]) -> Self {
        let codes = whole(codes);
        Self { d: scales.d.to_le_bytes(), qh: pack_fifth(codes), qs: pack_nibbles(codes) }
    }

    fn unpack(&self, codes: &mut [u8]) -> Scales {
        codes.copy_from_slice(&unpack_five(&self.qs, self.qh));
        Scales::read(self.d, [0; 2])
    }
}

/// Bit 4 of code j becomes bit j.
pub(super) fn pack_fifth(codes: &[u8; 32]) -> [u8; 4] {
    let bits = codes.iter().enumerate().fold(0u32, |bits, (j, &c)| bits | u32::from(c >> 4 & 1) << j);
    bits.to_le_bytes()
}

/// Five-bit codes from nibbles and the word of fifth bits.
pub(super) fn unpack_five(qs: &[u8; 16], qh: [u8; 4]) -> [u8; 32] {
    let (low, bits) = (unpack_nibbles(qs), u32::from_le_bytes(qh));
    std::array::from_fn(|j| low[j] | ((bits >> j & 1) << 4) as u8)
}
