//! Q8_0: symmetric, 8 bits.
//!
//! ```text
//! byte  0      2                                34
//!       | d f16 | q i8 x 32                      |     value j = d * q[j], q in -127..=127
//! ```

use super::{Codec, Quantized, block, encode_each, whole};
use crate::fit::{f16_bytes, inverse};
use crate::format::BlockFormat;
use crate::scales::{Group, Levels, Scales};
use half::f16;

/// 32 elements in 34 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct Q8_0 {
    /// Scale, a little-endian f16.
    pub d: [u8; 2],
    /// Levels, two's complement.
    pub q: [u8; 32],
}
block!(Q8_0, elems = 32, bytes = 34);

impl Quantized for Q8_0 {
    const LEVELS: Levels = Levels::integers(-128, 127);

    fn group(scales: &Scales, _: usize) -> Group {
        Group::symmetric(scales.d.to_f32())
    }

    fn pack(scales: &Scales, codes: &[u8]) -> Self {
        Self { d: scales.d.to_le_bytes(), q: whole(codes).map(|code| code ^ 0x80) }
    }

    fn unpack(&self, codes: &mut [u8]) -> Scales {
        codes.copy_from_slice(&self.q.map(|q| q ^ 0x80));
        Scales::read(self.d, [0; 2])
    }
}

impl Codec for Q8_0 {
    const FORMAT: Option<BlockFormat> = Some(BlockFormat::of::<Self>());

    fn encode(src: &[f32], _: Option<&[f32]>, dst: &mut [Self]) {
        encode_each(src, dst, Self::rounded);
    }

    /// Without codes: bytes are levels already, which is twice as fast.
    #[inline]
    fn decode(&self, values: &mut [f32]) {
        let d = f16::from_le_bytes(self.d).to_f32();
        for (v, &q) in values.iter_mut().zip(&self.q) {
            *v = d * f32::from(q as i8);
        }
    }
}

impl Q8_0 {
    fn rounded(values: &[f32]) -> Self {
        let values: &[f32; 32] = values.try_into().expect("a block");
        let amax = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let d = amax / 127.0;
        let id = inverse(d);
        let mut q = [0; 32];
        for (q, v) in q.iter_mut().zip(values) {
            // The reference rounds half away from zero. Adding the float just below 0.5 and truncating does that
            // exactly for |x| < 2^22, and vectorises where `round` is a call.
            let x = v * id;
            *q = (x + 0.499_999_97_f32.copysign(x)) as i32 as i8 as u8;
        }
        Self { d: f16_bytes(d), q }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_half_away_from_zero() {
        let mut values = [0.0f32; 32];
        values[0] = 127.0; // d = 1
        for (i, &x) in [0.5, -0.5, 1.5, -2.5, 0.49999997, 126.5, -126.5].iter().enumerate() {
            values[i + 1] = x;
        }
        let block = Q8_0::rounded(&values);
        let got: Vec<i8> = block.q[..8].iter().map(|&q| q as i8).collect();
        assert_eq!(got, [127, 1, -1, 2, -3, 0, 127, -127]);
    }
}
