//! Q6_K: symmetric, 6 bits, a super-block of 16 groups of 16.
//!
//! ```text
//! byte  0                     128                  192              208    210
//!       | low nibbles, 2 x 64  | upper two bits 2x32 | group scales i8 | d f16 |
//! value j = d * scale[j / 16] * (q[j] - 32)
//! ```
//! Each half of 128 elements: byte l of its 64 nibble bytes holds elements l (low) and l + 64 (high) for l < 64; byte
//! l of its 32 upper-bit bytes holds, from the lowest pair of bits up, elements l, l + 32, l + 64, l + 96.

use super::{Codec, block};
use crate::fit::{f16_bytes, f16_value};
use crate::lanes::Lanes;
use crate::search::symmetric::{EMPTY_GROUP, SymmetricFit, largest};
use crate::search::{self, Batch, Codes, Search};

/// 256 elements in 210 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct Q6_K {
    /// Lower four bits.
    pub ql: [u8; 128],
    /// Upper two bits.
    pub qh: [u8; 64],
    /// Group scales, two's complement.
    pub scales: [u8; 16],
    /// Scale of the group scales, a little-endian f16.
    pub d: [u8; 2],
}
block!(Q6_K, elems = 256, bytes = 210);

/// Half the number of codes.
const HALF: f32 = 32.0;

impl Search for Q6_K {
    #[inline(always)]
    fn search<V: Lanes>(batch: &Batch<V>, out: &mut [Self]) {
        let zero = V::splat(0.0);
        let mut fits = [SymmetricFit::none(); 16];
        for (g, fit) in fits.iter_mut().enumerate() {
            let x = batch.group::<16>(g);
            // Unlike the other formats' searches this one takes importances as they are.
            let weights = match &batch.importance {
                Some(importance) => *importance[16 * g..].first_chunk().expect("a group"),
                None => x.map(|x| x * x),
            };
            *fit = SymmetricFit::new(x, &weights, HALF);
        }
        let (amax, max) = largest(&fits.map(|fit| fit.scale));
        let inverse = V::splat(-128.0) / max;
        let d = V::splat(1.0) / inverse;
        let scales = fits.map(|fit| (inverse * fit.scale).nearest().min(V::splat(127.0)));
        let d16 = d.map(|d| f16_value(f16_bytes(d)));
        let mut codes = [zero; 256];
        for (j, code) in codes.iter_mut().enumerate() {
            let step = d16 * scales[j / 16];
            let rounded = (batch.x[j] / step).nearest().clamp(-HALF, HALF - 1.0) + V::splat(HALF);
            // Such a group decodes to zero whatever its codes; the reference leaves those of the scale search.
            *code = V::select(step.ne(zero), rounded, fits[j / 16].code(batch.x[j]));
        }
        let (codes, d, amax) = (Codes::new(&codes), d.to_array(), amax.to_array());
        // Two's complement: 256 more is the same byte.
        let scales = Codes::new(&scales.map(|scale| V::select(scale.lt(zero), scale + V::splat(256.0), scale)));
        for (lane, out) in out.iter_mut().enumerate() {
            if amax[lane] < EMPTY_GROUP {
                *out = Self { ql: [0; 128], qh: [0; 64], scales: [0; 16], d: [0; 2] };
                continue;
            }
            let (ql, qh) = pack(codes.lane(lane));
            *out = Self { ql, qh, scales: *scales.lane(lane), d: f16_bytes(d[lane]) };
        }
    }
}

impl Codec for Q6_K {
    fn encode(src: &[f32], importance: Option<&[f32]>, dst: &mut [Self]) {
        search::encode(src, importance, dst);
    }

    fn decode(&self, values: &mut [f32]) {
        let d = f16_value(self.d);
        for (j, v) in values.iter_mut().enumerate() {
            *v = d * f32::from(self.scales[j / 16] as i8) * f32::from(self.code(j) as i8 - 32);
        }
    }
}

impl Q6_K {
    /// The 6-bit code of element `j`, 0..=63.
    pub fn code(&self, j: usize) -> u8 {
        let (half, l) = (j / 128, j % 128);
        let low = self.ql[half * 64 + l % 64] >> (4 * (l / 64)) & 15;
        let high = self.qh[half * 32 + l % 32] >> (2 * (l / 32)) & 3;
        low | high << 4
    }
}

fn pack(codes: &[u8; 256]) -> ([u8; 128], [u8; 64]) {
    let (mut ql, mut qh) = ([0; 128], [0; 64]);
    for (j, &c) in codes.iter().enumerate() {
        let (half, l) = (j / 128, j % 128);
        ql[half * 64 + l % 64] |= (c & 15) << (4 * (l / 64));
        qh[half * 32 + l % 32] |= (c >> 4) << (2 * (l / 32));
    }
    (ql, qh)
}
