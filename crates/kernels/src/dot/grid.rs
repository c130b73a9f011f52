//! What the grid formats share: numbers of entries and signs as bytes of a row, and 4-bit scales.

use super::{Column, for_each_part};
use crate::isa::Isa;
use pythia_tensor::blocks::Block;

/// A format whose codes are entries of a codebook. Its units come in pairs.
pub(super) trait Grid: Block {
    /// Vectors of 8 numbers that a pair of units has: 1 or 2.
    const VECTORS: usize;

    /// The numbers of the entries, u16, and the signs, of the rows of a part.
    ///
    /// # Safety
    /// As for [`Format::codes`](super::Format::codes).
    unsafe fn read<I: Isa>(isa: I, part: Column<Self>, pair: usize) -> ([I::B; 2], I::B);

    /// The entries with those numbers, as [`Isa::find`] gives them.
    ///
    /// # Safety
    /// The numbers come from `read`.
    unsafe fn find<I: Isa>(isa: I, numbers: I::Parts<I::B>) -> I::Parts<I::B>;

    /// The codes of a unit: from all entries and signs of the pair.
    ///
    /// # Safety
    /// The entries come from `find`.
    unsafe fn codes<I: Isa>(isa: I, found: [I::B; 2], signs: I::B, unit: usize) -> [I::B; 2];
}

/// Entries and signs of two units of 16 rows.
#[derive(Clone, Copy)]
pub(crate) struct Pair<I: Isa> {
    found: [I::Parts<I::B>; 2],
    signs: I::Parts<I::B>,
}

impl<I: Isa> Pair<I> {
    /// Nothing yet.
    #[inline(always)]
    pub(crate) fn empty(isa: I) -> Self {
        let none = isa.parts(isa.splat_bytes(0));
        Self { found: [none; 2], signs: none }
    }

    /// Step by step for all parts, so that one step's latency in one part passes during that step in the others.
    ///
    /// # Safety
    /// There are readable blocks in 16 rows.
    #[inline(always)]
    pub(super) unsafe fn read<T: Grid>(isa: I, rows: Column<T>, number: usize) -> Self {
        let mut pair = Self::empty(isa);
        for_each_part!(I, part => {
            // SAFETY: the caller's promise.
            let (numbers, signs) = unsafe { T::read(isa, rows.part::<I>(part), number) };
            [pair.found[0][part], pair.found[1][part]] = numbers;
            pair.signs[part] = signs;
        });
        for i in 0..T::VECTORS {
            // SAFETY: as it says.
            pair.found[i] = unsafe { T::find(isa, pair.found[i]) };
        }
        pair
    }

    /// # Safety
    /// The pair was read for the same format.
    #[inline(always)]
    pub(super) unsafe fn codes<T: Grid>(&self, isa: I, part: usize, unit: usize) -> [I::B; 2] {
        // SAFETY: the caller's promise: `T::find` found them.
        unsafe { T::codes(isa, [self.found[0][part], self.found[1][part]], self.signs[part], unit) }
    }
}

/// Codes of a unit, of the rows of one part.
///
/// # Safety
/// As for [`Format::codes`](super::Format::codes).
#[inline(always)]
pub(super) unsafe fn codes<I: Isa, T: Grid>(isa: I, part: Column<T>, unit: usize) -> [I::B; 2] {
    // SAFETY: the caller's promise; each step has what the one before gives.
    unsafe {
        let (numbers, signs) = T::read(isa, part, unit / 2);
        // The same for all parts: the optimizer drops what is not used.
        let found = T::find(isa, isa.parts(numbers[unit % 2 % T::VECTORS]))[0];
        T::codes(isa, [found; 2], signs, unit)
    }
}

/// The functions of `Format` that hand over to `Grid`.
macro_rules! paired_codes {
    () => {
        const PAIRED: bool = true;

        #[inline(always)]
        unsafe fn codes<I: Isa>(isa: I, part: Column<Self>, unit: usize) -> [I::B; 2] {
            // SAFETY: the caller has readable blocks.
            unsafe { grid::codes(isa, part, unit) }
        }

        #[inline(always)]
        unsafe fn pair<I: Isa>(isa: I, rows: Column<Self>, pair: usize) -> Pair<I> {
            // SAFETY: the caller has readable blocks.
            unsafe { Pair::read(isa, rows, pair) }
        }

        #[inline(always)]
        unsafe fn of_pair<I: Isa>(isa: I, pair: &Pair<I>, part: usize, unit: usize) -> [I::B; 2] {
            // SAFETY: the caller has it from `pair`.
            unsafe { pair.codes::<Self>(isa, part, unit) }
        }
    };
}
pub(super) use paired_codes;

