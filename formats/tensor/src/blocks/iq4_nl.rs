//! IQ4_NL: 4 bits that stand for sixteen unevenly spaced levels.
//!
//! ```text
//! byte  0      2                                18
//!       | d f16 | low nibble: element j, high: j + 16 |     value j = d * LEVELS[q[j]]
//! ```

use super::q4_0::{pack_nibbles, unpack_nibbles};
use super::{Codec, block};
use crate::fit::{f16_bytes, f16_value};
use crate::lanes::Lanes;
use crate::search::{self, Batch, Codes, Search, levels};

/// What the sixteen codes stand for.
pub const LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// 32 elements in 18 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct IQ4_NL {
    /// Scale, a little-endian f16.
    pub d: [u8; 2],
    /// Codes.
    pub qs: [u8; 16],
}
block!(IQ4_NL, elems = 32, bytes = 18);

impl Search for IQ4_NL {
    #[inline(always)]
    fn search<V: Lanes>(batch: &Batch<V>, out: &mut [Self]) {
        let zero = V::splat(0.0);
        let sigma2 = Batch::sum_of_squares(&batch.x) * V::splat(2.0 / 32.0);
        let scale = levels::fit(batch.group(0), &batch.weights(0, sigma2, |x| x * x));
        let inverse = V::select(scale.ne(zero), V::splat(1.0) / scale, zero);
        let mut codes = [zero; 32];
        for (code, &x) in codes.iter_mut().zip(&batch.x) {
            *code = levels::nearest_code(inverse * x);
        }
        let codes = Codes::new(&codes);
        let d = scale.to_array();
        for (lane, out) in out.iter_mut().enumerate() {
            *out = Self { d: f16_bytes(d[lane]), qs: pack_nibbles(codes.lane(lane)) };
        }
    }
}

impl Codec for IQ4_NL {
    fn encode(src: &[f32], importance: Option<&[f32]>, dst: &mut [Self]) {
        search::encode(src, importance, dst);
    }

    fn decode(&self, values: &mut [f32]) {
        let d = f16_value(self.d);
        for (v, c) in values.iter_mut().zip(unpack_nibbles(&self.qs)) {
            *v = d * f32::from(LEVELS[usize::from(c)]);
        }
    }
}
