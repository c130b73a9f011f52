//! Q8_0: signed bytes.

use super::Format;
use crate::isa::Isa;
use pythia_tensor::blocks::Q8_0;
use std::mem::offset_of;

impl Format for Q8_0 {
    const SIGNED: bool = true;
    const OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn codes<I: Isa>(isa: I, block: *const Self, _unit: usize) -> I::B {
        // SAFETY: the caller has a readable block.
        unsafe { isa.prepare_i8(isa.bytes(block.cast::<u8>().add(offset_of!(Self, q)))) }
    }

    #[inline(always)]
    unsafe fn scales<I: Isa>(isa: I, block: *const Self, stride: usize, _unit: usize, _supers: I::F) -> [I::F; 2] {
        // SAFETY: the caller has 16 readable blocks.
        let d = unsafe { isa.gather_f16(block.cast::<u8>().add(offset_of!(Self, d)), stride) };
        [d; 2]
    }
}
