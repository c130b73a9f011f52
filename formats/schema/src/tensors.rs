//! The tensors of a model of given hyperparameters.
//!
//! The converter writes by this list and the model loads by it.

use crate::{Hparams, Kind, TensorId};

/// What happens to a tensor between a Hugging Face checkpoint and a GGUF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    /// Nothing.
    None,
    /// Rows grouped by head, each head's q, k and v together, become all of q, then all of k, then all of v; heads
    /// keep their order. Row `h * 3 * head_dim + part * head_dim + i` moves to `part * n_embd + h * head_dim + i`.
    RegroupQkv,
}

/// One tensor of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Which tensor it is.
    pub id: TensorId,
    /// Its name in GGUF files.
    pub gguf: String,
    /// Its names in Hugging Face checkpoints, the usual one first.
    pub hf: Vec<String>,
    /// Its shape, `[rows, cols]` or `[n]`, the same in both.
    pub shape: Vec<usize>,
    /// How the bytes differ between the two.
    pub transform: Transform,
}

impl TensorSpec {
    /// A tensor of a model of these hyperparameters.
    pub fn new(id: TensorId, h: &Hparams) -> Self {
        let (rows, cols) = match id.kind {
            Kind::TokenEmbd | Kind::Output => (h.n_vocab, h.n_embd),
            Kind::AttnQkv => (3 * h.n_embd, h.n_embd),
            Kind::AttnOutput => (h.n_embd, h.n_embd),
            Kind::FfnUp => (h.n_ff, h.n_embd),
            Kind::FfnDown => (h.n_embd, h.n_ff),
            Kind::AttnNorm | Kind::FfnNorm | Kind::OutputNorm => (h.n_embd, 1),
        };
        Self {
            id,
            gguf: id.gguf(),
            hf: id.hf(),
            shape: if id.is_matrix() { vec![rows, cols] } else { vec![rows] },
            transform: if id.kind == Kind::AttnQkv { Transform::RegroupQkv } else { Transform::None },
        }
    }

    /// Its shape in GGUF order: the row length first.
    pub fn dims(&self) -> Vec<u64> {
        self.shape.iter().rev().map(|&n| n as u64).collect()
    }

    /// Number of elements.
    pub fn n_elems(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Every tensor of a model of these hyperparameters: embeddings, blocks, final norm, output head.
pub fn tensors(h: &Hparams) -> Vec<TensorSpec> {
    TensorId::all(h.n_layer).map(|id| TensorSpec::new(id, h)).collect()
}

/// Parameters in all, and without the two vocabulary matrices: the two figures of the Pythia model card.
///
/// A GGUF file always has both matrices, so a tied checkpoint counts its one matrix twice.
pub fn parameter_counts(h: &Hparams) -> (u64, u64) {
    tensors(h).iter().fold((0, 0), |(total, inner), spec| {
        let n = spec.n_elems() as u64;
        (total + n, if spec.id.kind.is_vocab() { inner } else { inner + n })
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn tiny() -> Hparams {
        Hparams {
            n_layer: 2,
            n_embd: 64,
            n_head: 4,
            n_ff: 96,
            n_vocab: 40,
            n_ctx: 32,
            n_rot: 4,
            rope_base: 10000.0,
            rope_factor: 1.0,
            norm_eps: 1e-5,
            parallel_residual: true,
            gelu_tanh: false,
        }
    }
}
