//! IQ4_NL: 4 bits that stand for sixteen unevenly spaced levels.
//!
//! ```text
//! byte  0      2                                18
//!       | d f16 | low nibble: element j, high: j + 16 |     value j = d * LEVELS[q[j]]
//! ```

use super::q4_0::{pack_nibbles, unpack_nibbles};
use super::{Quantized, block, whole};
use crate::lanes::Lanes;
use crate::scales::{Group, Levels, Scales};
use crate::search::{Batch, Fit, Fitted, Rule, levels};

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

impl Fit for IQ4_NL {
    #[inline(always)]
    fn fit<V: Lanes>(batch: &Batch<V>) -> Fitted<V> {
        let zero = V::splat(0.0);
        let sigma2 = Batch::sum_of_squares(&batch.x) * V::splat(2.0 / 32.0);
        let scale = levels::fit(batch.group(0), &batch.weights(0, sigma2, |x| x * x));
        let inverse = V::select(scale.ne(zero), V::splat(1.0) / scale, zero);
        Fitted::single(scale, zero, Rule::times(inverse, zero))
    }
}

impl Quantized for IQ4_NL {
    const LEVELS: Levels = Levels::Listed(&LEVELS);

    fn group(scales: &Scales, _: usize) -> Group {
        Group::symmetric(scales.d.to_f32())
    }

    fn pack(scales: &Scales, codes: &[u8]) -> Self {
        Self { d: scales.d.to_le_bytes(), qs: pack_nibbles(whole(codes)) }
    }

    fn unpack(&self, codes: &mut [u8]) -> Scales {
        codes.copy_from_slice(&unpack_nibbles(&self.qs));
        Scales::read(self.d, [0; 2])
    }
}
