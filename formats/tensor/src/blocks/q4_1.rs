//! Q4_1: affine, 4 bits.
//!
//! ```text
//! byte  0      2       4                                20
//!       | d f16 | m f16 | low nibble: element j, high: j + 16 |     value j = d * q[j] + m
//! ```

use super::q4_0::{pack_nibbles, unpack_nibbles};
use super::{Quantized, block, whole};
use crate::fit::{f16_bytes, inverse, min_max};
use crate::lanes::Lanes;
use crate::scales::{Group, Levels, Scales};
use crate::search::affine::Affine;
use crate::search::{Batch, Fit, Fitted};

/// 32 elements in 20 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct Q4_1 {
    /// Scale, a little-endian f16.
    pub d: [u8; 2],
    /// Minimum, a little-endian f16.
    pub m: [u8; 2],
    /// Codes.
    pub qs: [u8; 16],
}
block!(Q4_1, elems = 32, bytes = 20);

impl Q4_1 {
    fn plain(values: &[f32]) -> Self {
        let values: &[f32; 32] = values.try_into().expect("a block");
        let (min, max) = min_max(values);
        let d = (max - min) / 15.0;
        let id = inverse(d);
        let mut codes = [0u8; 32];
        for (c, v) in codes.iter_mut().zip(values) {
            *c = (((v - min) * id + 0.5) as i32).min(15) as u8;
        }
        Self { d: f16_bytes(d), m: f16_bytes(min), qs: pack_nibbles(&codes) }
    }
}

impl Fit for Q4_1 {
    const USES_ROW: bool = true;
    const PLAIN: Option<fn(&[f32]) -> Self> = Some(Self::plain);

    #[inline(always)]
    fn fit<V: Lanes>(batch: &Batch<V>) -> Fitted<V> {
        let x = batch.group::<32>(0);
        let fit = Affine::weighted(15.0).fit(x, &batch.weights(0, batch.row_mean_square, |x| x * x));
        // Added, where the fit subtracts. A minimum of 0 becomes -0, as in the reference.
        Fitted::single(fit.scale, V::splat(-0.0) - fit.min, fit.rule())
    }
}

impl Quantized for Q4_1 {
    const LEVELS: Levels = Levels::integers(0, 15);
    const HAS_DMIN: bool = true;

    fn group(scales: &Scales, _: usize) -> Group {
        Group { step: scales.d.to_f32(), min: -scales.dmin.to_f32() }
    }

    fn pack(scales: &Scales, codes: &[u8]) -> Self {
        let (d, m) = (scales.d.to_le_bytes(), scales.dmin.to_le_bytes());
        Self { d, m, qs: pack_nibbles(whole(codes)) }
    }

    fn unpack(&self, codes: &mut [u8]) -> Scales {
        codes.copy_from_slice(&unpack_nibbles(&self.qs));
        Scales::read(self.d, self.m)
    }
}
