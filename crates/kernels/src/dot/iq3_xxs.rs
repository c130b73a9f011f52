//! IQ3_XXS: entries of four, a 4-bit scale per 32 elements.

use super::grid::{self, Grid, look_up, odd_scale, top_nibbles};
use super::{Column, Format};
use crate::isa::Isa;
use pythia_tensor::blocks::IQ3_XXS;
use std::mem::offset_of;

impl Format for IQ3_XXS {
    const UNROLL: bool = false;
    const BITS: u32 = 8;
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

    #[inline(always)]
    unsafe fn codes<I: Isa>(isa: I, part: Column<Self>, unit: usize) -> [I::B; 2] {
        // SAFETY: the caller has readable blocks.
        unsafe { grid::codes(isa, part, unit) }
    }
}

impl Grid for IQ3_XXS {
    #[inline(always)]
    fn signed_codes(&self, unit: usize) -> [[u8; 16]; 2] {
        look_up(&self.unit(unit), &pythia_tensor::grid::IQ3_XXS)
    }
}
