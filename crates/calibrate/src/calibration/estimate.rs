//! What a calibration takes, counted before it begins.

use super::format::{blocks, matrices};
use crate::network::{LOGITS_BYTES, Workspace};
use pythia_schema::{Hparams, Kind, TensorId, TensorSpec};

/// Bytes of activations that a group of windows may take. Longer groups would read and decode the weights less often,
/// but already at 2048 tokens that is a small part of the products' time.
const GROUP_BYTES: u64 = 1 << 30;
/// Tokens of a group at most: more gain nothing.
const GROUP_TOKENS: u64 = 8192;

/// Memory of a calibration, in bytes, and the windows that it takes at a time. With windows of 512 tokens and without
/// moments of inputs, it is 3.0 GB for Pythia 1.4b and 6.3 GB for 6.9b. The moments would be 7.7 GB and 41 GB more,
/// nearly all of it for the inputs of `ffn_down`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Windows of a group. They are computed together; no result depends on their number.
    pub group: usize,
    /// Sums of g gT and x xT.
    pub sums: u64,
    /// Activations and gradients of a group, and some logits.
    pub activations: u64,
    /// Weights in f32: those of a block or of the head, the larger.
    pub weights: u64,
    /// Size of the file.
    pub file: u64,
}

impl Estimate {
    /// For a model of these sizes and windows of `n_ctx` tokens; `inputs` asks for moments of inputs.
    pub fn new(h: &Hparams, n_ctx: usize, windows: usize, inputs: bool) -> Self {
        const F32: u64 = size_of::<f32>() as u64;
        let square = |n: usize| n as u64 * n as u64;
        let metric = |rows: usize| blocks(rows).map(|block| square(block.len())).sum::<u64>();
        let (mut kept, mut written) = (square(h.n_embd), square(h.n_embd));
        let shared = |id: TensorId| h.parallel_residual && id.kind == Kind::FfnDown;
        for id in matrices(h.n_layer) {
            let shape = TensorSpec::new(id, h).shape;
            let metric = if id.layer.is_some() { metric(shape[0]) } else { 0 };
            let moment = if inputs { square(shape[1]) } else { 0 };
            written += metric + moment;
            kept += moment + if shared(id) { 0 } else { metric };
        }
        // The inputs of all layers, the hidden rows, their gradient, what enters the head; then within a layer, forward
        // and backward.
        let forward = 3 * h.n_embd + h.n_ff.max(3 * h.n_embd);
        let per_token = h.n_embd * (h.n_layer + 3) + forward + Workspace::width(h.n_embd, h.n_ff);
        let window = (per_token as u64 * n_ctx as u64 * F32).max(1);
        let largest = (GROUP_BYTES / window).min(GROUP_TOKENS / n_ctx as u64).max(1);
        let group = windows.min(largest as usize).max(1);
        let block = 4 * square(h.n_embd) + 2 * h.n_embd as u64 * h.n_ff as u64;
        let head = h.n_vocab as u64 * h.n_embd as u64;
        Self {
            group,
            sums: kept * F32,
            activations: window * group as u64 + LOGITS_BYTES as u64,
            weights: block.max(head) * F32,
            // Triangles.
            file: written * F32 / 2,
        }
    }

    /// Memory in all.
    pub fn memory(&self) -> u64 {
        self.sums + self.activations + self.weights
    }
}
