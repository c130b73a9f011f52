//! Q5_1: nibbles with a fifth bit, scale and minimum.

use super::{Column, Format, f16_pairs, q5_0};
use crate::isa::Isa;
use pythia_tensor::blocks::Q5_1;
use std::mem::offset_of;

impl Format for Q5_1 {
    const AFFINE: bool = true;
    const BITS: u32 = 5;
    const INTERLEAVES: bool = false;
    const OFFSET: i32 = 0;

    /// Scale and minimum.
    type Header<I: Isa> = [I::F; 2];

    #[inline(always)]
    unsafe fn header<I: Isa>(isa: I, rows: Column<Self>) -> [I::F; 2] {
        // SAFETY: the caller has readable blocks.
        f16_pairs(isa, unsafe { rows.words(isa, offset_of!(Self, d)) }[0])
    }

    #[inline(always)]
    fn scales<I: Isa>(_: I, [d, _]: [I::F; 2], _unit: usize) -> [I::F; 2] {
        [d; 2]
    }

    #[inline(always)]
    fn mins<I: Isa>(_: I, [_, m]: [I::F; 2], _unit: usize) -> [I::F; 2] {
        [m; 2]
    }

    #[inline(always)]
    unsafe fn codes<I: Isa>(isa: I, part: Column<Self>, _unit: usize) -> [I::B; 2] {
        // SAFETY: the caller has readable blocks.
        unsafe { q5_0::codes(isa, part, offset_of!(Self, qs), offset_of!(Self, qh)) }
    }
}
