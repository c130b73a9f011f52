//! IQ3_S: entries of four, a 4-bit scale per 32 elements.

use super::grid::{self, Grid, look_up, odd_scale};
use super::{Column, Format};
use crate::isa::Isa;
use pythia_tensor::blocks::IQ3_S;
use std::mem::offset_of;

impl Format for IQ3_S {
    const UNROLL: bool = false;
    const BITS: u32 = 8;
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

    #[inline(always)]
    unsafe fn codes<I: Isa>(isa: I, part: Column<Self>, unit: usize) -> [I::B; 2] {
        // SAFETY: the caller has readable blocks.
        unsafe { grid::codes(isa, part, unit) }
    }
}

impl Grid for IQ3_S {
    #[inline(always)]
    fn signed_codes(&self, unit: usize) -> [[u8; 16]; 2] {
        look_up(&self.unit(unit), &pythia_tensor::grid::IQ3_S)
    }
}
