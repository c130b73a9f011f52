//! Products with f32 activations: float weights, or quantized ones decoded first.
//!
//! Order: lane l of a 16-lane accumulator takes elements l, l + 16, ... by fused multiply-add; the lanes are then
//! added by the fixed tree of `Isa::sum`.

use super::{LANES, Output, Weights};
use crate::isa::{Isa, Kernel, Level};
use crate::team::Team;
use pythia_tensor::TensorType;
use std::cell::Cell;
use std::ops::Range;

/// A product with checked shapes.
pub(super) struct Job<'a> {
    pub(super) weights: Weights<'a>,
    pub(super) x: &'a [f32],
    pub(super) out: Output<'a>,
}

impl Job<'_> {
    pub(super) fn run(self, team: &Team, level: Level) {
        team.run_ranges(self.weights.rows, LANES, &|range| self.rows(level, range));
    }

    /// Some rows of `W`, on the calling thread.
    pub(super) fn rows(&self, level: Level, range: Range<usize>) {
        level.dispatch(Rows { job: self, range });
    }
}

struct Rows<'a> {
    job: &'a Job<'a>,
    range: Range<usize>,
}

thread_local! {
    /// Decoded rows and results; taken and put back, as in the integer product.
    static BUFFERS: Cell<(Vec<f32>, Vec<[f32; LANES]>)> = const { Cell::new((Vec::new(), Vec::new())) };
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let w = &self.job.weights;
        let n = self.job.x.len() / w.cols;
        let (mut decoded, mut results) = BUFFERS.take();
        let at_once = I::FLOAT_TILE.0;
        decoded.resize(at_once * w.cols, 0.0);
        results.resize(n, [0.0; LANES]);
        for first in self.range.clone().step_by(LANES) {
            let rows = LANES.min(w.rows - first);
            for r in (0..rows).step_by(at_once) {
                let count = at_once.min(rows - r);
                for i in 0..count {
                    decode(isa, w, first + r + i, &mut decoded[i * w.cols..][..w.cols]);
                }
                match count {
                    4 if at_once >= 4 => dots::<I, 4>(isa, &decoded, self.job.x, r, &mut results),
                    3 if at_once >= 3 => dots::<I, 3>(isa, &decoded, self.job.x, r, &mut results),
                    2 => dots::<I, 2>(isa, &decoded, self.job.x, r, &mut results),
                    _ => dots::<I, 1>(isa, &decoded, self.job.x, r, &mut results),
                }
            }
            for (t, result) in results.iter().enumerate() {
                // SAFETY: 16 floats; this task alone works on these columns.
                unsafe { self.job.out.finish(isa, t, first, isa.load(result.as_ptr())) };
            }
        }
        BUFFERS.set((decoded, results));
    }
}

/// Row `row` of the weights as f32.
#[inline(always)]
fn decode<I: Isa>(isa: I, w: &Weights<'_>, row: usize, out: &mut [f32]) {
    let row_bytes = w.data.len() / w.rows;
    let bytes = &w.data[row * row_bytes..][..row_bytes];
    let groups = out.as_chunks_mut::<LANES>().0.iter_mut().enumerate();
    match w.ty {
        TensorType::F32 => {
            for (i, out) in groups {
                // SAFETY: element 16 i and the 15 after it are within the row.
                unsafe { isa.store(out.as_mut_ptr(), isa.load(bytes.as_ptr().add(64 * i).cast())) };
            }
        }
        TensorType::F16 => {
            for (i, out) in groups {
                // SAFETY: as above.
                unsafe { isa.store(out.as_mut_ptr(), isa.load_f16(bytes.as_ptr().add(32 * i))) };
            }
        }
        TensorType::BF16 => {
            for (i, out) in groups {
                // SAFETY: as above.
                unsafe { isa.store(out.as_mut_ptr(), isa.load_bf16(bytes.as_ptr().add(32 * i))) };
            }
        }
        quantized => quantized.decode(bytes, out),
    }
}

/// `R` decoded rows times every row of `x`, into lanes `lane..lane + R` of the results.
#[inline(always)]
fn dots<I: Isa, const R: usize>(isa: I, decoded: &[f32], x: &[f32], lane: usize, results: &mut [[f32; LANES]]) {
    let cols = x.len() / results.len();
    let mut t = 0;
    while I::FLOAT_TILE.1 >= 4 && t + 4 <= results.len() {
        tile::<I, R, 4>(isa, decoded, &x[t * cols..], cols, lane, &mut results[t..]);
        t += 4;
    }
    while t + 2 <= results.len() {
        tile::<I, R, 2>(isa, decoded, &x[t * cols..], cols, lane, &mut results[t..]);
        t += 2;
    }
    if t < results.len() {
        tile::<I, R, 1>(isa, decoded, &x[t * cols..], cols, lane, &mut results[t..]);
    }
}

#[inline(always)]
fn tile<I: Isa, const R: usize, const T: usize>(
    isa: I,
    decoded: &[f32],
    x: &[f32],
    cols: usize,
    lane: usize,
    results: &mut [[f32; LANES]],
) {
    assert!(decoded.len() >= R * cols && x.len() >= T * cols && results.len() >= T && cols.is_multiple_of(LANES));
    let mut acc = [[isa.splat(0.0); T]; R];
    for k in (0..cols).step_by(LANES) {
        let mut a = [isa.splat(0.0); T];
        for (t, a) in a.iter_mut().enumerate() {
            // SAFETY: k + 16 <= cols, and `x` has T rows.
            *a = unsafe { isa.load(x.as_ptr().add(t * cols + k)) };
        }
        for (r, acc) in acc.iter_mut().enumerate() {
            // SAFETY: as above, R rows.
            let w = unsafe { isa.load(decoded.as_ptr().add(r * cols + k)) };
            for t in 0..T {
                acc[t] = isa.fma(w, a[t], acc[t]);
            }
        }
    }
    for (r, acc) in acc.iter().enumerate() {
        for t in 0..T {
            results[t][lane + r] = isa.sum(acc[t]);
        }
    }
}
