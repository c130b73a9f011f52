//! Q5_0: nibbles with a fifth bit around 16.

use super::Format;
use crate::isa::Isa;
use pythia_tensor::blocks::Q5_0;
use std::mem::offset_of;

impl Format for Q5_0 {
    const OFFSET: i32 = 16;

    #[inline(always)]
    unsafe fn codes<I: Isa>(isa: I, block: *const Self, _unit: usize) -> I::B {
        // SAFETY: the caller has a readable block.
        unsafe {
            let p = block.cast::<u8>();
            isa.or(isa.nibbles(p.add(offset_of!(Self, qs))), isa.fifth_bits(p.add(offset_of!(Self, qh))))
        }
    }

    #[inline(always)]
    unsafe fn scales<I: Isa>(isa: I, block: *const Self, stride: usize, _unit: usize, _supers: I::F) -> [I::F; 2] {
        // SAFETY: the caller has 16 readable blocks.
        let d = unsafe { isa.gather_f16(block.cast::<u8>().add(offset_of!(Self, d)), stride) };
        [d; 2]
    }
}
