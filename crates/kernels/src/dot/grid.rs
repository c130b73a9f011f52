//! What the grid formats share: signed codes put together eight at a time, and 4-bit scales.

use super::Column;
use crate::isa::Isa;
use pythia_tensor::blocks::Block;
use pythia_tensor::grid::Unit;

/// A format whose codes are entries of a codebook.
pub(super) trait Grid: Block {
    /// The codes of a unit, as two's complement bytes: the first 16, then the last.
    fn signed_codes(&self, unit: usize) -> [[u8; 16]; 2];
}

/// Codes of a unit. Entries can only be looked up one after another, so they go through memory.
///
/// # Safety
/// As for [`Format::codes`](super::Format::codes).
#[inline(always)]
pub(super) unsafe fn codes<I: Isa, T: Grid>(isa: I, part: Column<T>, unit: usize) -> [I::B; 2] {
    let mut halves = [[[0; 16]; 16]; 2];
    // SAFETY: the caller has readable blocks in all rows of the part; `halves` has 16 bytes for every row.
    let [first, last] = unsafe {
        look_up_rows(part, 16 / I::PARTS, unit, &mut halves);
        [isa.rows(halves[0].as_ptr().cast(), 16), isa.rows(halves[1].as_ptr().cast(), 16)]
    };
    [isa.prepare_i8(first), isa.prepare_i8(last)]
}

/// Codes of a unit of `rows` rows. It has nothing to gain from an ISA, and would be copied into every product for every
/// unit of a block if it were inlined.
///
/// # Safety
/// There are readable blocks in that many rows.
#[inline(never)]
unsafe fn look_up_rows<T: Grid>(part: Column<T>, rows: usize, unit: usize, halves: &mut [[[u8; 16]; 16]; 2]) {
    for row in 0..rows {
        // SAFETY: the caller's promise; a block may lie anywhere.
        let block = unsafe { &*part.at(row * part.stride).cast::<T>() };
        [halves[0][row], halves[1][row]] = block.signed_codes(unit);
    }
}

/// The codes of a unit: its magnitudes, then its signs.
#[inline(always)]
pub(super) fn look_up<const DIM: usize, const N: usize>(unit: &Unit<N>, grid: &[[u8; DIM]]) -> [[u8; 16]; 2] {
    let mut codes = [[0; 16]; 2];
    let entries = codes.as_flattened_mut().chunks_exact_mut(DIM).zip(unit.entries);
    for (codes, entry) in entries {
        codes.copy_from_slice(&grid[usize::from(entry)]);
    }
    let eights = codes.as_flattened_mut().as_chunks_mut::<8>().0;
    for (codes, signs) in eights.iter_mut().zip(unit.signs) {
        *codes = negate(*codes, signs);
    }
    codes
}

/// Negates the bytes whose bit is set. No byte may be 0.
#[inline(always)]
fn negate(bytes: [u8; 8], signs: u8) -> [u8; 8] {
    let minus = MINUS[usize::from(signs)];
    // Of a byte that is not 0, the complement plus 1 carries nothing into the next one.
    ((u64::from_le_bytes(bytes) ^ minus) + (minus & 0x0101_0101_0101_0101)).to_le_bytes()
}

/// All bits of the bytes whose bit is set.
static MINUS: [u64; 256] = {
    let mut minus = [0; 256];
    let mut signs = 0;
    while signs < 256 {
        let mut i = 0;
        while i < 8 {
            if signs >> i & 1 == 1 {
                minus[signs] |= 0xFF << (8 * i);
            }
            i += 1;
        }
        signs += 1;
    }
    minus
};

/// Super-scale, and a 4-bit scale per 16 elements, eight to a word: IQ2_S and IQ2_XS.
#[derive(Clone, Copy)]
pub(crate) struct Sixteens<I: Isa> {
    d: I::F,
    scales: [I::N; 2],
}

impl<I: Isa> Sixteens<I> {
    /// Reads the super-scale, which comes first in a block, and the scales, which are its last eight bytes.
    ///
    /// # Safety
    /// As for [`Format::header`](super::Format::header); a block has at least 16 bytes.
    #[inline(always)]
    pub(super) unsafe fn read<T: Block>(isa: I, rows: Column<T>) -> Self {
        // SAFETY: the caller's promise.
        let (d, [_, _, low, high]) = unsafe { (rows.f16(isa, 0), rows.words(isa, size_of::<T>() - 16)) };
        Self { d, scales: [low, high] }
    }

    #[inline(always)]
    pub(super) fn of_unit(self, isa: I, unit: usize) -> [I::F; 2] {
        let (scales, first) = (self.scales[unit / 4], unit % 4 * 2);
        [odd_scale(isa, self.d, scales, first, 0.125), odd_scale(isa, self.d, scales, first + 1, 0.125)]
    }
}

/// Nibbles 0..8 of a word, from those of eight words at bit 28.
#[inline(always)]
pub(super) fn top_nibbles<I: Isa>(isa: I, words: [I::N; 8]) -> I::N {
    let mut nibbles = isa.splat_int(0);
    for (unit, word) in words.into_iter().enumerate() {
        nibbles = isa.or_int(nibbles, isa.and_int(isa.shr_int(word, 28 - 4 * unit), 0xF << (4 * unit)));
    }
    nibbles
}

/// `d * (2 * scale + 1) * factor`, where the scale is nibble `n`. Exact: 11 bits times 5, times a power of two.
#[inline(always)]
pub(super) fn odd_scale<I: Isa>(isa: I, d: I::F, nibbles: I::N, n: usize, factor: f32) -> I::F {
    let twice = isa.shl_int(isa.and_int(isa.shr_int(nibbles, 4 * n), 15), 1);
    let odd = isa.to_float(isa.add_int(twice, isa.splat_int(1)));
    isa.mul(d, isa.mul(odd, isa.splat(factor)))
}
