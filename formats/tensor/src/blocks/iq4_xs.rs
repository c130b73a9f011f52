//! IQ4_XS: the sixteen levels of IQ4_NL in a super-block of 8 groups of 32.
//!
//! ```text
//! byte  0       2                           4                             8                        136
//!       | d f16 | upper pairs of scales u16 | lower nibbles, 2 per byte   | 8 runs of 16 as in IQ4_NL |
//! value j = d * (scale[j / 32] - 32) * LEVELS[q[j]]
//! ```

use super::iq4_nl::LEVELS;
use super::q4_0::{pack_nibbles, unpack_nibbles};
use super::{Quantized, block, whole};
use crate::lanes::Lanes;
use crate::scales::{Group, Levels, Scales};
use crate::search::symmetric::largest;
use crate::search::{Batch, Fit, Fitted, Rule, levels};
use std::array::from_fn;

/// 256 elements in 136 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct IQ4_XS {
    /// Scale of the group scales, a little-endian f16.
    pub d: [u8; 2],
    /// Upper two bits of the group scales, a little-endian u16.
    pub scales_h: [u8; 2],
    /// Lower four bits of the group scales.
    pub scales_l: [u8; 4],
    /// Codes.
    pub qs: [u8; 128],
}
block!(IQ4_XS, elems = 256, bytes = 136);

impl Fit for IQ4_XS {
    #[inline(always)]
    fn fit<V: Lanes>(batch: &Batch<V>) -> Fitted<V> {
        let (zero, one) = (V::splat(0.0), V::splat(1.0));
        let sigma2 = Batch::sum_of_squares(&batch.x) * V::splat(2.0 / 256.0);
        let mut fitted = [zero; 8];
        for (g, scale) in fitted.iter_mut().enumerate() {
            *scale = levels::fit(batch.group(g), &batch.weights(g, sigma2, |x| x * x));
        }
        let (_, max) = largest(&fitted);
        let d = (zero - max) / V::splat(32.0);
        let inverse = V::select(d.ne(zero), one / d, zero);
        // A block of zeros has the super-scale -0, as in the reference.
        let mut all = Fitted::single(V::select(max.ne(zero), d, V::splat(-0.0)), zero, Rule::lowest());
        for (g, &scale) in fitted.iter().enumerate() {
            all.scales[g] = (inverse * scale).nearest().clamp(-32.0, 31.0);
            let step = d * all.scales[g];
            all.rules[g] = Rule::times(V::select(step.ne(zero), one / step, zero), zero);
        }
        all
    }
}

impl Quantized for IQ4_XS {
    const GROUP_ELEMS: usize = 32;
    const LEVELS: Levels = Levels::Listed(&LEVELS);
    const SCALES: Option<(i8, i8)> = Some((-32, 31));

    fn group(scales: &Scales, g: usize) -> Group {
        Group::scaled(scales, g)
    }

    fn pack(scales: &Scales, codes: &[u8]) -> Self {
        let (d, runs) = (scales.d.to_le_bytes(), whole::<256>(codes).as_chunks::<32>().0);
        let scales = scales.scales.map(|scale| (scale + 32) as u8);
        let upper = (0..8).fold(0u16, |bits, g| bits | u16::from(scales[g] >> 4) << (2 * g));
        Self {
            d,
            scales_h: upper.to_le_bytes(),
            scales_l: from_fn(|i| scales[2 * i] & 15 | scales[2 * i + 1] << 4),
            qs: from_fn(|i| pack_nibbles(&runs[i / 16])[i % 16]),
        }
    }

    fn unpack(&self, codes: &mut [u8]) -> Scales {
        for (codes, run) in codes.as_chunks_mut::<32>().0.iter_mut().zip(self.qs.as_chunks().0) {
            *codes = unpack_nibbles(run);
        }
        let upper = u16::from_le_bytes(self.scales_h);
        let mut scales = Scales::read(self.d, [0; 2]);
        for g in 0..8 {
            let low = self.scales_l[g / 2] >> (4 * (g % 2)) & 15;
            scales.scales[g] = (low | ((upper >> (2 * g) & 3) << 4) as u8) as i8 - 32;
        }
        scales
    }
}
