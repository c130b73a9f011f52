//! Q5_K: nibbles with a fifth bit, a 6-bit scale and minimum per 32 elements.

use super::q4_k::nibbles;
use super::six_bit::SixBit;
use super::{Column, Format, bits};
use crate::isa::Isa;
use pythia_tensor::blocks::Q5_K;
use std::mem::offset_of;

impl Format for Q5_K {
    const AFFINE: bool = true;
    const BITS: u32 = 5;
    const INTERLEAVED_ROUND: usize = 8;
    const RUNS: bool = true;
    const OFFSET: i32 = 0;

    type Header<I: Isa> = SixBit<I>;

    #[inline(always)]
    unsafe fn header<I: Isa>(isa: I, rows: Column<Self>) -> SixBit<I> {
        // SAFETY: the caller has readable blocks.
        unsafe { SixBit::read(isa, rows, offset_of!(Self, d)) }
    }

    #[inline(always)]
    fn scales<I: Isa>(isa: I, header: SixBit<I>, unit: usize) -> [I::F; 2] {
        header.scales(isa, unit)
    }

    #[inline(always)]
    fn mins<I: Isa>(isa: I, header: SixBit<I>, unit: usize) -> [I::F; 2] {
        header.mins(isa, unit)
    }

    #[inline(always)]
    unsafe fn codes<I: Isa>(isa: I, part: Column<Self>, unit: usize) -> [I::B; 2] {
        // SAFETY: the caller has readable blocks.
        let (low, high) =
            unsafe { (nibbles(isa, part, offset_of!(Self, qs), unit), part.bytes_32(isa, offset_of!(Self, qh))) };
        [isa.or(low[0], bits(isa, high[0], unit, 1, 4)), isa.or(low[1], bits(isa, high[1], unit, 1, 4))]
    }
}
