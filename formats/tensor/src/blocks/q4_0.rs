//! Q4_0: symmetric, 4 bits.
//!
//! ```text
//! byte  0      2                                18
//!       | d f16 | low nibble: element j, high: j + 16 |     value j = d * (q[j] - 8), d of either sign
//! ```

use super::{Codec, block, encode_each};
use crate::fit::{f16_bytes, f16_value, inverse, signed_max};
use crate::lanes::Lanes;
use crate::search::symmetric::SymmetricFit;
use crate::search::{self, Batch, Codes, Search};

/// 32 elements in 18 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct Q4_0 {
    /// Scale, a little-endian f16.
    pub d: [u8; 2],
    /// Codes.
    pub qs: [u8; 16],
}
block!(Q4_0, elems = 32, bytes = 18);

impl Q4_0 {
    fn plain(values: &[f32]) -> Self {
        let values: &[f32; 32] = values.try_into().expect("a block");
        let d = signed_max(values) / -8.0;
        let id = inverse(d);
        let mut codes = [0u8; 32];
        for (c, v) in codes.iter_mut().zip(values) {
            *c = ((v * id + 8.5) as i32).min(15) as u8;
        }
        Self { d: f16_bytes(d), qs: pack_nibbles(&codes) }
    }
}

impl Search for Q4_0 {
    const USES_ROW: bool = true;

    #[inline(always)]
    fn search<V: Lanes>(batch: &Batch<V>, out: &mut [Self]) {
        let x = batch.group::<32>(0);
        let fit = SymmetricFit::new(x, &batch.weights(0, batch.row_mean_square, |x| x * x), 8.0);
        let (codes, d) = (Codes::new::<V>(&x.map(|x| fit.code(x))), fit.scale.to_array());
        for (lane, out) in out.iter_mut().enumerate() {
            let codes = codes.lane(lane);
            *out = Self { d: f16_bytes(d[lane]), qs: pack_nibbles(codes) };
        }
    }
}

impl Codec for Q4_0 {
    fn encode(src: &[f32], importance: Option<&[f32]>, dst: &mut [Self]) {
        match importance {
            None => encode_each(src, dst, Self::plain),
            Some(_) => search::encode(src, importance, dst),
        }
    }

    fn decode(&self, values: &mut [f32]) {
        let d = f16_value(self.d);
        for (v, c) in values.iter_mut().zip(unpack_nibbles(&self.qs)) {
            *v = (i32::from(c) - 8) as f32 * d;
        }
    }
}

/// Code j in the low nibble of byte j, code j + 16 in the high one. Codes above 15 lose their upper bits.
pub(super) fn pack_nibbles(codes: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|j| codes[j] & 15 | codes[j + 16] << 4)
}

/// The inverse of [`pack_nibbles`].
pub(super) fn unpack_nibbles(qs: &[u8; 16]) -> [u8; 32] {
    std::array::from_fn(|j| if j < 16 { qs[j] & 15 } else { qs[j - 16] >> 4 })
}
