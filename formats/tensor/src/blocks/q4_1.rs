//! Q4_1: affine, 4 bits.
//!
//! ```text
//! byte  0      2       4                                20
//!       | d f16 | m f16 | low nibble: element j, high: j + 16 |     value j = d * q[j] + m
//! ```

use super::q4_0::{pack_nibbles, unpack_nibbles};
use super::{Codec, block, encode_each};
use crate::fit::{f16_bytes, f16_value, inverse, min_max};
use crate::lanes::Lanes;
use crate::search::affine::Affine;
use crate::search::{self, Batch, Codes, Search};

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

impl Search for Q4_1 {
    const USES_ROW: bool = true;

    #[inline(always)]
    fn search<V: Lanes>(batch: &Batch<V>, out: &mut [Self]) {
        let x = batch.group::<32>(0);
        let fit = Affine::weighted(15.0).fit(x, &batch.weights(0, batch.row_mean_square, |x| x * x));
        let codes = Codes::new::<V>(&x.map(|x| fit.code(x)));
        let (d, min) = (fit.scale.to_array(), fit.min.to_array());
        for (lane, out) in out.iter_mut().enumerate() {
            let codes = codes.lane(lane);
            *out = Self { d: f16_bytes(d[lane]), m: f16_bytes(-min[lane]), qs: pack_nibbles(codes) };
        }
    }
}

impl Codec for Q4_1 {
    fn encode(src: &[f32], importance: Option<&[f32]>, dst: &mut [Self]) {
        match importance {
            None => encode_each(src, dst, Self::plain),
            Some(_) => search::encode(src, importance, dst),
        }
    }

    fn decode(&self, values: &mut [f32]) {
        let (d, m) = (f16_value(self.d), f16_value(self.m));
        for (v, c) in values.iter_mut().zip(unpack_nibbles(&self.qs)) {
            *v = f32::from(c) * d + m;
        }
    }
}
