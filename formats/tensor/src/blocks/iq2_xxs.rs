//! IQ2_XXS: magnitudes by eights, from a list of 256, in a super-block of 8 groups of 32.
//!
//! ```text
//! byte  0       2                                                                           66
//!       | d f16 | 8 groups: 4 bytes of entries, then as bits 4 x 7 of signs and 4 of scale |
//! value j = +-d * (0.5 + scale[j / 32]) / 4 * IQ2_XXS[entry[j / 8]][j % 8]
//! ```
//! Of eight signs the last is not stored: the number of minuses is even.

use super::block;
use crate::fit::f16_bytes;
use crate::grid::{
    self, Again, Encoded, GridSearch, Neighbours, Plain, Start, Unit, pack_signs_and_scale, unpack_signs_and_scale,
};
use crate::lanes::Lanes;
use crate::search::symmetric::EMPTY_GROUP;
use crate::search::{Batch, Codes, Search};
use std::array::from_fn;
use std::sync::LazyLock;

/// 256 elements in 66 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct IQ2_XXS {
    /// Scale of the group scales, a little-endian f16.
    pub d: [u8; 2],
    /// Entries of every group, then its signs and scale.
    pub qs: [[u8; 8]; 8],
}
block!(IQ2_XXS, elems = 256, bytes = 66);

static NEIGHBOURS: LazyLock<Neighbours<8>> = LazyLock::new(|| Neighbours::new(&grid::IQ2_XXS_CODES, 3, 2));

impl Search for IQ2_XXS {
    #[inline(always)]
    fn search<V: Lanes>(batch: &Batch<V>, _: &mut Codes, out: &mut [Self]) {
        let search = GridSearch {
            neighbours: &NEIGHBOURS,
            even_signs: true,
            sigma2: 1.0,
            plain: Plain::Flat,
            empty: EMPTY_GROUP,
            start: Start::Fitted,
            tries: 6,
            step: 0.1,
            again: Again::All,
            fudge: 1.0,
        };
        for (out, block) in out.iter_mut().zip(&search.encode::<V, 32>(batch)) {
            *out = Self::store(block);
        }
    }
}

impl IQ2_XXS {
    fn store(block: &Encoded) -> Self {
        let group = |g: usize| {
            let rest = pack_signs_and_scale(&block.signs[4 * g..], block.scales[g]);
            from_fn(|i| if i < 4 { block.entries[4 * g + i] as u8 } else { rest[i - 4] })
        };
        Self { d: f16_bytes(block.d), qs: from_fn(group) }
    }

    /// Elements `32 * u..32 * (u + 1)`.
    #[inline(always)]
    pub fn unit(&self, u: usize) -> Unit<4> {
        let [entries, rest] = [0, 4].map(|at| from_fn(|i| self.qs[u][at + i]));
        let (signs, scale) = unpack_signs_and_scale(rest);
        Unit { entries: entries.map(u16::from), signs, scales: [scale; 2] }
    }
}

// The reference refuses to encode without importances; here they count as equal then.
grid::quantized!(
    IQ2_XXS,
    IQ2_XXS_CODES,
    SIGNED_2,
    group_elems = 32,
    even_signs = true,
    step = |d, scale| d * (0.5 + scale) * 0.25
);
