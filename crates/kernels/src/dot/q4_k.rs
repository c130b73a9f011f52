//! Q4_K: nibbles, a 6-bit scale and minimum per 32 elements.

use super::six_bit::SixBit;
use super::{Column, Format, bits};
use crate::isa::Isa;
use pythia_tensor::blocks::{Block, Q4_K};
use std::mem::offset_of;

impl Format for Q4_K {
    const AFFINE: bool = true;
    const BITS: u32 = 4;
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
        unsafe { nibbles(isa, part, offset_of!(Self, qs), unit) }
    }
}

/// Nibbles of a unit. Two units share a run of 32 bytes; the runs follow each other from `offset` on.
///
/// # Safety
/// The run of the unit lies within the blocks.
#[inline(always)]
pub(super) unsafe fn nibbles<I: Isa, T: Block>(isa: I, part: Column<T>, offset: usize, unit: usize) -> [I::B; 2] {
    // SAFETY: the caller's promise.
    let run = unsafe { part.bytes_32(isa, offset + 32 * (unit / 2)) };
    let nibble = 4 * (unit % 2);
    [bits(isa, run[0], nibble, 4, 0), bits(isa, run[1], nibble, 4, 0)]
}
