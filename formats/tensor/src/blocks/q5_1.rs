//! Q5_1: affine, 5 bits.
//!
//! ```text
//! byte  0      2       4                8                                24
//!       | d f16 | m f16 | fifth bits u32 | low nibble: element j, high: j + 16 |     value j = d * q[j] + m
//! ```

use super::q4_0::pack_nibbles;
use super::q5_0::{pack_fifth, unpack_five};
use super::{Quantized, block, whole};
use crate::fit::{f16_bytes, inverse, min_max};
use crate::lanes::Lanes;
use crate::scales::{Group, Levels, Scales};
use crate::search::affine::Affine;
use crate::search::{Batch, Fit, Fitted};

/// 32 elements in 24 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct Q5_1 {
    /// Scale, a little-endian f16.
    pub d: [u8; 2],
    /// Minimum, a little-endian f16.
    pub m: [u8; 2],
    /// Fifth bits, a little-endian word.
    pub qh: [u8; 4],
    /// Lower four bits.
    pub qs: [u8; 16],
}
block!(Q5_1, elems = 32, bytes = 24);

impl Q5_1 {
    fn plain(values: &[f32]) -> Self {
        let values: &[f32; 32] = values.try_into().expect("a block");
        let (min, max) = min_max(values);
        let d = (max - min) / 31.0;
        let id = inverse(d);
        let mut codes = [0u8; 32];
        for (c, v) in codes.iter_mut().zip(values) {
            *c = ((v - min) * id + 0.5) as i32 as u8;
        }
        Self { d: f16_bytes(d), m: f16_bytes(min), qh: pack_fifth(&codes), qs: pack_nibbles(&codes) }
    }
}

impl Fit for Q5_1 {
    const USES_ROW: bool = true;
    const PLAIN: Option<fn(&[f32]) -> Self> = Some(Self::plain);

    #[inline(always)]
    fn fit<V: Lanes>(batch: &Batch<V>) -> Fitted<V> {
        let x = batch.group::<32>(0);
        let fit = Affine::weighted(31.0).fit(x, &batch.weights(0, batch.row_mean_square, |x| x * x));
        // Added, where the fit subtracts. A minimum of 0 becomes -0, as in the reference.
        Fitted::single(fit.scale, V::splat(-0.0) - fit.min, fit.rule())
    }
}

impl Quantized for Q5_1 {
    const LEVELS: Levels = Levels::integers(0, 31);
    const HAS_DMIN: bool = true;

    fn group(scales: &Scales, _: usize) -> Group {
        Group { step: scales.d.to_f32(), min: -scales.dmin.to_f32() }
    }

    fn pack(scales: &Scales, codes: &[u8]) -> Self {
        let (d, m, codes) = (scales.d.to_le_bytes(), scales.dmin.to_le_bytes(), whole(codes));
        Self { d, m, qh: pack_fifth(codes), qs: pack_nibbles(codes) }
    }

    fn unpack(&self, codes: &mut [u8]) -> Scales {
        codes.copy_from_slice(&unpack_five(&self.qs, self.qh));
        Scales::read(self.d, self.m)
    }
}
