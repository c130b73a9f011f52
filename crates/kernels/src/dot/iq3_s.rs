//! IQ3_S: entries of four, a 4-bit scale per 32 elements.

use super::grid::{self, Grid, HIGH, LOW, SIGNS_OF_FOUR, odd_scale, ordered, paired_codes, signed};
use super::{Column, Format, Pair};
use crate::codebook;
use crate::isa::Isa;
use pythia_tensor::blocks::IQ3_S;
use std::mem::offset_of;

impl Format for IQ3_S {
    const ROUND: usize = 2;
    const BITS: u32 = 8;
    const INTERLEAVES: bool = false;
    const OFFSET: i32 = 0;

    /// Super-scale, and the scales as nibbles.
    type Header<I: Isa> = (I::F, I::N);

    #[inline(always)]
    unsafe fn header<I: Isa>(isa: I, rows: Column<Self>) -> (I::F, I::N) {
        // The scales are the last word of the block.
        const { assert!(offset_of!(Self, scales) + 4 == size_of::<Self>()) }
        // SAFETY: the caller has readable blocks.
        unsafe { (rows.f16(isa, offset_of!(Self, d)), rows.words(isa, size_of::<Self>() - 16)[3]) }
    }

    #[inline(always)]
    fn scales<I: Isa>(isa: I, (d, scales): (I::F, I::N), unit: usize) -> [I::F; 2] {
        [odd_scale(isa, d, scales, unit, 1.0); 2]
    }

    paired_codes!();
}

impl Grid for IQ3_S {
    const VECTORS: usize = 2;

    #[inline(always)]
    unsafe fn read<I: Isa>(isa: I, part: Column<Self>, pair: usize) -> ([I::B; 2], I::B) {
        // SAFETY: the caller has readable blocks.
        unsafe {
            let low = part.bytes(isa, offset_of!(Self, qs) + 16 * pair);
            // Of two units, and of two more, which may be those of another field.
            let [ninth, _] = part.fifth_bits(isa, offset_of!(Self, qh) + 2 * pair);
            let high = isa.shr(ninth, 4);
            let signs = part.bytes(isa, offset_of!(Self, signs) + 16 * (pair / 2));
            let first = isa.or(ordered(isa, low, &LOW[0]), ordered(isa, high, &HIGH[0]));
            let last = isa.or(ordered(isa, low, &LOW[1]), ordered(isa, high, &HIGH[1]));
            ([first, last], signs)
        }
    }

    #[inline(always)]
    unsafe fn find<I: Isa>(isa: I, numbers: I::Parts<I::B>) -> I::Parts<I::B> {
        // SAFETY: the caller has them from `read`: 9 bits number one of 512 entries.
        unsafe { isa.find(&codebook::IQ3_S, numbers) }
    }

    #[inline(always)]
    unsafe fn codes<I: Isa>(isa: I, found: [I::B; 2], signs: I::B, unit: usize) -> [I::B; 2] {
        // SAFETY: the caller has them from `find`.
        signed(isa, unsafe { isa.fours(&codebook::IQ3_S, found[unit % 2]) }, signs, &SIGNS_OF_FOUR[unit % 4])
    }
}
