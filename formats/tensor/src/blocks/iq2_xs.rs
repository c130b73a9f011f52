//! IQ2_XS: magnitudes by eights, from a list of 512, in a super-block of 16 groups of 16.
//!
//! ```text
//! byte  0       2                                      66                         74
//!       | d f16 | 32 u16: 9 bits of entry, 7 of signs | scales, low nibble first |
//! value j = +-d * (0.5 + scale[j / 16]) / 4 * IQ2_XS[entry[j / 8]][j % 8]
//! ```
//! Of eight signs the last is not stored: the number of minuses is even.

use super::block;
use crate::fit::f16_bytes;
use crate::grid::{
    self, Again, Encoded, GridSearch, Neighbours, Plain, Start, Unit, even_signs, pack_scales, unpack_scales,
};
use crate::lanes::Lanes;
use crate::search::symmetric::EMPTY_GROUP;
use crate::search::{Batch, Codes, Search};
use std::array::from_fn;
use std::sync::LazyLock;

/// 256 elements in 74 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct IQ2_XS {
    /// Scale of the group scales, a little-endian f16.
    pub d: [u8; 2],
    /// Entries and signs of every 8 elements, little-endian.
    pub qs: [[u8; 2]; 32],
    /// Group scales.
    pub scales: [u8; 8],
}
block!(IQ2_XS, elems = 256, bytes = 74);

static NEIGHBOURS: LazyLock<Neighbours<8>> = LazyLock::new(|| Neighbours::new(&grid::IQ2_XS_CODES, 3, 2));

impl Search for IQ2_XS {
    #[inline(always)]
    fn search<V: Lanes>(batch: &Batch<V>, _: &mut Codes, out: &mut [Self]) {
        let search = GridSearch {
            neighbours: &NEIGHBOURS,
            even_signs: true,
            sigma2: 1.0,
            plain: Plain::Flat,
            empty: EMPTY_GROUP,
            start: Start::Largest,
            tries: 9,
            step: 0.1,
            again: Again::OffGrid,
            fudge: 1.0,
        };
        for (out, block) in out.iter_mut().zip(&search.encode::<V, 16>(batch)) {
            *out = Self::store(block);
        }
    }
}

impl IQ2_XS {
    fn store(block: &Encoded) -> Self {
        let run = |n: usize| (block.entries[n] | u16::from(block.signs[n]) << 9).to_le_bytes();
        Self { d: f16_bytes(block.d), qs: from_fn(run), scales: pack_scales(&block.scales) }
    }

    /// Elements `32 * u..32 * (u + 1)`.
    #[inline(always)]
    pub fn unit(&self, u: usize) -> Unit<4> {
        let runs: [u16; 4] = from_fn(|k| u16::from_le_bytes(self.qs[4 * u + k]));
        Unit {
            entries: runs.map(|run| run & 511),
            signs: runs.map(|run| even_signs((run >> 9) as u8)),
            scales: unpack_scales(self.scales[u]),
        }
    }
}

// The reference refuses to encode without importances; here they count as equal then.
grid::quantized!(
    IQ2_XS,
    IQ2_XS_CODES,
    SIGNED_2,
    group_elems = 16,
    even_signs = true,
    step = |d, scale| d * (0.5 + scale) * 0.25
);
