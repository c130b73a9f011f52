//! Q6_K: nibbles and pairs of upper bits, a signed scale per 16 elements.

use super::{Column, Format, bits};
use crate::isa::Isa;
use pythia_tensor::blocks::Q6_K;
use std::mem::offset_of;

impl Format for Q6_K {
    const SPLIT: bool = true;
    const BITS: u32 = 6;
    const INTERLEAVED_ROUND: usize = 4;
    const RUNS: bool = true;
    const LONE_HALF: Option<usize> = Some(offset_of!(Self, d));
    const OFFSET: i32 = 32;

    /// Super-scale, and the 16 group scales.
    type Header<I: Isa> = (I::F, [I::N; 4]);

    #[inline(always)]
    unsafe fn header<I: Isa>(isa: I, rows: Column<Self>) -> (I::F, [I::N; 4]) {
        // SAFETY: the caller has readable blocks.
        unsafe { (rows.f16(isa, offset_of!(Self, d)), rows.words(isa, offset_of!(Self, scales))) }
    }

    #[inline(always)]
    fn scales<I: Isa>(isa: I, (d, groups): (I::F, [I::N; 4]), unit: usize) -> [I::F; 2] {
        // To the top of the word and down again, for the sign.
        let (word, shift) = (groups[unit / 2], unit % 2 * 16);
        let first = isa.shr_int(isa.shl_int(word, 24 - shift), 24);
        let last = isa.shr_int(isa.shl_int(word, 16 - shift), 24);
        [isa.mul(d, isa.to_float(first)), isa.mul(d, isa.to_float(last))] // exact: 11 bits times 8
    }

    #[inline(always)]
    unsafe fn codes<I: Isa>(isa: I, part: Column<Self>, unit: usize) -> [I::B; 2] {
        // Units 0..4 are one half of the block: their low nibbles lie in two runs of 32 bytes (units 0 and 1, with
        // units 2 and 3 in the high nibbles), their upper bits in one run of 32, two bits per unit.
        let (half, quarter) = (unit / 4, unit % 4);
        // SAFETY: the caller has readable blocks.
        let (low, high) = unsafe {
            let low = part.bytes_32(isa, offset_of!(Self, ql) + 64 * half + 32 * (quarter % 2));
            (low, part.bytes_32(isa, offset_of!(Self, qh) + 32 * half))
        };
        let (nibble, pair) = (4 * (quarter / 2), 2 * quarter);
        [
            isa.or(bits(isa, low[0], nibble, 4, 0), bits(isa, high[0], pair, 2, 4)),
            isa.or(bits(isa, low[1], nibble, 4, 0), bits(isa, high[1], pair, 2, 4)),
        ]
    }
}
