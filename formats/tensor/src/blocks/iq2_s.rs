//! IQ2_S: magnitudes by eights, from a list of 1024, in a super-block of 16 groups of 16.
//!
//! ```text
//! byte  0       2                     34      66                                74                         82
//!       | d f16 | entries, low 8 bits | signs | upper 2 bits of 4 entries each | scales, low nibble first |
//! value j = +-d * (0.5 + scale[j / 16]) / 4 * IQ2_S[entry[j / 8]][j % 8]
//! ```

use super::block;
use crate::fit::f16_bytes;
use crate::grid::{self, Again, Encoded, GridSearch, Neighbours, Plain, Start, Unit, pack_scales, unpack_scales};
use crate::lanes::Lanes;
use crate::search::{Batch, Codes, Search};
use std::array::from_fn;
use std::sync::LazyLock;

/// 256 elements in 82 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct IQ2_S {
    /// Scale of the group scales, a little-endian f16.
    pub d: [u8; 2],
    /// Low bits of the entry of every 8 elements.
    pub qs: [u8; 32],
    /// Signs of every 8 elements.
    pub signs: [u8; 32],
    /// Upper pairs of bits of the entries, lowest first.
    pub qh: [u8; 8],
    /// Group scales.
    pub scales: [u8; 8],
}
block!(IQ2_S, elems = 256, bytes = 82);

static NEIGHBOURS: LazyLock<Neighbours<8>> = LazyLock::new(|| Neighbours::new(&grid::IQ2_S_CODES, 3, 1));

impl Search for IQ2_S {
    #[inline(always)]
    fn search<V: Lanes>(batch: &Batch<V>, _: &mut Codes, out: &mut [Self]) {
        let search = GridSearch {
            neighbours: &NEIGHBOURS,
            even_signs: false,
            sigma2: 2.0,
            plain: Plain::Blended,
            empty: 1e-8,
            start: Start::Largest,
            tries: 9,
            step: 0.1,
            again: Again::OffGrid,
            fudge: 0.9875,
        };
        for (out, block) in out.iter_mut().zip(&search.encode::<V, 16>(batch)) {
            *out = Self::store(block);
        }
    }
}

impl IQ2_S {
    fn store(block: &Encoded) -> Self {
        let high = |u: usize| (0..4).fold(0, |bits, k| bits | ((block.entries[4 * u + k] >> 8) << (2 * k)) as u8);
        Self {
            d: f16_bytes(block.d),
            qs: from_fn(|n| block.entries[n] as u8),
            signs: block.signs,
            qh: from_fn(high),
            scales: pack_scales(&block.scales),
        }
    }

    /// Elements `32 * u..32 * (u + 1)`.
    #[inline(always)]
    pub fn unit(&self, u: usize) -> Unit<4> {
        let high = |k: usize| u16::from(self.qh[u] >> (2 * k) & 3);
        Unit {
            entries: from_fn(|k| u16::from(self.qs[4 * u + k]) | high(k) << 8),
            signs: from_fn(|k| self.signs[4 * u + k]),
            scales: unpack_scales(self.scales[u]),
        }
    }
}

grid::quantized!(
    IQ2_S,
    IQ2_S_CODES,
    SIGNED_2,
    group_elems = 16,
    even_signs = false,
    step = |d, scale| d * (0.5 + scale) * 0.25
);
