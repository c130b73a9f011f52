//! Dimensions for tests that run no model.

use pythia_schema::Hparams;

/// Of a small model, with the parallel residual of Pythia.
pub(crate) fn hparams(n_layer: usize, n_head: usize) -> Hparams {
    Hparams {
        n_layer,
        n_embd: 32,
        n_head,
        n_ff: 64,
        n_vocab: 64,
        n_ctx: 16,
        n_rot: 4,
        rope_base: 10000.0,
        rope_factor: 1.0,
        norm_eps: 1e-5,
        parallel_residual: true,
        gelu_tanh: false,
    }
}
