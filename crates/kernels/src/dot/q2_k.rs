//! Q2_K: pairs of bits, a 4-bit scale and minimum per 16 elements.

use super::{Column, Format, bits, byte, f16_pairs};
use crate::isa::{Isa, Operations};
use pythia_tensor::blocks::{Block, Q2_K};
use std::mem::offset_of;

/// Super-scale and negated super-minimum, and 16 bytes: scales in the low nibbles, minima in the high ones.
type Header<I> = ([<I as Operations>::F; 2], [<I as Operations>::N; 4]);

impl Format for Q2_K {
    const SPLIT: bool = true;
    const AFFINE: bool = true;
    const BITS: u32 = 2;
    const INTERLEAVED_ROUND: usize = 4;
    const RUNS: bool = true;
    const OFFSET: i32 = 0;

    type Header<I: Isa> = Header<I>;

    #[inline(always)]
    unsafe fn header<I: Isa>(isa: I, rows: Column<Self>) -> Header<I> {
        // Super-scale and super-minimum are the last word of the block.
        const { assert!(offset_of!(Self, d) + 4 == size_of::<Self>() && offset_of!(Self, dmin) + 2 == size_of::<Self>()) }
        // SAFETY: the caller has readable blocks.
        let (last, groups) =
            unsafe { (rows.words(isa, size_of::<Self>() - 16), rows.words(isa, offset_of!(Self, scales))) };
        let [d, dmin] = f16_pairs(isa, last[3]);
        ([d, isa.mul(dmin, isa.splat(-1.0))], groups)
    }

    // The products are exact: 11 bits times 4.

    #[inline(always)]
    fn scales<I: Isa>(isa: I, ([d, _], groups): Header<I>, unit: usize) -> [I::F; 2] {
        let first = isa.and_int(byte(isa, groups, 2 * unit), 15);
        let last = isa.and_int(byte(isa, groups, 2 * unit + 1), 15);
        [isa.mul(d, isa.to_float(first)), isa.mul(d, isa.to_float(last))]
    }

    #[inline(always)]
    fn mins<I: Isa>(isa: I, ([_, dmin], groups): Header<I>, unit: usize) -> [I::F; 2] {
        let first = isa.shr_int(byte(isa, groups, 2 * unit), 4);
        let last = isa.shr_int(byte(isa, groups, 2 * unit + 1), 4);
        [isa.mul(dmin, isa.to_float(first)), isa.mul(dmin, isa.to_float(last))]
    }

    #[inline(always)]
    unsafe fn codes<I: Isa>(isa: I, part: Column<Self>, unit: usize) -> [I::B; 2] {
        // SAFETY: the caller has readable blocks.
        unsafe { pairs(isa, part, offset_of!(Self, qs), unit) }
    }
}

/// Pairs of bits of a unit. Four units share a run of 32 bytes; the runs follow each other from `offset` on.
///
/// # Safety
/// The run of the unit lies within the blocks.
#[inline(always)]
pub(super) unsafe fn pairs<I: Isa, T: Block>(isa: I, part: Column<T>, offset: usize, unit: usize) -> [I::B; 2] {
    // SAFETY: the caller's promise.
    let run = unsafe { part.bytes_32(isa, offset + 32 * (unit / 4)) };
    let pair = 2 * (unit % 4);
    [bits(isa, run[0], pair, 2, 0), bits(isa, run[1], pair, 2, 0)]
}
