//! IQ2_XXS: entries of eight, a 4-bit scale per 32 elements.

use super::grid::{
    self, Grid, NONE, Order, eightfold, even_signs, odd_scale, ordered, paired_codes, sevens, signed, top_nibbles,
};
use super::{Column, Format, Pair};
use crate::codebook;
use crate::isa::Isa;
use pythia_tensor::blocks::IQ2_XXS;
use std::mem::offset_of;

impl Format for IQ2_XXS {
    const ROUND: usize = 2;
    const BITS: u32 = 8;
    const INTERLEAVES: bool = false;
    const OFFSET: i32 = 0;

    /// Super-scale, and the scales as nibbles.
    type Header<I: Isa> = (I::F, I::N);

    #[inline(always)]
    unsafe fn header<I: Isa>(isa: I, rows: Column<Self>) -> (I::F, I::N) {
        let (d, qs) = (offset_of!(Self, d), offset_of!(Self, qs));
        // A group is two words, with the scale at the top of the second.
        // SAFETY: the caller has readable blocks.
        unsafe {
            let [_, a, _, b] = rows.words(isa, qs);
            let [_, c, _, e] = rows.words(isa, qs + 16);
            let [_, f, _, g] = rows.words(isa, qs + 32);
            let [_, h, _, i] = rows.words(isa, qs + 48);
            (rows.f16(isa, d), top_nibbles(isa, [a, b, c, e, f, g, h, i]))
        }
    }

    #[inline(always)]
    fn scales<I: Isa>(isa: I, (d, scales): (I::F, I::N), unit: usize) -> [I::F; 2] {
        [odd_scale(isa, d, scales, unit, 0.125); 2]
    }

    paired_codes!();
}

impl Grid for IQ2_XXS {
    const VECTORS: usize = 1;

    #[inline(always)]
    unsafe fn read<I: Isa>(isa: I, part: Column<Self>, pair: usize) -> ([I::B; 2], I::B) {
        /// Of two units, 4 bytes each, and after them their signs.
        static ENTRIES: Order = [0, NONE, 1, NONE, 2, NONE, 3, NONE, 8, NONE, 9, NONE, 10, NONE, 11, NONE];
        // SAFETY: the caller has readable blocks.
        let both = unsafe { part.bytes(isa, offset_of!(Self, qs) + 16 * pair) };
        ([ordered(isa, both, &ENTRIES); 2], even_signs(isa, sevens(isa, both)))
    }

    #[inline(always)]
    unsafe fn find<I: Isa>(isa: I, numbers: I::Parts<I::B>) -> I::Parts<I::B> {
        // SAFETY: the caller has them from `read`: a byte numbers one of 256 entries.
        unsafe { isa.find(&codebook::IQ2_XXS, numbers) }
    }

    #[inline(always)]
    unsafe fn codes<I: Isa>(isa: I, found: [I::B; 2], signs: I::B, unit: usize) -> [I::B; 2] {
        static SIGNS: [[Order; 2]; 2] = [[eightfold(4, 5), eightfold(6, 7)], [eightfold(12, 13), eightfold(14, 15)]];
        // SAFETY: the caller has them from `find`.
        signed(isa, unsafe { isa.eights(&codebook::IQ2_XXS, found[0], unit % 2) }, signs, &SIGNS[unit % 2])
    }
}
