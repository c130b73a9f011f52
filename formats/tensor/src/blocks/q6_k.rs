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
use crate::fit::{EMPTY_GROUP, SymmetricFit, f16_bytes, f16_value, nearest_even};

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

impl Codec for Q6_K {
    fn encode(values: &[f32]) -> Self {
        let (groups, rest) = values.as_chunks::<16>();
        assert!(groups.len() == 16 && rest.is_empty(), "a block");
        let fits: [SymmetricFit; 16] = std::array::from_fn(|g| SymmetricFit::new(&groups[g], 32.0));
        let (mut amax, mut max) = (0.0f32, 0.0f32);
        for fit in &fits {
            if fit.scale.abs() > amax {
                (amax, max) = (fit.scale.abs(), fit.scale);
            }
        }
        if amax < EMPTY_GROUP {
            return Self { ql: [0; 128], qh: [0; 64], scales: [0; 16], d: [0; 2] };
        }
        let inverse = -128.0 / max;
        let d = f16_bytes(1.0 / inverse);
        let scales: [i8; 16] = std::array::from_fn(|g| nearest_even(inverse * fits[g].scale).min(127.0) as i8);

        let mut codes = [32u8; 256];
        for (g, (group, codes)) in groups.iter().zip(codes.as_chunks_mut::<16>().0).enumerate() {
            let step = f16_value(d) * f32::from(scales[g]);
            if step == 0.0 {
                // Such a group decodes to zero whatever its codes; the reference leaves those of the scale search.
                *codes = fits[g].codes(group);
                continue;
            }
            for (c, &v) in codes.iter_mut().zip(group) {
                *c = (nearest_even(v / step).clamp(-32.0, 31.0) + 32.0) as u8;
            }
        }
        let (ql, qh) = pack(&codes);
        Self { ql, qh, scales: scales.map(|s| s as u8), d }
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
