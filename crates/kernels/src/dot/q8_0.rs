//! Q8_0: signed bytes.

use super::{Column, Format};
use crate::isa::Isa;
use pythia_tensor::blocks::Q8_0;
use std::mem::offset_of;

impl Format for Q8_0 {
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
        let q = unsafe { part.bytes_32(isa, offset_of!(Self, q)) };
        [isa.prepare_i8(q[0]), isa.prepare_i8(q[1])]
    }
}
