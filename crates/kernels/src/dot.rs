//! How each block format presents itself to the integer products: codes, scales, minima. One file per format.

mod column;
mod grid;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
mod iq4_nl;
mod iq4_xs;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod six_bit;

use crate::isa::Isa;
pub(crate) use column::Column;
pub(crate) use grid::Pair;
use pythia_tensor::blocks::Block;

/// Elements whose codes are read together, and the size of an activation block.
pub(crate) const UNIT: usize = 32;

/// A quantized format as the products see it: `value = scale * (code - OFFSET) + min`, in units of 32 elements.
///
/// `unit` counts units within a block. Kernels pass it as a constant, or at least its place in a round (see
/// [`for_each_unit`]), so that whatever depends on it costs nothing. All methods are `#[inline(always)]`, so that they
/// are compiled with the ISA's features; closures would not be, unless the optimizer happens to inline them first.
#[allow(clippy::missing_safety_doc)] // the one duty, but for `of_pair`: whole readable blocks in every column
pub(crate) trait Format: Block {
    /// A scale per 16 elements rather than per 32.
    const SPLIT: bool = false;
    /// Whether there are minima.
    const AFFINE: bool = false;
    /// Bits of a code: it is in `0..1 << BITS`, but 8 stands for two's complement bytes, prepared by the ISA.
    const BITS: u32;
    /// Whether codes are those bytes.
    const SIGNED: bool = Self::BITS == 8;
    /// Units in a round of a loop over a block, as [`for_each_unit`] has it. 8 where reading codes is cheaper if the unit is
    /// a constant. If not, two units at a time are enough: they share what they read, and more would only make the kernels
    /// longer.
    const ROUND: usize = 8;
    /// The same where interleaved rows are multiplied as they are read: the units after which shifts repeat. Without a
    /// loop, every load has its own place in the code and moves a block at a time, which a hardware prefetcher does not take
    /// for one stream (Zen 5, Q4_K: 81 % of the memory's speed, and 100 % in rounds of 2).
    const INTERLEAVED_ROUND: usize = 2;
    /// Whether codes only come from runs of 32 bytes ([`Column::bytes_32`]), byte j of each making code j. All such formats
    /// have 8 units.
    const RUNS: bool = false;
    /// Whether 16 rows can be [interleaved](crate::interleave): codes are made byte by byte of what [`Column::bytes`] and
    /// [`Column::bytes_32`] read.
    const INTERLEAVES: bool = true;
    /// Where a block has an f16 that does not share a word with what is read as words. All else is whole words.
    const LONE_HALF: Option<usize> = None;
    /// The code that stands for zero (before a minimum).
    const OFFSET: i32;

    /// What the scales and minima of a block of 16 rows are made from.
    type Header<I: Isa>: Copy;

    /// Reads the header of 16 blocks.
    unsafe fn header<I: Isa>(isa: I, rows: Column<Self>) -> Self::Header<I>;

    /// Scales of the first 16 elements of a unit and of the last; the same where not `SPLIT`.
    fn scales<I: Isa>(isa: I, header: Self::Header<I>, unit: usize) -> [I::F; 2];

    /// Minima in the same order, where `AFFINE`.
    #[inline(always)]
    fn mins<I: Isa>(isa: I, _header: Self::Header<I>, _unit: usize) -> [I::F; 2] {
        [isa.splat(0.0); 2]
    }

    /// Codes of the first 16 elements of a unit and of the last, of the rows of one part.
    unsafe fn codes<I: Isa>(isa: I, part: Column<Self>, unit: usize) -> [I::B; 2];

    /// Whether units 2 k and 2 k + 1 share what their codes are made from. Then whoever reads units in order may call the
    /// two functions below instead of `codes`.
    const PAIRED: bool = false;

    /// What the codes of two units of 16 rows are made from, where `PAIRED`.
    #[inline(always)]
    unsafe fn pair<I: Isa>(_isa: I, _rows: Column<Self>, _pair: usize) -> Pair<I> {
        unreachable!("units share nothing")
    }

