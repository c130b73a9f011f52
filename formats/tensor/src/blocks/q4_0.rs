//! Q4_0: symmetric, 4 bits.
//!
//! ```text
//! byte  0      2                                18
//!       | d f16 | low nibble: element j, high: j + 16 |     value j = d * (q[j] - 8), d of either sign
//! ```

use super::{Quantized, block, whole};
use crate::fit::{f16_bytes, inverse, signed_max};
use crate::lanes::Lanes;
use crate::scales::{Group, Levels, Scales};
use crate::search::symmetric::SymmetricFit;
use crate::search::{Batch, Fit, Fitted};

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

impl Fit for Q4_0 {
    const USES_ROW: bool = true;
    const PLAIN: Option<fn(&[f32]) -> Self> = Some(Self::plain);

    #[inline(always)]
    fn fit<V: Lanes>(batch: &Batch<V>) -> Fitted<V> {
        let x = batch.group::<32>(0);
        let fit = SymmetricFit::new(x, &batch.weights(0, batch.row_mean_square, |x| x * x), 8.0);
        Fitted::single(fit.scale, V::splat(0.0), fit.rule())
    }
}

impl Quantized for Q4_0 {
    const LEVELS: Levels = Levels::integers(-8, 7);

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

/// Code j in the low nibble of byte j, code j + 16 in the high one. Codes above 15 lose their upper bits.
pub(super) fn pack_nibbles(codes: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|j| codes[j] & 15 | codes[j + 16] << 4)
}

/// The inverse of [`pack_nibbles`].
pub(super) fn unpack_nibbles(qs: &[u8; 16]) -> [u8; 32] {
    std::array::from_fn(|j| if j < 16 { qs[j] & 15 } else { qs[j - 16] >> 4 })
}
