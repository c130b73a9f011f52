//! Q6_K: symmetric, 6 bits, a super-block of 16 groups of 16.
//!
//! ```text
//! byte  0                     128                  192              208    210
//!       | low nibbles, 2 x 64  | upper two bits 2x32 | group scales i8 | d f16 |
//! value j = d * scale[j / 16] * (q[j] - 32)
//! ```
//! Each half of 128 elements: byte l of its 64 nibble bytes holds elements l (low) and l + 64 (high) for l < 64; byte
//! l of its 32 upper-bit bytes holds, from the lowest pair of bits up, elements l, l + 32, l + 64, l + 96.

use super::{Quantized, block, whole};
use crate::fit::stored;
use crate::lanes::Lanes;
use crate::scales::{Group, Levels, Scales};
use crate::search::symmetric::{EMPTY_GROUP, SymmetricFit, largest};
use crate::search::{Batch, Fit, Fitted, Rule};

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

impl Fit for Q6_K {
    #[inline(always)]
    fn fit<V: Lanes>(batch: &Batch<V>) -> Fitted<V> {
        let zero = V::splat(0.0);
        let mut fits = [SymmetricFit::none(); 16];
        for (g, fit) in fits.iter_mut().enumerate() {
            let x = batch.group::<16>(g);
            // Unlike the other formats' searches this one takes importances as they are.
            let weights = match &batch.importance {
                Some(importance) => *importance[16 * g..].first_chunk().expect("a group"),
                None => x.map(|x| x * x),
            };
            *fit = SymmetricFit::new(x, &weights, 32.0);
        }
        let (amax, max) = largest(&fits.map(|fit| fit.scale));
        let empty = amax.lt(V::splat(EMPTY_GROUP));
        let inverse = V::splat(-128.0) / max;
        let d = V::select(empty, zero, V::splat(1.0) / inverse);
        let scales = fits.map(|fit| (inverse * fit.scale).nearest().min(V::splat(127.0)));
        let mut all = Fitted::single(d, zero, Rule::lowest());
        let d = stored(d);
        for g in 0..16 {
            all.scales[g] = V::select(empty, zero, scales[g]);
            let rule = Rule::over(d * scales[g], zero, fits[g].rule());
            all.rules[g] = Rule::select(empty, Rule::lowest(), rule);
        }
        all
    }
}

impl Quantized for Q6_K {
    const GROUP_ELEMS: usize = 16;
    const LEVELS: Levels = Levels::integers(-32, 31);
    const SCALES: Option<(i8, i8)> = Some((i8::MIN, i8::MAX));

    fn group(scales: &Scales, g: usize) -> Group {
        Group::scaled(scales, g)
    }

    fn pack(scales: &Scales, codes: &[u8]) -> Self {
        let (ql, qh) = pack(whole(codes));
        Self { ql, qh, scales: scales.scales.map(|scale| scale as u8), d: scales.d.to_le_bytes() }
    }

    fn unpack(&self, codes: &mut [u8]) -> Scales {
        for (j, code) in codes.iter_mut().enumerate() {
            *code = self.code(j);
        }
        Scales { scales: self.scales.map(|scale| scale as i8), ..Scales::read(self.d, [0; 2]) }
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
