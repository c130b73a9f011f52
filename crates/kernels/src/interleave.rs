//! Sixteen rows of quantized weights, word by word side by side.
//!
//! In a file a row follows the row before it. Kernels work on 16 rows at once, so they read 16 places of memory, gather
//! scales from them one by one, and move words or sums between lanes. In a copy of the program's own, the 16 rows can
//! lie as the kernels want them. Then everything is loaded as it is, from one stream, and lane = row throughout.
//!
//! Byte `o` of block `b` of a group of 16 rows goes to `16 * (b * block bytes + o)`: there, word by word, lie the words of
//! all 16 rows, or the 16 halves of an f16 that no word holds. So a group takes the place that its rows had.

use crate::dot::Format;
use crate::matmul::LANES;

/// A word of each of 16 rows.
const WORDS_BYTES: usize = LANES * 4;

/// How rows of weights lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// One after another, as in a file.
    #[default]
    Rows,
    /// Sixteen at a time, word by word side by side.
    Interleaved,
}

/// What a format's blocks are cut into.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interleaving {
    block_bytes: usize,
    /// Where the f16 lies that no word holds.
    lone_half: Option<usize>,
}

impl Interleaving {
    /// That of a format, if its rows can be interleaved.
    pub(crate) const fn of<T: Format>() -> Option<Self> {
        if !T::INTERLEAVES {
            return None;
        }
        let (block_bytes, lone_half) = (size_of::<T>(), T::LONE_HALF);
        let (before, after) = match lone_half {
            Some(at) => (at, block_bytes - at - 2),
            None => (block_bytes, 0),
        };
        assert!(before.is_multiple_of(4) && after.is_multiple_of(4), "whole words");
        Some(Self { block_bytes, lone_half })
    }

    /// Calls `copy` with the offset of every piece of a block, in bytes, and whether it is a half.
    #[inline(always)]
    fn pieces(self, mut copy: impl FnMut(usize, bool)) {
        let half = self.lone_half.unwrap_or(self.block_bytes);
        (0..half).step_by(4).for_each(|at| copy(at, false));
        if half < self.block_bytes {
            copy(half, true);
        }
        (half + 2..self.block_bytes).step_by(4).for_each(|at| copy(at, false));
    }

    /// Interleaves 16 rows where they lie. `rows` becomes what they were.
    pub(crate) fn interleave(self, group: &mut [u8], rows: &mut Vec<u8>) {
        rows.clear();
        rows.extend_from_slice(group);
        let row_bytes = rows.len() / LANES;
        for (block, out) in group.chunks_exact_mut(LANES * self.block_bytes).enumerate() {
            let first = block * self.block_bytes;
            self.pieces(|at, is_half| {
                let from = |row: usize| &rows[row * row_bytes + first + at..];
                let out = &mut out[LANES * at..];
                if is_half {
                    let halves = out[..LANES * 2].as_chunks_mut::<2>().0;
                    (0..LANES).for_each(|row| halves[row].copy_from_slice(&from(row)[..2]));
                } else {
                    let words = out[..WORDS_BYTES].as_chunks_mut::<4>().0;
                    (0..LANES).for_each(|row| words[row].copy_from_slice(&from(row)[..4]));
                }
            });
        }
    }

    /// One row of 16 that are interleaved, as it was.
    pub(crate) fn row(self, group: &[u8], row: usize, out: &mut [u8]) {
        for (group, out) in group.chunks_exact(LANES * self.block_bytes).zip(out.chunks_exact_mut(self.block_bytes)) {
            self.pieces(|at, is_half| {
                let bytes = if is_half { 2 } else { 4 };
                out[at..][..bytes].copy_from_slice(&group[LANES * at + row * bytes..][..bytes]);
            });
        }
    }
}
