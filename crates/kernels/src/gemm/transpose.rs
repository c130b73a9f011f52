//! Transposition of squares of 16, and of the upper half of a symmetric matrix into the lower.

use crate::isa::{Isa, Kernel, Supported};
use crate::matmul::{LANES, Lanes};
use crate::shared::SharedMut;
use crate::team::Team;
use std::ops::Range;

/// Writes the first `count` columns of a square, 16 floats each, `stride` apart and in ascending order.
///
/// # Safety
/// They can be written there.
#[inline(always)]
pub(super) unsafe fn transpose<I: Isa>(isa: I, rows: &[Lanes; LANES], out: *mut f32, stride: usize, count: usize) {
    const ROW_BYTES: usize = size_of::<Lanes>();
    for four in 0..LANES / 4 {
        let mut parts = isa.parts(isa.splat_bytes(0));
        for part in 0..I::PARTS {
            // SAFETY: 16 bytes of each row, 4 floats from `4 four` on.
            parts[part] =
                unsafe { isa.rows(rows.as_ptr().cast::<u8>().add(part * ROW_BYTES + 16 * four), I::PARTS * ROW_BYTES) };
        }
        for (i, column) in isa.transpose(parts).into_iter().enumerate() {
            let i = 4 * four + i;
            if i < count {
                // SAFETY: the caller's promise.
                unsafe { isa.store_int(out.add(i * stride).cast(), column) };
            }
        }
    }
}

/// Makes the lower half of `c`, `[n, n]`, the mirror image of the upper.
pub(super) fn mirror(team: &Team, isa: Supported, c: SharedMut<f32>, n: usize) {
    team.run_ranges(n, LANES, &|rows| isa.dispatch(Mirror { c, n, rows }));
}

/// What is left of the diagonal in some rows, the first of which is a multiple of 16.
struct Mirror<'a> {
    c: SharedMut<'a, f32>,
    n: usize,
    rows: Range<usize>,
}

impl Kernel for Mirror<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { c, n, rows } = self;
        for row in rows.step_by(LANES) {
            let len = LANES.min(n - row);
            for col in (0..=row).step_by(LANES) {
                let (mut square, mut turned) = ([Lanes::default(); LANES], [Lanes::default(); LANES]);
                for i in 0..LANES.min(n - col) {
                    // SAFETY: element (i, j) on or above the diagonal is read, and (j, i) written, by the task of row j
                    // alone, which drops one part before it takes the next.
                    square[i].0[..len].copy_from_slice(unsafe { c.slice((col + i) * n + row, len) });
                }
                // SAFETY: 16 columns into 16 vectors.
                unsafe { transpose(isa, &square, turned.as_mut_ptr().cast(), LANES, LANES) };
                for j in 0..len {
                    let below = LANES.min(row + j - col);
                    // SAFETY: as above.
                    unsafe { c.slice((row + j) * n + col, below) }.copy_from_slice(&turned[j].0[..below]);
                }
            }
        }
    }
}
