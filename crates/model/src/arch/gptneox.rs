//! GPT-NeoX: LayerNorm, fused QKV, partial rotary embedding, biases everywhere, and by default a parallel residual.
//!
//! ```text
//! parallel:    h += attention(norm1(h)) + mlp(norm2(h))
//! sequential:  h += attention(norm1(h));  h += mlp(norm2(h))
//! ```
//! Black et al., "GPT-NeoX-20B" (2022), section 2; Biderman et al., "Pythia" (2023).

use crate::backend::{Backend, Linear, Norm, Place, Tensor};
use crate::tap::Tap;
use pythia_gguf::schema::gptneox::Hparams;
use pythia_kernels::{Gelu, KvShape, KvType, Then};

/// GGUF name of the output matrix.
const OUTPUT: &str = "output.weight";

/// One transformer block.
struct Layer<B: Backend> {
    attn_norm: Norm<B>,
    attn_qkv: Linear<B>,
    attn_output: Linear<B>,
    ffn_norm: Norm<B>,
    ffn_up: Linear<B>,
    ffn_down: Linear<B>,
}

/// All weights, ready for a backend.
pub struct GptNeoX<B: Backend> {
    hparams: Hparams,
    gelu: Gelu,
    token_embd: B::Matrix,
    layers: Vec<Layer<B>>,
    output_norm: Norm<B>,
    output: B::Matrix,
}

/// Activations of a batch and the caches of all layers.
pub struct State<B: Backend> {
    hidden: B::Buffer,
    attn_in: B::Buffer,
    ffn_in: B::Buffer,
    qkv: B::Buffer,
    attended: B::Buffer,
    ffn: B::Buffer,
    caches: Vec<B::Cache>,
    rope: B::Rope,
    workspace: B::Workspace,
}

impl<B: Backend> GptNeoX<B> {
    /// Takes every tensor by its GGUF name; `find` has checked shapes and types.
    ///
    /// # Errors
    /// Whatever `find` returns.
    pub fn load<E>(
        backend: &B,
        hparams: &Hparams,
        gelu: Gelu,
        mut find: impl FnMut(&str) -> Result<Tensor, E>,
    ) -> Result<Self, E> {
        let mut matrix = |name: &str| find(name).map(|t| backend.matrix(&t));
        let token_embd = matrix("token_embd.weight")?;
        let output = matrix(OUTPUT)?;
        let mut norm = |name: &str| -> Result<Norm<B>, E> {
            let gamma = backend.vector(&find(&format!("{name}.weight"))?);
            let beta = backend.vector(&find(&format!("{name}.bias"))?);
            Ok(Norm { gamma, beta, eps: hparams.norm_eps })
        };
        let output_norm = norm("output_norm")?;
        let mut norms = Vec::with_capacity(hparams.n_layer);
        for i in 0..hparams.n_layer {
            norms.push((norm(&format!("blk.{i}.attn_norm"))?, norm(&format!("blk.{i}.ffn_norm"))?));
        }
        let mut linear = |matrix: String| -> Result<Linear<B>, E> {
            let name = format!("{matrix}.weight");
            let weight = backend.matrix(&find(&name)?);
            let bias = backend.vector(&find(&format!("{matrix}.bias"))?);
            Ok(Linear { name, weight, bias })
        };
        let mut layers = Vec::with_capacity(hparams.n_layer);
        for (i, (attn_norm, ffn_norm)) in norms.into_iter().enumerate() {
            layers.push(Layer {
                attn_norm,
                attn_qkv: linear(format!("blk.{i}.attn_qkv"))?,
                attn_output: linear(format!("blk.{i}.attn_output"))?,
                ffn_norm,
                ffn_up: linear(format!("blk.{i}.ffn_up"))?,
                ffn_down: linear(format!("blk.{i}.ffn_down"))?,
            });
        }
        Ok(Self { hparams: hparams.clone(), gelu, token_embd, layers, output_norm, output })
    }

