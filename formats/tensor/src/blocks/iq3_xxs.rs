//! IQ3_XXS: magnitudes by fours, from a list of 256, in a super-block of 8 groups of 32.
//!
//! ```text
//! byte  0       2            66                                                    98
//!       | d f16 | 64 entries | 8 groups: as bits 4 x 7 of signs and 4 of scale |
//! value j = +-d * (0.5 + scale[j / 32]) / 2 * IQ3_XXS[entry[j / 4]][j % 4]
//! ```
//! Of eight signs the last is not stored: the number of minuses is even.

use super::block;
use crate::fit::f16_bytes;
use crate::grid::{
    self, Again, Encoded, GridSearch, Neighbours, Plain, Start, Unit, pack_signs_and_scale, unpack_signs_and_scale,
};
use crate::lanes::Lanes;
use crate::search::{Batch, Codes, Search};
use std::array::from_fn;
use std::sync::LazyLock;

/// 256 elements in 98 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct IQ3_XXS {
    /// Scale of the group scales, a little-endian f16.
    pub d: [u8; 2],
    /// Entries of every 4 elements.
    pub qs: [u8; 64],
    /// Signs and scale of every group.
    pub signs: [[u8; 4]; 8],
}
block!(IQ3_XXS, elems = 256, bytes = 98);

static NEIGHBOURS: LazyLock<Neighbours<4>> = LazyLock::new(|| Neighbours::new(&grid::IQ3_XXS_CODES, 8, 2));

impl Search for IQ3_XXS {
    #[inline(always)]
    fn search<V: Lanes>(batch: &Batch<V>, _: &mut Codes, out: &mut [Self]) {
        let search = GridSearch {
            neighbours: &NEIGHBOURS,
            even_signs: true,
            sigma2: 2.0,
            plain: Plain::Squares,
            empty: 1e-8,
            start: Start::Largest,
            tries: 15,
            step: 0.2,
            again: Again::OffGrid,
            fudge: 1.0125,
        };
        for (out, block) in out.iter_mut().zip(&search.encode::<V, 32>(batch)) {
            *out = Self::store(block);
        }
    }
}

impl IQ3_XXS {
    fn store(block: &Encoded) -> Self {
        Self {
            d: f16_bytes(block.d),
            qs: from_fn(|n| block.entries[n] as u8),
            signs: from_fn(|g| pack_signs_and_scale(&block.signs[4 * g..], block.scales[g])),
        }
    }

    /// Elements `32 * u..32 * (u + 1)`.
    #[inline(always)]
    pub fn unit(&self, u: usize) -> Unit<8> {
        let (signs, scale) = unpack_signs_and_scale(self.signs[u]);
        Unit { entries: from_fn(|k| u16::from(self.qs[8 * u + k])), signs, scales: [scale; 2] }
    }
}

grid::quantized!(
    IQ3_XXS,
    IQ3_XXS_CODES,
    SIGNED_3_XXS,
    group_elems = 32,
    even_signs = true,
    step = |d, scale| d * (0.5 + scale) * 0.5
);
