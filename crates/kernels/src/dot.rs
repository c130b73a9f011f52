//! How each block format presents itself to the integer products: codes, scales, minima. One file per format.

mod q4_0;
mod q4_1;
mod q5_0;
mod q5_1;
mod q6_k;
mod q8_0;

use crate::isa::Isa;
use pythia_tensor::blocks::Block;

/// Elements whose codes are read together, and the size of an activation block.
pub(crate) const UNIT: usize = 32;

/// A quantized format as the products see it: `value = scale * (code - OFFSET) + min`, in units of 32 elements.
///
/// The pointers are to a block of the first of 16 rows whose blocks at this column lie `stride` bytes apart.
/// All methods are `#[inline(always)]`, so that they are compiled with the ISA's features.
#[allow(clippy::missing_safety_doc)] // the one duty: whole readable blocks behind every pointer
pub(crate) trait Format: Block {
    /// A scale per 16 elements rather than per 32.
    const SPLIT: bool = false;
    /// Whether there are minima.
    const AFFINE: bool = false;
    /// Codes are two's complement bytes; else they are 0..=127.
    const SIGNED: bool = false;
    /// The code that stands for zero (before a minimum).
    const OFFSET: i32;

    /// 32 codes of a block; `unit` counts units within it.
    unsafe fn codes<I: Isa>(isa: I, block: *const Self, unit: usize) -> I::B;

    /// The codes of a block of each of two rows: of their first 16 elements, then of their last 16.
    #[inline(always)]
    unsafe fn codes_of_two<I: Isa>(isa: I, a: *const Self, b: *const Self, unit: usize) -> [I::B; 2] {
        // SAFETY: the caller has readable blocks.
        unsafe { isa.regroup(Self::codes(isa, a, unit), Self::codes(isa, b, unit)) }
    }

    /// What all scales of a block are multiplied by, for 16 rows: read once per block.
    #[inline(always)]
    unsafe fn super_scales<I: Isa>(isa: I, _block: *const Self, _stride: usize) -> I::F {
        isa.splat(1.0)
    }

    /// Scales of 16 rows, of the first 16 elements of a unit and of the last; the same where not `SPLIT`.
    unsafe fn scales<I: Isa>(isa: I, block: *const Self, stride: usize, unit: usize, supers: I::F) -> [I::F; 2];

    /// Minima of 16 rows, where `AFFINE`.
    #[inline(always)]
    unsafe fn mins<I: Isa>(isa: I, _block: *const Self, _stride: usize, _unit: usize, _half: usize) -> I::F {
        isa.splat(0.0)
    }
}
