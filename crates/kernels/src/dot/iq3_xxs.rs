//! IQ3_XXS: entries of four, a 4-bit scale per 32 elements.

use super::grid::{
    self, Grid, LOW, SIGNS_OF_FOUR, even_signs, odd_scale, ordered, paired_codes, sevens, signed, top_nibbles,
};
use super::{Column, Format, Pair};
use crate::codebook;
use crate::isa::Isa;
use pythia_tensor::blocks::IQ3_XXS;
use std::mem::offset_of;

impl Format for IQ3_XXS {
    const ROUND: usize = 2;
    const BITS: u32 = 8;
    const INTERLEAVES: bool = false;
    const OFFSET: i32 = 0;

    /// Super-scale, and the scales as nibbles.
    type Header<I: Isa> = (I::F, I::N);

    #[inline(always)]
    unsafe fn header<I: Isa>(isa: I, rows: Column<Self>) -> (I::F, I::N) {
        let (d, signs) = (offset_of!(Self, d), offset_of!(Self, signs));
        // A word per group, with the scale at its top.
        // SAFETY: the caller has readable blocks.
        unsafe {
            let ([a, b, c, e], [f, g, h, i]) = (rows.words(isa, signs), rows.words(isa, signs + 16));
            (rows.f16(isa, d), top_nibbles(isa, [a, b, c, e, f, g, h, i]))
        }
    }

    #[inline(always)]
    fn scales<I: Isa>(isa: I, (d, scales): (I::F, I::N), unit: usize) -> [I::F; 2] {
        [odd_scale(isa, d, scales, unit, 0.25); 2]
    }

    paired_codes!();
}

impl Grid for IQ3_XXS {
    const VECTORS: usize = 2;

    #[inline(always)]
    unsafe fn read<I: Isa>(isa: I, part: Column<Self>, pair: usize) -> ([I::B; 2], I::B) {
        // SAFETY: the caller has readable blocks.
        unsafe {
            let entries = part.bytes(isa, offset_of!(Self, qs) + 16 * pair);
            let signs = part.bytes(isa, offset_of!(Self, signs) + 16 * (pair / 2));
            let numbers = [ordered(isa, entries, &LOW[0]), ordered(isa, entries, &LOW[1])];
            (numbers, even_signs(isa, sevens(isa, signs)))
        }
    }

    #[inline(always)]
    unsafe fn find<I: Isa>(isa: I, numbers: I::Parts<I::B>) -> I::Parts<I::B> {
        // SAFETY: the caller has them from `read`: a byte numbers one of 256 entries.
        unsafe { isa.find(&codebook::IQ3_XXS, numbers) }
    }

    #[inline(always)]
    unsafe fn codes<I: Isa>(isa: I, found: [I::B; 2], signs: I::B, unit: usize) -> [I::B; 2] {
        // SAFETY: the caller has them from `find`.
        signed(isa, unsafe { isa.fours(&codebook::IQ3_XXS, found[unit % 2]) }, signs, &SIGNS_OF_FOUR[unit % 4])
    }
}