    /// Codes of one of those units, of the rows of one part: what `codes` gives. The pair must come from `pair` of the same
    /// format.
    #[inline(always)]
    unsafe fn of_pair<I: Isa>(_isa: I, _pair: &Pair<I>, _part: usize, _unit: usize) -> [I::B; 2] {
        unreachable!("units share nothing")
    }
}

/// Both f16 of every word: the lower ones, then the upper.
#[inline(always)]
fn f16_pairs<I: Isa>(isa: I, words: I::N) -> [I::F; 2] {
    [isa.half_to_float(words), isa.half_to_float(isa.shr_int(words, 16))]
}

/// Byte `j` of 16 that lie in four words, 0..=255.
#[inline(always)]
fn byte<I: Isa>(isa: I, words: [I::N; 4], j: usize) -> I::N {
    isa.and_int(isa.shr_int(words[j / 4], j % 4 * 8), 0xFF)
}

/// Of packed 6-bit scales, in every byte of a word: where nibbles lie, and where the upper two bits belong.
const LOW_NIBBLES: u32 = 0x0F0F_0F0F;
const UPPER_PAIRS: u32 = 0x3030_3030;

/// Bits `from..from + width` of every byte, moved to `to`.
#[inline(always)]
fn bits<I: Isa>(isa: I, a: I::B, from: usize, width: usize, to: usize) -> I::B {
    let moved = if from < to { isa.shl(a, to - from) } else { isa.shr(a, from - to) };
    isa.and(moved, ((1 << width) - 1) << to)
}

/// Runs a block of code for every unit of a block of a format, `$round` units in a round of a loop: 2, 4, or 8 for no
/// loop at all. Where the ISA is for it, the unit's number within the round is a constant, so that what it decides (shifts,
/// which word a scale lies in) is decided at compile time. A plain loop would leave that to the optimizer, which does not
/// unroll bodies of this size.
macro_rules! for_each_unit {
    ($isa:ty, $format:ty, $round:expr, $unit:ident => $body:block) => {
        const { assert!(matches!(<$format>::ELEMS / $crate::dot::UNIT, 1 | 8) && matches!($round, 2 | 4 | 8)) }
        if !<$isa>::TUNING.unroll {
            for $unit in 0..<$format>::ELEMS / $crate::dot::UNIT $body
        } else if <$format>::ELEMS == $crate::dot::UNIT {
            let $unit: usize = 0;
            $body
        } else if const { $round == 8 } {
            for_each_unit! { @ 0, $unit => $body; 0 1 2 3 4 5 6 7 }
        } else if const { $round == 4 } {
            for round in 0..2_usize {
                for_each_unit! { @ round << 2, $unit => $body; 0 1 2 3 }
            }
        } else {
            for round in 0..4_usize {
                for_each_unit! { @ round << 1, $unit => $body; 0 1 }
            }
        }
    };
    (@ $first:expr, $unit:ident => $body:block; $($number:literal)*) => {
        $({
            let $unit: usize = $first | $number;
            $body
        })*
    };
}
pub(crate) use for_each_unit;

/// Runs a block of code for every part of 16 rows, repeated: in a loop that the optimizer keeps, because the bodies of
/// some formats are long, what is kept for each part would lie in memory.
macro_rules! for_each_part {
    ($isa:ty, $part:ident => $body:block) => {
        const { assert!(<$isa>::PARTS <= 16) }
        if <$isa>::TUNING.unroll {
            for_each_part! { @ $isa, $part => $body; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 }
        } else {
            for $part in 0..<$isa>::PARTS $body
        }
    };
    (@ $isa:ty, $part:ident => $body:block; $($number:literal)*) => {
        $(if $number < <$isa>::PARTS {
            let $part: usize = $number;
            $body
        })*
    };
}
pub(crate) use for_each_part;
