//! IQ2_S: entries of eight, a 4-bit scale per 16 elements.

use super::grid::{self, Grid, LOW, NONE, Order, SIGNS_OF_FOUR, Sixteens, masked, ordered, paired_codes, signed};
use super::{Column, Format, Pair};
use crate::codebook;
use crate::isa::Isa;
use pythia_tensor::blocks::IQ2_S;
use std::mem::offset_of;

impl Format for IQ2_S {
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

impl Grid for IQ2_S {
    const VECTORS: usize = 1;

    #[inline(always)]
    unsafe fn read<I: Isa>(isa: I, part: Column<Self>, pair: usize) -> ([I::B; 2], I::B) {
        /// Of two units, the byte with the upper pairs of four entries each, as the high byte of their u16.
        static UPPER: [Order; 4] = [upper(0), upper(2), upper(4), upper(6)];
        const fn upper(unit: u8) -> Order {
            let mut order = [NONE; 16];
            let mut i = 0;
            while i < 8 {
                order[2 * i + 1] = unit + (i / 4) as u8;
                i += 1;
            }
            order
        }
        static PAIRS: [u8; 16] = [0, 3, 0, 12, 0, 48, 0, 192, 0, 3, 0, 12, 0, 48, 0, 192];
        // SAFETY: the caller has readable blocks.
        unsafe {
            let low = part.bytes(isa, offset_of!(Self, qs) + 16 * (pair / 2));
            let signs = part.bytes(isa, offset_of!(Self, signs) + 16 * (pair / 2));
            // With the scales, which follow.
            let high = part.bytes(isa, offset_of!(Self, qh));
            // Each pair of bits alone in its byte, and moved to the bottom.
            let upper = masked(isa, ordered(isa, high, &UPPER[pair]), &PAIRS);
            let upper = isa.or(upper, isa.shr(upper, 4));
            let upper = isa.and(isa.or(upper, isa.shr(upper, 2)), 3);
            ([isa.or(ordered(isa, low, &LOW[pair % 2]), upper); 2], signs)
        }
    }

    #[inline(always)]
    unsafe fn find<I: Isa>(isa: I, numbers: I::Parts<I::B>) -> I::Parts<I::B> {
        // SAFETY: the caller has them from `read`: 10 bits number one of 1024 entries.
        unsafe { isa.find(&codebook::IQ2_S, numbers) }
    }

    #[inline(always)]
    unsafe fn codes<I: Isa>(isa: I, found: [I::B; 2], signs: I::B, unit: usize) -> [I::B; 2] {
        // SAFETY: the caller has them from `find`.
        signed(isa, unsafe { isa.eights(&codebook::IQ2_S, found[0], unit % 2) }, signs, &SIGNS_OF_FOUR[unit % 4])
    }
}
