//! Q6_K: nibbles and pairs of upper bits, a signed scale per 16 elements.

use super::Format;
use crate::isa::Isa;
use pythia_tensor::blocks::Q6_K;
use std::mem::offset_of;

impl Format for Q6_K {
    const SPLIT: bool = true;
    const OFFSET: i32 = 32;

    #[inline(always)]
    unsafe fn codes<I: Isa>(isa: I, block: *const Self, unit: usize) -> I::B {
        // Units 0..4 are one half of the block: their low nibbles lie in two runs of 32 bytes (units 0 and 1, with
        // units 2 and 3 in the high nibbles), their upper bits in one run of 32, two bits per unit.
        let (half, quarter) = (unit / 4, unit % 4);
        // SAFETY: the caller has a readable block, whose fields these offsets stay within.
        unsafe {
            let p = block.cast::<u8>();
            let low = isa.bytes(p.add(offset_of!(Self, ql) + 64 * half + 32 * (quarter % 2)));
            let high = isa.bytes(p.add(offset_of!(Self, qh) + 32 * half));
            let low = if quarter < 2 { isa.and(low, 15) } else { isa.shr::<4>(low) };
            let high = match quarter {
                0 => isa.shl::<4>(isa.and(high, 3)),
                1 => isa.shl::<2>(isa.and(high, 12)),
                2 => isa.and(high, 48),
                _ => isa.and(isa.shr::<2>(high), 48),
            };
            isa.or(low, high)
        }
    }

    #[inline(always)]
    unsafe fn super_scales<I: Isa>(isa: I, block: *const Self, stride: usize) -> I::F {
        // SAFETY: the caller has 16 readable blocks.
        unsafe { isa.gather_f16(block.cast::<u8>().add(offset_of!(Self, d)), stride) }
    }

    #[inline(always)]
    unsafe fn scales<I: Isa>(isa: I, block: *const Self, stride: usize, unit: usize, supers: I::F) -> [I::F; 2] {
        // SAFETY: the caller has 16 readable blocks, of which two group scales are read each.
        let groups =
            unsafe { isa.gather_i8_pairs(block.cast::<u8>().add(offset_of!(Self, scales) + 2 * unit), stride) };
        // The products are exact: 11 bits times 8.
        [isa.mul(supers, groups[0]), isa.mul(supers, groups[1])]
    }
}
