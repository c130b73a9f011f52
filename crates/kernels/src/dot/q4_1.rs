//! Q4_1: nibbles, scale and minimum.

use super::Format;
use crate::isa::Isa;
use pythia_tensor::blocks::Q4_1;
use std::mem::offset_of;

impl Format for Q4_1 {
    const AFFINE: bool = true;
    const OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn codes<I: Isa>(isa: I, block: *const Self, _unit: usize) -> I::B {
        // SAFETY: the caller has a readable block.
        unsafe {
            let p = block.cast::<u8>();
            isa.nibbles(p.add(offset_of!(Self, qs)))
        }
    }

    #[inline(always)]
    unsafe fn codes_of_two<I: Isa>(isa: I, a: *const Self, b: *const Self, _unit: usize) -> [I::B; 2] {
        let qs = offset_of!(Self, qs);
        // SAFETY: the caller has readable blocks.
        unsafe { isa.nibbles_of_two(a.cast::<u8>().add(qs), b.cast::<u8>().add(qs)) }
    }

    #[inline(always)]
    unsafe fn scales<I: Isa>(isa: I, block: *const Self, stride: usize, _unit: usize, _supers: I::F) -> [I::F; 2] {
        // SAFETY: the caller has 16 readable blocks.
        let d = unsafe { isa.gather_f16(block.cast::<u8>().add(offset_of!(Self, d)), stride) };
        [d; 2]
    }

    #[inline(always)]
    unsafe fn mins<I: Isa>(isa: I, block: *const Self, stride: usize, _unit: usize, _half: usize) -> I::F {
        // SAFETY: the caller has 16 readable blocks.
        unsafe { isa.gather_f16(block.cast::<u8>().add(offset_of!(Self, m)), stride) }
    }
}
