//! What rows predict through the output matrix, without the logits in memory.
//!
//! A task multiplies a chunk of the vocabulary with all rows of `x` and keeps of each row of logits its part of the
//! log-sum-exp, the first of the largest, and the target's logit. So weights are decoded once however many rows there
//! are, and the logits of a chunk never leave the core's cache.

use super::{Activations, Epilogue, Output, Weights, Workspace, float, integer};
use crate::isa::Supported;
use crate::shared::SharedMut;
use crate::softmax::{CHUNK, LogSumPart, Parts, Prediction};
use crate::team::Team;
use std::cell::Cell;
use std::ops::Range;

/// The [`Prediction`] of every row of `W x`: what [`super::Matmul`] and [`crate::Cpu::log_sum_exp`] give, bit for bit.
#[derive(Debug)]
pub struct Predict<'a> {
    /// The output matrix.
    pub weights: Weights<'a>,
    /// Input: `[n, cols]`.
    pub x: &'a [f32],
    /// A row of the matrix for each row of `x`: `[n]`.
    pub targets: &'a [u32],
    /// How activations enter.
    pub activations: Activations,
    /// Output: `[n]`.
    pub out: &'a mut [Prediction],
}

thread_local! {
    /// Logits of a chunk: `[n, CHUNK]`.
    static LOGITS: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

impl Predict<'_> {
    pub(crate) fn run(self, team: &Team, isa: Supported, workspace: &mut Workspace) {
        let n = self.weights.check(self.x);
        assert!(self.targets.len() == n && self.out.len() == n, "a target and a result for each row of x");
        assert!(self.targets.iter().all(|&t| (t as usize) < self.weights.rows), "targets are rows of the matrix");
        if n == 0 {
            return;
        }
        if let Some(product) = self.weights.integer_product(self.activations) {
            let (x, corrections) = (&mut workspace.rows, &mut workspace.corrections);
            product.prepare(corrections, team, isa, x, self.x, self.weights.cols);
            self.chunks(team, isa, &|weights, out, rows| {
                (product.rows)(&integer::Job { weights, x, out }, isa, corrections, rows);
            });
        } else {
            let (x, tiles) = (self.x, &mut workspace.tiles);
            tiles.prepare(team, isa, x, self.weights.cols);
            self.chunks(team, isa, &|weights, out, rows| {
                float::Job { weights, x, out }.rows(isa, tiles, rows);
            });
        }
    }

    fn chunks(self, team: &Team, isa: Supported, product: &Rows<'_>) {
        let (n, rows) = (self.targets.len(), self.weights.rows);
        let chunks = rows.div_ceil(CHUNK);
        let mut parts = vec![LogSumPart::default(); chunks * n];
        let mut logits_of_targets = vec![0.0f32; n];
        let (shared_parts, shared_targets) = (SharedMut::new(&mut parts), SharedMut::new(&mut logits_of_targets));
        let columns = |chunk: usize| chunk * CHUNK..rows.min((chunk + 1) * CHUNK);
        // Rows of logits of a chunk, from row `first` of x on.
        let keep = |chunk: usize, first: usize, logits: &[f32]| {
            let columns = columns(chunk);
            let (n_rows, len) = (logits.len() / columns.len(), columns.len());
            // SAFETY: no other task has these rows of this chunk.
            let parts = unsafe { shared_parts.slice(chunk * n + first, n_rows) };
            isa.dispatch(Parts { logits, len, parts });
            for (i, logits) in (first..).zip(logits.chunks_exact(len)) {
                let target = self.targets[i] as usize;
                if columns.contains(&target) {
                    // SAFETY: the target is in no other task's chunk or rows.
                    unsafe { shared_targets.slice(i, 1)[0] = logits[target - columns.start] };
                }
            }
        };
        let whole = taken_whole(chunks, team.threads());
        team.run_ranges(whole, 1, &|range| {
            let mut logits = LOGITS.take();
            for chunk in range {
                let columns = columns(chunk);
                let len = columns.len();
                logits.resize(n * len, 0.0);
                product(self.weights.slice(columns), output(SharedMut::new(&mut logits), len), 0..len);
                keep(chunk, 0, &logits);
            }
            LOGITS.set(logits);
        });
        if whole < chunks {
            let mut logits = vec![0.0f32; n * (rows - whole * CHUNK)];
            let shared: Vec<SharedMut<'_, f32>> = logits.chunks_mut(n * CHUNK).map(SharedMut::new).collect();
            team.run_ranges(rows - whole * CHUNK, PIECE, &|range| {
                for first in range.clone().step_by(PIECE) {
                    let (at, from) = (first / CHUNK, first % CHUNK);
                    let columns = columns(whole + at);
                    let (len, to) = (columns.len(), from + PIECE.min(range.end - first));
                    product(self.weights.slice(columns), output(shared[at], len), from..to);
                }
            });
            team.run_ranges(n * (chunks - whole), 1, &|range| {
                for (at, row) in range.map(|item| (item / n, item % n)) {
                    let len = columns(whole + at).len();
                    // SAFETY: nobody writes logits any more.
                    keep(whole + at, row, unsafe { shared[at].read(row * len, len) });
                }
            });
        }
        for (i, out) in self.out.iter_mut().enumerate() {
            *out = Prediction::new(logits_of_targets[i], parts.iter().skip(i).step_by(n));
        }
    }
}

/// Logits of a chunk of `rows` as they are.
fn output(out: SharedMut<'_, f32>, rows: usize) -> Output<'_> {
    Output { out, rows, bias: None, epilogue: Epilogue::Store }
}

/// Multiplies some rows of weights with all of `x`, on the calling thread.
type Rows<'a> = dyn Fn(Weights<'_>, Output<'_>, Range<usize>) + Sync + 'a;

/// Rows of the matrix in a task, where all threads share a chunk: whole panels.
const PIECE: usize = 64;
const _: () = assert!(CHUNK.is_multiple_of(PIECE));

/// How many chunks are taken whole. If more than a tenth of the threads' time would pass while some have none left, what
/// does not divide evenly is multiplied by all threads together, with its logits in memory.
fn taken_whole(chunks: usize, threads: usize) -> usize {
    let slots = chunks.div_ceil(threads) * threads;
    if 10 * chunks < 9 * slots { chunks / threads * threads } else { chunks }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_threads_take_all_chunks_of_pythia_whole() {
        let whole = [1, 2, 3, 4, 8, 16].map(|threads| taken_whole(50, threads));
        assert_eq!(whole, [50, 50, 50, 50, 48, 48]);
        assert_eq!([2, 8].map(|threads| taken_whole(4, threads)), [4, 0]);
    }
}
