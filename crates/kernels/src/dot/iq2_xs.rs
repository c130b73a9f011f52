//! IQ2_XS: entries of eight, a 4-bit scale per 16 elements.

use super::grid::{self, Grid, Order, Sixteens, eightfold, even_signs, masked, paired_codes, signed};
use super::{Column, Format, Pair};
use crate::codebook;
use crate::isa::Isa;
use pythia_tensor::blocks::IQ2_XS;
use std::mem::offset_of;

impl Format for IQ2_XS {
    const SPLIT: bool = true;
    const ROUND: usize = 2;
    const BITS: u32 = 8;
    const INTERLEAVES: bool = false;
    const OFFSET: i32 = 0;

    type Header<I: Isa> = Sixteens<I>;

    #[inline(always)]
    unsafe fn header<I: Isa>(isa: I, rows: Column<Self>) -> Sixteens<I> {
        const { assert!(offset_of!(Self, d) == 0 && offset_of!(Self, scales) + 8 == size_of::<Self>()) }
        // SAFETY: the caller has readable blocks.
        unsafe { Sixteens::read(isa, rows) }
    }

    #[inline(always)]
    fn scales<I: Isa>(isa: I, header: Sixteens<I>, unit: usize) -> [I::F; 2] {
        header.of_unit(isa, unit)
    }

    paired_codes!();
}

impl Grid for IQ2_XS {
    const VECTORS: usize = 1;

    #[inline(always)]
    unsafe fn read<I: Isa>(isa: I, part: Column<Self>, pair: usize) -> ([I::B; 2], I::B) {
        /// Of two units, u16 with 9 bits of entry below 7 of signs.
        static ENTRIES: [u8; 16] = [255, 1, 255, 1, 255, 1, 255, 1, 255, 1, 255, 1, 255, 1, 255, 1];
        // SAFETY: the caller has readable blocks.
        let both = unsafe { part.bytes(isa, offset_of!(Self, qs) + 16 * pair) };
        ([masked(isa, both, &ENTRIES); 2], even_signs(isa, isa.shr(both, 1)))
    }

    #[inline(always)]
    unsafe fn find<I: Isa>(isa: I, numbers: I::Parts<I::B>) -> I::Parts<I::B> {
        // SAFETY: the caller has them from `read`: 9 bits number one of 512 entries.
        unsafe { isa.find(&codebook::IQ2_XS, numbers) }
    }

    #[inline(always)]
    unsafe fn codes<I: Isa>(isa: I, found: [I::B; 2], signs: I::B, unit: usize) -> [I::B; 2] {
        static SIGNS: [[Order; 2]; 2] = [[eightfold(1, 3), eightfold(5, 7)], [eightfold(9, 11), eightfold(13, 15)]];
        // SAFETY: the caller has them from `find`.
        signed(isa, unsafe { isa.eights(&codebook::IQ2_XS, found[0], unit % 2) }, signs, &SIGNS[unit % 2])
    }
}