    /// Room for `n_batch` tokens at a time, in `n_seq` sequences of up to `n_ctx` positions.
    pub fn state(&self, backend: &B, kv: KvType, n_seq: usize, n_ctx: usize, n_batch: usize) -> State<B> {
        let h = &self.hparams;
        let shape = kv_shape(h, kv, n_seq, n_ctx);
        State {
            hidden: backend.buffer(n_batch, h.n_embd),
            attn_in: backend.buffer(n_batch, h.n_embd),
            ffn_in: backend.buffer(n_batch, h.n_embd),
            qkv: backend.buffer(n_batch, 3 * h.n_embd),
            attended: backend.buffer(n_batch, h.n_embd),
            ffn: backend.buffer(n_batch, h.n_ff),
            caches: (0..h.n_layer).map(|_| backend.cache(shape)).collect(),
            rope: backend.rope(h.rope_base, h.n_rot, n_ctx),
            workspace: B::Workspace::default(),
        }
    }

    /// Runs all blocks over a batch; the state then holds the final hidden rows, normalised for the output matrix.
    /// `tap` is shown what enters each matrix, the output matrix included, though it is not used here.
    pub fn forward<T: Tap<B>>(&self, backend: &B, state: &mut State<B>, tokens: &[u32], places: &[Place], tap: &mut T) {
        let n = tokens.len();
        let mut product = |linear: &Linear<B>, x: &B::Buffer, then, out: &mut B::Buffer, work: &mut B::Workspace| {
            tap.input(backend, &linear.name, x, n);
            backend.product(linear, x, n, then, out, work);
        };
        backend.embed(&self.token_embd, tokens, &mut state.hidden);
        for (layer, cache) in self.layers.iter().zip(&mut state.caches) {
            let work = &mut state.workspace;
            backend.layer_norm(&layer.attn_norm, &state.hidden, n, &mut state.attn_in);
            if self.hparams.parallel_residual {
                backend.layer_norm(&layer.ffn_norm, &state.hidden, n, &mut state.ffn_in);
            }
            product(&layer.attn_qkv, &state.attn_in, Then::Store, &mut state.qkv, work);
            for &place in places {
                backend.append(&state.rope, place, &mut state.qkv, cache);
                backend.attend(place, &state.qkv, cache, &mut state.attended);
            }
            product(&layer.attn_output, &state.attended, Then::Add, &mut state.hidden, work);
            if !self.hparams.parallel_residual {
                backend.layer_norm(&layer.ffn_norm, &state.hidden, n, &mut state.ffn_in);
            }
            product(&layer.ffn_up, &state.ffn_in, Then::Gelu(self.gelu), &mut state.ffn, work);
            product(&layer.ffn_down, &state.ffn, Then::Add, &mut state.hidden, work);
        }
        backend.layer_norm(&self.output_norm, &state.hidden, n, &mut state.attn_in);
        tap.input(backend, OUTPUT, &state.attn_in, n);
    }

    /// Logits of rows of the last batch: `[rows.len(), n_vocab]`.
    pub fn logits(&self, backend: &B, state: &mut State<B>, rows: &[usize], out: &mut [f32]) {
        backend.logits(&self.output, &state.attn_in, rows, out, &mut state.workspace);
    }

    /// Log-likelihood of a token for each of some rows of the last batch.
    pub fn log_likelihoods(&self, backend: &B, state: &mut State<B>, rows: &[usize], targets: &[u32], out: &mut [f64]) {
        backend.log_likelihoods(&self.output, &state.attn_in, rows, targets, out, &mut state.workspace);
    }
}

/// Shape of one layer's cache.
pub fn kv_shape(h: &Hparams, ty: KvType, sequences: usize, positions: usize) -> KvShape {
    KvShape { ty, sequences, heads: h.n_head, head_dim: h.n_embd / h.n_head, positions }
}
