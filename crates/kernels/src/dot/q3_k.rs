//! Q3_K: pairs of bits with a third bit, a 6-bit scale per 16 elements.

use super::q2_k::pairs;
use super::{Column, Format, LOW_NIBBLES, UPPER_PAIRS, bits, byte};
use crate::isa::Isa;
use pythia_tensor::blocks::Q3_K;
use std::mem::offset_of;

impl Format for Q3_K {
    const SPLIT: bool = true;
    const BITS: u32 = 3;
    const INTERLEAVED_ROUND: usize = 8;
    const RUNS: bool = true;
    const LONE_HALF: Option<usize> = Some(offset_of!(Self, d));
    const OFFSET: i32 = 4;

    /// Super-scale, and the 16 group scales, around 32.
    type Header<I: Isa> = (I::F, [I::N; 4]);

    #[inline(always)]
    unsafe fn header<I: Isa>(isa: I, rows: Column<Self>) -> (I::F, [I::N; 4]) {
        // The 12 bytes of scales with the 4 before them.
        // SAFETY: the caller has readable blocks.
        let (d, [_, a, b, high]) =
            unsafe { (rows.f16(isa, offset_of!(Self, d)), rows.words(isa, offset_of!(Self, scales) - 4)) };
        // Four scales at a time: lower nibbles 0..8 are the low ones of `a` and `b`, 8..16 the high ones; `high` has an
        // upper pair of every scale.
        let low = [a, b, isa.shr_int(a, 4), isa.shr_int(b, 4)];
        let upper = [isa.shl_int(high, 4), isa.shl_int(high, 2), high, isa.shr_int(high, 2)];
        let mut scales = low;
        for word in 0..4 {
            scales[word] = isa.or_int(isa.and_int(low[word], LOW_NIBBLES), isa.and_int(upper[word], UPPER_PAIRS));
        }
        (d, scales)
    }

    #[inline(always)]
    fn scales<I: Isa>(isa: I, (d, groups): (I::F, [I::N; 4]), unit: usize) -> [I::F; 2] {
        let first = isa.add_int(byte(isa, groups, 2 * unit), isa.splat_int(-32));
        let last = isa.add_int(byte(isa, groups, 2 * unit + 1), isa.splat_int(-32));
        [isa.mul(d, isa.to_float(first)), isa.mul(d, isa.to_float(last))] // exact: 11 bits times 6
    }

    #[inline(always)]
    unsafe fn codes<I: Isa>(isa: I, part: Column<Self>, unit: usize) -> [I::B; 2] {
        // SAFETY: the caller has readable blocks.
        let (low, high) =
            unsafe { (pairs(isa, part, offset_of!(Self, qs), unit), part.bytes_32(isa, offset_of!(Self, hmask))) };
        [isa.or(low[0], bits(isa, high[0], unit, 1, 2)), isa.or(low[1], bits(isa, high[1], unit, 1, 2))]
    }
}
