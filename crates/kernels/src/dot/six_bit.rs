//! The 6-bit scales and minima that Q4_K and Q5_K share.

use super::{Column, LOW_NIBBLES, UPPER_PAIRS, byte, f16_pairs};
use crate::isa::Isa;
use pythia_tensor::blocks::Block;

const SIX_BITS: u32 = 0x3F3F_3F3F;

/// Of 16 blocks.
#[derive(Clone, Copy)]
pub(crate) struct SixBit<I: Isa> {
    d: I::F,
    /// Negated.
    dmin: I::F,
    /// Bytes 0..8 are the scales, 8..16 the minima.
    scales: [I::N; 4],
}

impl<I: Isa> SixBit<I> {
    /// Reads super-scale, super-minimum and 12 packed bytes, which lie in this order from `offset` on.
    ///
    /// # Safety
    /// Those 16 bytes lie within the blocks.
    #[inline(always)]
    pub(super) unsafe fn read<T: Block>(isa: I, rows: Column<T>, offset: usize) -> Self {
        // SAFETY: the caller's promise.
        let [supers, a, b, c] = unsafe { rows.words(isa, offset) };
        // Bytes of `a` and `b`: scales and minima 0..4 in the lower six bits, the upper pairs of the other four above
        // them; of `c`: the lower nibbles of those. Four bytes are put together at a time.
        let upper = [isa.shr_int(a, 2), isa.shr_int(b, 2)];
        let scales = [
            isa.and_int(a, SIX_BITS),
            isa.or_int(isa.and_int(c, LOW_NIBBLES), isa.and_int(upper[0], UPPER_PAIRS)),
            isa.and_int(b, SIX_BITS),
            isa.or_int(isa.and_int(isa.shr_int(c, 4), LOW_NIBBLES), isa.and_int(upper[1], UPPER_PAIRS)),
        ];
        let [d, dmin] = f16_pairs(isa, supers);
        Self { d, dmin: isa.mul(dmin, isa.splat(-1.0)), scales }
    }

    // Both products are exact: 11 bits times 6.

    #[inline(always)]
    pub(super) fn scales(self, isa: I, unit: usize) -> [I::F; 2] {
        [isa.mul(self.d, isa.to_float(byte(isa, self.scales, unit))); 2]
    }

    #[inline(always)]
    pub(super) fn mins(self, isa: I, unit: usize) -> [I::F; 2] {
        [isa.mul(self.dmin, isa.to_float(byte(isa, self.scales, 8 + unit))); 2]
    }
}
