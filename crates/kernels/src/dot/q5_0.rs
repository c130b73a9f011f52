//! Q5_0: nibbles with a fifth bit around 16.

use super::{Column, Format};
use crate::isa::Isa;
use pythia_tensor::blocks::{Block, Q5_0};
use std::mem::offset_of;

impl Format for Q5_0 {
    const BITS: u32 = 5;
    const INTERLEAVES: bool = false;
    const OFFSET: i32 = 16;

    type Header<I: Isa> = I::F;

    #[inline(always)]
    unsafe fn header<I: Isa>(isa: I, rows: Column<Self>) -> I::F {
        // SAFETY: the caller has readable blocks.
        unsafe { rows.f16(isa, offset_of!(Self, d)) }
    }

    #[inline(always)]
    fn scales<I: Isa>(_: I, d: I::F, _unit: usize) -> [I::F; 2] {
        [d; 2]
    }

    #[inline(always)]
    unsafe fn codes<I: Isa>(isa: I, part: Column<Self>, _unit: usize) -> [I::B; 2] {
        // SAFETY: the caller has readable blocks.
        unsafe { codes(isa, part, offset_of!(Self, qs), offset_of!(Self, qh)) }
    }
}

/// Nibbles from `low` on with fifth bits from `high` on.
///
/// # Safety
/// Those 16 and 4 bytes lie within the blocks.
#[inline(always)]
pub(super) unsafe fn codes<I: Isa, T: Block>(isa: I, part: Column<T>, low: usize, high: usize) -> [I::B; 2] {
    // SAFETY: the caller's promise.
    let (low, fifth) = unsafe { (part.bytes(isa, low), part.fifth_bits(isa, high)) };
    [isa.or(isa.and(low, 15), fifth[0]), isa.or(isa.shr(low, 4), fifth[1])]
}
