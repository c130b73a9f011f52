//! One block of each of several rows, in whatever way they lie.

use crate::isa::Isa;
use crate::matmul::LANES;
use pythia_tensor::blocks::Block;

/// One block of each of several rows.
#[derive(Clone, Copy)]
pub(crate) struct Column<T> {
    /// That of the first row; where rows are interleaved, the first of the 16 blocks' bytes.
    first: *const T,
    placement: Placement,
}

/// How the blocks lie. A constant wherever columns are made, so that no kernel looks at it.
#[derive(Clone, Copy)]
enum Placement {
    /// So many bytes from row to row.
    Rows(usize),
    /// One row, whose units fill vectors that else have halves of two rows.
    OneRow,
    /// As [`interleave`](crate::interleave) puts 16 rows.
    Interleaved,
}

#[allow(clippy::missing_safety_doc)] // as for `Format`; what is read must lie within the blocks
impl<T: Block> Column<T> {
    pub(crate) fn new(first: *const T, stride: usize) -> Self {
        Self { first, placement: Placement::Rows(stride) }
    }

    /// A block of one row, for ISAs whose vectors hold a unit: `codes` of a format with `RUNS` then gives all 32 codes,
    /// twice.
    #[inline(always)]
    pub(crate) fn of_row(block: *const T) -> Self {
        Self { first: block, placement: Placement::OneRow }
    }

    /// 16 blocks that are interleaved. `codes` then gives, for part p, vector p of the words of all rows: see
    /// [`Operations::as_words`](crate::isa::Operations::as_words).
    #[inline(always)]
    pub(crate) fn interleaved(first: *const T) -> Self {
        Self { first, placement: Placement::Interleaved }
    }

    /// Of 16 rows, those that make part `part` of their vectors.
    #[inline(always)]
    pub(crate) fn part<I: Isa>(self, part: usize) -> Self {
        match self.placement {
            Placement::Rows(stride) => Self::new(self.first.wrapping_byte_add(part * stride), I::PARTS * stride),
            Placement::OneRow => self,
            Placement::Interleaved => Self { first: self.first.wrapping_byte_add(part * size_of::<I::B>()), ..self },
        }
    }

    #[inline(always)]
    fn at(self, offset: usize) -> *const u8 {
        let offset = if matches!(self.placement, Placement::Interleaved) { LANES * offset } else { offset };
        self.first.cast::<u8>().wrapping_add(offset)
    }

    /// 16 bytes from `offset` on, of the rows of a part.
    #[inline(always)]
    pub(super) unsafe fn bytes<I: Isa>(self, isa: I, offset: usize) -> I::B {
        let at = self.at(offset);
        // SAFETY: the caller's promise.
        unsafe { if let Placement::Rows(stride) = self.placement { isa.rows(at, stride) } else { isa.load_bytes(at) } }
    }

    /// 32 bytes from `offset` on, of the rows of a part: the first 16, then the last. Of one row, twice all of them.
    #[inline(always)]
    pub(super) unsafe fn bytes_32<I: Isa>(self, isa: I, offset: usize) -> [I::B; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let first = self.bytes(isa, offset);
            [first, if matches!(self.placement, Placement::OneRow) { first } else { self.bytes(isa, offset + 16) }]
        }
    }

    /// The bits of 4 bytes from `offset` on, of the rows of a part, as [`Isa::fifth_bits`] gives them. Not of rows that are
    /// interleaved.
    #[inline(always)]
    pub(super) unsafe fn fifth_bits<I: Isa>(self, isa: I, offset: usize) -> [I::B; 2] {
        let Placement::Rows(stride) = self.placement else { unreachable!("bits of whole rows") };
        // SAFETY: the caller's promise.
        unsafe { isa.fifth_bits(self.at(offset), stride) }
    }

    /// The f16 at `offset`, of 16 rows.
    #[inline(always)]
    pub(super) unsafe fn f16<I: Isa>(self, isa: I, offset: usize) -> I::F {
        // SAFETY: the caller's promise.
        unsafe {
            match self.placement {
                Placement::Rows(stride) => isa.gather_f16(self.at(offset), stride),
                Placement::Interleaved => isa.load_f16(self.at(offset)),
                Placement::OneRow => unreachable!("scales of 16 rows"),
            }
        }
    }

    /// 16 bytes from `offset` on as four words, of 16 rows.
    #[inline(always)]
    pub(super) unsafe fn words<I: Isa>(self, isa: I, offset: usize) -> [I::N; 4] {
        let at = self.at(offset);
        // SAFETY: the caller's promise; where rows are interleaved, words of 16 rows follow each other.
        unsafe {
            match self.placement {
                Placement::Rows(stride) => isa.words(at, stride),
                Placement::Interleaved => {
                    let at = at.cast::<u32>();
                    [
                        isa.load_int(at),
                        isa.load_int(at.add(LANES)),
                        isa.load_int(at.add(2 * LANES)),
                        isa.load_int(at.add(3 * LANES)),
                    ]
                }
                Placement::OneRow => unreachable!("words of 16 rows"),
            }
        }
    }
}
