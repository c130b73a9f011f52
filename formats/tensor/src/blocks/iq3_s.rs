//! IQ3_S: magnitudes by fours, from a list of 512, in a super-block of 8 groups of 32.
//!
//! ```text
//! byte  0       2                        66                               74      106                        110
//!       | d f16 | 64 entries, low 8 bits | ninth bits of 8 entries each | signs | scales, low nibble first |
//! value j = +-d * (1 + 2 * scale[j / 32]) * IQ3_S[entry[j / 4]][j % 4]
//! ```

use super::block;
use crate::fit::f16_bytes;
use crate::grid::{self, Again, Encoded, GridSearch, Neighbours, Plain, Start, Unit, pack_scales};
use crate::lanes::Lanes;
use crate::search::{Batch, Codes, Search};
use std::array::from_fn;
use std::sync::LazyLock;

/// 256 elements in 110 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct IQ3_S {
    /// Scale of the group scales, a little-endian f16.
    pub d: [u8; 2],
    /// Low bits of the entry of every 4 elements.
    pub qs: [u8; 64],
    /// Ninth bits of the entries, lowest first.
    pub qh: [u8; 8],
    /// Signs of every 8 elements.
    pub signs: [u8; 32],
    /// Group scales.
    pub scales: [u8; 4],
}
block!(IQ3_S, elems = 256, bytes = 110);

static NEIGHBOURS: LazyLock<Neighbours<4>> = LazyLock::new(|| Neighbours::new(&grid::IQ3_S_CODES, 8, 3));

impl Search for IQ3_S {
    #[inline(always)]
    fn search<V: Lanes>(batch: &Batch<V>, _: &mut Codes, out: &mut [Self]) {
        let search = GridSearch {
            neighbours: &NEIGHBOURS,
            even_signs: false,
            sigma2: 2.0,
            plain: Plain::Squares,
            empty: f32::from_bits(1),
            start: Start::Largest,
            tries: 9,
            step: 0.2,
            again: Again::AllIfAny,
            fudge: 1.033,
        };
        for (out, block) in out.iter_mut().zip(&search.encode::<V, 32>(batch)) {
            *out = Self::store(block);
        }
    }
}

impl IQ3_S {
    fn store(block: &Encoded) -> Self {
        let high = |u: usize| (0..8).fold(0, |bits, k| bits | ((block.entries[8 * u + k] >> 8) << k) as u8);
        Self {
            d: f16_bytes(block.d),
            qs: from_fn(|n| block.entries[n] as u8),
            qh: from_fn(high),
            signs: block.signs,
            scales: pack_scales(&block.scales),
        }
    }

    /// Elements `32 * u..32 * (u + 1)`.
    #[inline(always)]
    pub fn unit(&self, u: usize) -> Unit<8> {
        let high = |k: usize| u16::from(self.qh[u] >> k & 1);
        Unit {
            entries: from_fn(|k| u16::from(self.qs[8 * u + k]) | high(k) << 8),
            signs: from_fn(|k| self.signs[4 * u + k]),
            scales: [self.scales[u / 2] >> (4 * (u % 2)) & 15; 2],
        }
    }
}

// As the reference, but for groups of zeros: there it does not advance, and stores what follows in their place.
grid::quantized!(
    IQ3_S,
    IQ3_S_CODES,
    SIGNED_3_S,
    group_elems = 32,
    even_signs = false,
    step = |d, scale| d * (1.0 + 2.0 * scale)
);
