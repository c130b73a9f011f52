//! IQ2_S: entries of eight, a 4-bit scale per 16 elements.

use super::grid::{self, Grid, look_up, odd_scale};
use super::{Column, Format};
use crate::isa::Isa;
use pythia_tensor::blocks::IQ2_S;
use std::mem::offset_of;

impl Format for IQ2_S {
    const SPLIT: bool = true;
    const UNROLL: bool = false;
    const SIGNED: bool = true;
    const OFFSET: i32 = 0;

    /// Super-scale, and the scales as nibbles, eight to a word.
    type Header<I: Isa> = (I::F, [I::N; 2]);

    #[inline(always)]
    unsafe fn header<I: Isa>(isa: I, rows: Column<Self>) -> (I::F, [I::N; 2]) {
        // The scales are the last two words of the block.
        const { assert!(offset_of!(Self, scales) + 8 == size_of::<Self>()) }
        // SAFETY: the caller has readable blocks.
        let (d, [_, _, low, high]) =
            unsafe { (rows.f16(isa, offset_of!(Self, d)), rows.words(isa, size_of::<Self>() - 16)) };
        (d, [low, high])
    }

    #[inline(always)]
    fn scales<I: Isa>(isa: I, (d, scales): (I::F, [I::N; 2]), unit: usize) -> [I::F; 2] {
        let (scales, first) = (scales[unit / 4], unit % 4 * 2);
        [odd_scale(isa, d, scales, first, 0.125), odd_scale(isa, d, scales, first + 1, 0.125)]
    }

    #[inline(always)]
    unsafe fn codes<I: Isa>(isa: I, part: Column<Self>, unit: usize) -> [I::B; 2] {
        // SAFETY: the caller has readable blocks.
        unsafe { grid::codes(isa, part, unit) }
    }
}

impl Grid for IQ2_S {
    #[inline(always)]
    fn signed_codes(&self, unit: usize) -> [[u8; 16]; 2] {
        look_up(&self.unit(unit), &pythia_tensor::grid::IQ2_S)
    }
}
