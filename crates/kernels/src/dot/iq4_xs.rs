//! IQ4_XS: the levels of IQ4_NL, a 6-bit scale per 32 elements.

use super::iq4_nl::levels;
use super::{Column, Format};
use crate::isa::{Isa, Operations};
use pythia_tensor::blocks::IQ4_XS;
use std::mem::offset_of;

/// Super-scale; a word whose upper half has the upper pairs of the scales; one that has their lower nibbles.
type Header<I> = (<I as Operations>::F, <I as Operations>::N, <I as Operations>::N);

impl Format for IQ4_XS {
    const BITS: u32 = 8;
    const OFFSET: i32 = 0;

    type Header<I: Isa> = Header<I>;

    #[inline(always)]
    unsafe fn header<I: Isa>(isa: I, rows: Column<Self>) -> Header<I> {
        // SAFETY: the caller has readable blocks.
        let words = unsafe { rows.words(isa, offset_of!(Self, d)) };
        (isa.half_to_float(words[0]), words[0], words[1])
    }

    #[inline(always)]
    fn scales<I: Isa>(isa: I, (d, high, low): Header<I>, unit: usize) -> [I::F; 2] {
        let low = isa.and_int(isa.shr_int(low, 4 * unit), 15);
        // Pair `unit` of the upper half, but shifted four bits less.
        let high = isa.and_int(isa.shr_int(high, 12 + 2 * unit), 0x30);
        let scale = isa.add_int(isa.or_int(low, high), isa.splat_int(-32));
        [isa.mul(d, isa.to_float(scale)); 2] // exact: 11 bits times 6
    }

    #[inline(always)]
    unsafe fn codes<I: Isa>(isa: I, part: Column<Self>, unit: usize) -> [I::B; 2] {
        // SAFETY: the caller has readable blocks.
        levels(isa, unsafe { part.bytes(isa, offset_of!(Self, qs) + 16 * unit) })
    }
}