/// Bytes chosen and ordered by a table, per row; see [`Isa::lookup`].
pub(super) type Order = [u8; 16];

/// No byte: 0.
pub(super) const NONE: u8 = 128;

/// The first eight bytes, or the last, as u16: as their low bytes, then as their high bytes.
pub(super) static LOW: [Order; 2] = eight_of(0);
pub(super) static HIGH: [Order; 2] = eight_of(1);

const fn eight_of(at: usize) -> [Order; 2] {
    let mut orders = [[NONE; 16]; 2];
    let mut i = 0;
    while i < 16 {
        orders[i / 8][i % 8 * 2 + at] = i as u8;
        i += 1;
    }
    orders
}

/// Byte `first` eight times, then byte `last`.
pub(super) const fn eightfold(first: u8, last: u8) -> Order {
    let mut order = [first; 16];
    let mut i = 8;
    while i < 16 {
        order[i] = last;
        i += 1;
    }
    order
}

/// Of signs that fill all bytes, four to a unit: those of four units in turn, of the first 16 elements and of the last.
pub(super) static SIGNS_OF_FOUR: [[Order; 2]; 4] = {
    let mut orders = [[[0; 16]; 2]; 4];
    let mut unit = 0;
    while unit < 4 {
        let at = 4 * unit as u8;
        orders[unit] = [eightfold(at, at + 1), eightfold(at + 2, at + 3)];
        unit += 1;
    }
    orders
};

/// The bytes of each row in another order.
#[inline(always)]
pub(super) fn ordered<I: Isa>(isa: I, bytes: I::B, order: &Order) -> I::B {
    // SAFETY: 16 bytes.
    isa.lookup(bytes, unsafe { isa.repeated(order.as_ptr()) })
}

/// The bits of `mask` in each row.
#[inline(always)]
pub(super) fn masked<I: Isa>(isa: I, bytes: I::B, mask: &[u8; 16]) -> I::B {
    // SAFETY: 16 bytes.
    isa.and_each(bytes, unsafe { isa.repeated(mask.as_ptr()) })
}

/// Codes of a unit: its magnitudes with the signs that `orders` finds.
#[inline(always)]
pub(super) fn signed<I: Isa>(isa: I, magnitudes: [I::B; 2], signs: I::B, orders: &[Order; 2]) -> [I::B; 2] {
    let [first, last] = magnitudes;
    [isa.negate(first, ordered(isa, signs, &orders[0])), isa.negate(last, ordered(isa, signs, &orders[1]))]
}

/// Each four times 7 bits of a word as the lower bits of its bytes; the word's top 4 bits go.
#[inline(always)]
pub(super) fn sevens<I: Isa>(isa: I, words: I::B) -> I::B {
    static SEVEN_OF: [[u8; 16]; 4] = {
        let mut masks = [[0; 16]; 4];
        let mut i = 0;
        while i < 16 {
            masks[i % 4][i] = 127;
            i += 1;
        }
        masks
    };
    let mut sevens = masked(isa, words, &SEVEN_OF[0]);
    for byte in 1..4 {
        sevens = isa.or(sevens, masked(isa, isa.shl_words(words, byte), &SEVEN_OF[byte]));
    }
    sevens
}

/// Signs of 8 elements from the 7 in the lower bits of every byte: the last makes the number of minuses even.
#[inline(always)]
pub(super) fn even_signs<I: Isa>(isa: I, sevens: I::B) -> I::B {
    /// The lower four, and the three above, with the parity of either on top.
    static LOW: [u8; 16] = with_parity(0);
    static HIGH: [u8; 16] = with_parity(4);
    const fn with_parity(shift: u32) -> [u8; 16] {
        let mut bits = [0; 16];
        let mut i = 0;
        while i < 16 {
            let parity = (i as u8).count_ones() % 2;
            bits[i] = (i as u8) << shift & 127 | (parity << 7) as u8;
            i += 1;
        }
        bits
    }
    // SAFETY: 16 bytes each.
    let (low, high) = unsafe { (isa.repeated(LOW.as_ptr()), isa.repeated(HIGH.as_ptr())) };
    isa.xor(isa.lookup(low, isa.and(sevens, 15)), isa.lookup(high, isa.shr(sevens, 4)))
}

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
