//! IQ4_NL: nibbles that number sixteen levels.

use super::{Column, Format};
use crate::isa::Isa;
use pythia_tensor::blocks::{IQ4_NL, LEVELS};
use std::mem::offset_of;

impl Format for IQ4_NL {
    const BITS: u32 = 8;
    const LONE_HALF: Option<usize> = Some(offset_of!(Self, d));
    const OFFSET: i32 = 0;

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
        levels(isa, unsafe { part.bytes(isa, offset_of!(Self, qs)) })
    }
}

/// The levels that nibbles number: those of the lower nibbles, then those of the upper.
#[inline(always)]
pub(super) fn levels<I: Isa>(isa: I, nibbles: I::B) -> [I::B; 2] {
    // SAFETY: 16 bytes.
    let table = isa.prepare_i8(unsafe { isa.repeated(LEVELS.as_ptr().cast()) });
    [isa.lookup(table, isa.and(nibbles, 15)), isa.lookup(table, isa.shr(nibbles, 4))]
}
