//! IQ2_XXS: entries of eight, a 4-bit scale per 32 elements.

use super::grid::{self, Grid, look_up, odd_scale, top_nibbles};
use super::{Column, Format};
use crate::isa::Isa;
use pythia_tensor::blocks::IQ2_XXS;
use std::mem::offset_of;

impl Format for IQ2_XXS {
    const UNROLL: bool = false;
    const BITS: u32 = 8;
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

    #[inline(always)]
    unsafe fn codes<I: Isa>(isa: I, part: Column<Self>, unit: usize) -> [I::B; 2] {
        // SAFETY: the caller has readable blocks.
        unsafe { grid::codes(isa, part, unit) }
    }
}

impl Grid for IQ2_XXS {
    #[inline(always)]
    fn signed_codes(&self, unit: usize) -> [[u8; 16]; 2] {
        look_up(&self.unit(unit), &pythia_tensor::grid::IQ2_XXS)
    }
}
