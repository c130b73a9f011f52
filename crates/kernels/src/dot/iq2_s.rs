//! IQ2_S: entries of eight, a 4-bit scale per 16 elements.

use super::grid::{self, Grid, Sixteens, look_up};
use super::{Column, Format};
use crate::isa::Isa;
use pythia_tensor::blocks::IQ2_S;
use std::mem::offset_of;

impl Format for IQ2_S {
    const SPLIT: bool = true;
    const UNROLL: bool = false;
    const BITS: u32 = 8;
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
