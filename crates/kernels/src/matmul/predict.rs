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
            (product.prepare)(corrections, team, isa, x, self.x, self.weights.cols);
            self.chunks(team, isa, &|weights, out| {
                (product.rows)(&integer::Job { weights, x, out }, isa, corrections, 0..weights.rows);
            });
        } else {
            let (x, tiles) = (self.x, &mut workspace.tiles);
            tiles.prepare(team, isa, x, self.weights.cols);
            self.chunks(team, isa, &|weights, out| {
                float::Job { weights, x, out }.rows(isa, tiles, 0..weights.rows);
            });
        }
    }

    /// `product` multiplies some rows of the matrix with all of `x`, on the calling thread.
    fn chunks(self, team: &Team, isa: Supported, product: &(dyn Fn(Weights<'_>, Output<'_>) + Sync)) {
        let (n, rows) = (self.targets.len(), self.weights.rows);
        let chunks = rows.div_ceil(CHUNK);
        let mut parts = vec![LogSumPart::default(); chunks * n];
        let mut logits_of_targets = vec![0.0f32; n];
        let (shared_parts, shared_targets) = (SharedMut::new(&mut parts), SharedMut::new(&mut logits_of_targets));
        team.run_ranges(chunks, 1, &|range| {
            let mut logits = LOGITS.take();
            for chunk in range {
                let columns = chunk * CHUNK..rows.min((chunk + 1) * CHUNK);
                let len = columns.len();
                logits.resize(n * len, 0.0);
                let out = Output { out: SharedMut::new(&mut logits), rows: len, bias: None, epilogue: Epilogue::Store };
                product(self.weights.slice(columns.clone()), out);
                // SAFETY: this task alone works on this chunk.
                let parts = unsafe { shared_parts.slice(chunk * n, n) };
                isa.dispatch(Parts { logits: &logits, len, parts });
                for (i, &target) in self.targets.iter().enumerate() {
                    if columns.contains(&(target as usize)) {
                        // SAFETY: the target is in no other task's chunk.
                        let logit = unsafe { &mut shared_targets.slice(i, 1)[0] };
                        *logit = logits[i * len + target as usize - columns.start];
                    }
                }
            }
            LOGITS.set(logits);
        });
        for (i, out) in self.out.iter_mut().enumerate() {
            *out = Prediction::new(logits_of_targets[i], parts.iter().skip(i).step_by(n));
        }
    }
}
