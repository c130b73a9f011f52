//! GPT-NeoX: LayerNorm, fused QKV, partial rotary embedding, biases everywhere, and by default a parallel residual.
//!
//! ```text
//! parallel:    h += attention(norm1(h)) + mlp(norm2(h))
//! sequential:  h += attention(norm1(h));  h += mlp(norm2(h))
//! ```
//! Black et al., "GPT-NeoX-20B" (2022), section 2; Biderman et al., "Pythia" (2023).

use crate::backend::{Backend, Batch, ContextSpec, Head, Linear, Norm, Tensor};
use crate::context::ContextShape;
use crate::error::Error;
use crate::hook::Site;
use crate::tap::{Tap, Taps};
use pythia_kernels::{Cpu, Epilogue, Gelu, KvShape, KvType, Rotary};
use pythia_schema::{Hparams, Kind, TensorId};
use pythia_task::Cancel;

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
pub(crate) struct GptNeoX<B: Backend> {
    hparams: Hparams,
    gelu: Gelu,
    token_embd: B::Matrix,
    layers: Vec<Layer<B>>,
    output_norm: Norm<B>,
    output: B::Matrix,
}

/// Activations of a batch and the caches of all layers.
pub(crate) struct State<B: Backend> {
    hidden: B::Buffer,
    attn_in: B::Buffer,
    ffn_in: B::Buffer,
    qkv: B::Buffer,
    attended: B::Buffer,
    ffn: B::Buffer,
    caches: Vec<B::KvCache>,
    rope: B::Rope,
    workspace: B::Workspace,
}

/// The sizes of a context of a model of these dimensions.
pub(crate) fn spec(h: &Hparams, kv: KvType, shape: ContextShape) -> ContextSpec {
    let ContextShape { n_seq: sequences, n_ctx: positions, n_batch } = shape;
    ContextSpec {
        n_batch,
        widths: vec![h.n_embd, h.n_embd, h.n_embd, 3 * h.n_embd, h.n_embd, h.n_ff],
        n_vocab: h.n_vocab,
        n_layer: h.n_layer,
        kv: KvShape { ty: kv, sequences, heads: h.n_head, head_dim: h.head_dim(), positions },
        n_rot: h.n_rot,
    }
}

/// Makes tensors ready.
struct Loader<'a, B> {
    backend: &'a mut B,
    find: &'a dyn Fn(TensorId) -> Result<Tensor, Error>,
    /// Of every norm.
    eps: f32,
}

impl<B: Backend> Loader<'_, B> {
    fn matrix(&mut self, id: TensorId) -> Result<B::Matrix, Error> {
        self.backend.matrix(&(self.find)(id)?)
    }

    fn vector(&self, id: TensorId) -> Result<B::Vector, Error> {
        self.backend.vector(&(self.find)(id)?)
    }

    fn norm(&self, kind: Kind, layer: Option<usize>) -> Result<Norm<B>, Error> {
        let id = TensorId::weight(kind, layer);
        Ok(Norm { gamma: self.vector(id)?, beta: self.vector(id.bias())?, eps: self.eps })
    }

    fn linear(&mut self, kind: Kind, layer: usize) -> Result<Linear<B>, Error> {
        let id = TensorId::weight(kind, Some(layer));
        Ok(Linear { id, weight: self.matrix(id)?, bias: self.vector(id.bias())? })
    }

    fn layer(&mut self, layer: usize) -> Result<Layer<B>, Error> {
        Ok(Layer {
            attn_norm: self.norm(Kind::AttnNorm, Some(layer))?,
            attn_qkv: self.linear(Kind::AttnQkv, layer)?,
            attn_output: self.linear(Kind::AttnOutput, layer)?,
            ffn_norm: self.norm(Kind::FfnNorm, Some(layer))?,
            ffn_up: self.linear(Kind::FfnUp, layer)?,
            ffn_down: self.linear(Kind::FfnDown, layer)?,
        })
    }
}

impl<B: Backend> GptNeoX<B> {
    /// Takes every tensor by what it is; `find` has checked shapes and types.
    ///
    /// # Errors
    /// Whatever `find` or the backend returns.
    pub(crate) fn load(
        backend: &mut B,
        hparams: &Hparams,
        gelu: Gelu,
        find: impl Fn(TensorId) -> Result<Tensor, Error>,
    ) -> Result<Self, Error> {
        let mut loader = Loader { backend, find: &find, eps: hparams.norm_eps };
        Ok(Self {
            hparams: hparams.clone(),
            gelu,
            token_embd: loader.matrix(TensorId::weight(Kind::TokenEmbd, None))?,
            layers: (0..hparams.n_layer).map(|index| loader.layer(index)).collect::<Result<_, _>>()?,
            output_norm: loader.norm(Kind::OutputNorm, None)?,
            output: loader.matrix(TensorId::weight(Kind::Output, None))?,
        })
    }

    /// The sizes of such a context.
    pub(crate) fn spec(&self, kv: KvType, shape: ContextShape) -> ContextSpec {
        spec(&self.hparams, kv, shape)
    }

    /// Allocates such a context's state.
    ///
    /// # Errors
    /// If the backend has not enough memory.
    pub(crate) fn state(&self, backend: &B, spec: &ContextSpec) -> Result<State<B>, Error> {
        let Hparams { rope_base: base, rope_factor: factor, .. } = self.hparams;
        let rotary = Rotary { base, factor, dims: spec.n_rot };
        let buffers = spec.widths.iter().map(|&cols| backend.buffer(spec.n_batch, cols));
        let [hidden, attn_in, ffn_in, qkv, attended, ffn] =
            buffers.collect::<Result<Vec<_>, _>>()?.try_into().ok().expect("as many buffers as widths");
        Ok(State {
            hidden,
            attn_in,
            ffn_in,
            qkv,
            attended,
            ffn,
            caches: (0..spec.n_layer).map(|_| backend.kv_cache(spec.kv)).collect::<Result<_, _>>()?,
            rope: backend.rope(rotary, spec.kv.positions)?,
            workspace: backend.workspace(spec)?,
        })
    }

    /// Runs all blocks over a batch; the state then holds the final hidden rows, normalised for the output matrix.
    /// Unless `TAPPED`, there are no `taps`. What they want to see of a product's epilogue is computed apart from it, with
    /// the same bits.
    ///
    /// # Errors
    /// If the backend failed, or `cancel` is raised: the state is then good for another pass from the same positions.
    pub(crate) fn forward<const TAPPED: bool>(
        &self,
        (backend, cpu): (&B, &Cpu),
        state: &mut State<B>,
        batch: Batch<'_>,
        cancel: &Cancel,
        taps: Taps<'_, '_>,
    ) -> Result<(), Error> {
        let is_cancelled = || cancel.is_raised();
        if is_cancelled() {
            return Err(Error::Cancelled);
        }
        let n = batch.tokens.len();
        let mut tap = Tap::<B, TAPPED>::new(backend, cpu, batch, taps);
        let State { hidden, attn_in, ffn_in, qkv, attended, ffn, caches, rope, workspace } = state;
        backend.pass(batch, TAPPED, workspace, |work| {
            backend.embed(&self.token_embd, batch, hidden, work);
            tap.at(Site::Embed, None, hidden);
            for (index, (layer, cache)) in self.layers.iter().zip(&mut *caches).enumerate() {
                if !B::QUEUES && is_cancelled() {
                    return;
                }
                let index = Some(index);
                tap.at(Site::ResidPre, index, hidden);
                if self.hparams.parallel_residual {
                    let norms = [&layer.attn_norm, &layer.ffn_norm];
                    backend.layer_norm_pair(norms, hidden, n, [&mut *attn_in, &mut *ffn_in]);
                } else {
                    backend.layer_norm(&layer.attn_norm, hidden, n, attn_in);
                }
                tap.at(Site::AttnIn, index, attn_in);
                backend.product(&layer.attn_qkv, attn_in, n, Epilogue::Store, qkv, work);
                for (part, site) in [Site::Q, Site::K, Site::V].into_iter().enumerate() {
                    tap.at_part(site, index, qkv, part, 3);
                }
                let weights = tap.attention_weights(self.hparams.n_head, index);
                backend.attend(rope, batch, qkv, cache, attended, work, weights);
                for (part, site) in [Site::RotQ, Site::RotK].into_iter().enumerate() {
                    tap.at_part(site, index, qkv, part, 3);
                }
                tap.attended(index);
                tap.at(Site::Z, index, attended);
                if tap.wants(Site::AttnOut, index) {
                    // What entered the matrix of queries, keys and values is not needed any more.
                    backend.product(&layer.attn_output, attended, n, Epilogue::Store, attn_in, work);
                    tap.at(Site::AttnOut, index, attn_in);
                    tap.add(attn_in, hidden);
                } else {
                    backend.product(&layer.attn_output, attended, n, Epilogue::Add, hidden, work);
                }
                if !self.hparams.parallel_residual {
                    tap.at(Site::ResidMid, index, hidden);
                    backend.layer_norm(&layer.ffn_norm, hidden, n, ffn_in);
                }
                tap.at(Site::MlpIn, index, ffn_in);
                if tap.wants(Site::MlpPre, index) {
                    backend.product(&layer.ffn_up, ffn_in, n, Epilogue::Store, ffn, work);
                    tap.at(Site::MlpPre, index, ffn);
                    tap.gelu(self.gelu, ffn);
                } else {
                    backend.product(&layer.ffn_up, ffn_in, n, Epilogue::Gelu(self.gelu), ffn, work);
                }
                tap.at(Site::MlpPost, index, ffn);
                if tap.wants(Site::MlpOut, index) {
                    backend.product(&layer.ffn_down, ffn, n, Epilogue::Store, attn_in, work);
                    tap.at(Site::MlpOut, index, attn_in);
                    tap.add(attn_in, hidden);
                } else {
                    backend.product(&layer.ffn_down, ffn, n, Epilogue::Add, hidden, work);
                }
                tap.at(Site::ResidPost, index, hidden);
                let matrices = [&layer.attn_qkv, &layer.attn_output, &layer.ffn_up, &layer.ffn_down];
                matrices.iter().for_each(|linear| backend.release(&linear.weight));
            }
            backend.layer_norm(&self.output_norm, hidden, n, attn_in);
            tap.at(Site::FinalNorm, None, attn_in);
        })?;
        if is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Makes the first `positions` of sequence `to` those of sequence `from`.
    pub(crate) fn copy_prefix(&self, backend: &B, state: &mut State<B>, from: usize, to: usize, positions: usize) {
        state.caches.iter_mut().for_each(|cache| backend.copy_prefix(cache, from, to, positions));
    }

    /// What `head` asks for, of rows of the last batch.
    ///
    /// # Errors
    /// If the backend failed.
    pub(crate) fn head(&self, backend: &B, state: &mut State<B>, head: Head<'_>) -> Result<(), Error> {
        backend.head(&self.output, &state.attn_in, head, &mut state.workspace)
    }

    /// The logits of `hidden`, as if these rows had left the last block. There are no more of them than a batch has. The
    /// last batch stays, since only buffers are overwritten that a pass fills anew.
    ///
    /// # Errors
    /// If the backend failed.
    pub(crate) fn head_of(
        &self,
        backend: &B,
        state: &mut State<B>,
        hidden: &[f32],
        out: &mut [f32],
    ) -> Result<(), Error> {
        let rows: Vec<usize> = (0..hidden.len() / self.hparams.n_embd).collect();
        let put = &mut |x: &mut [f32]| x.copy_from_slice(hidden);
        backend.edit(&mut state.hidden, rows.len(), &mut Vec::new(), put);
        backend.layer_norm(&self.output_norm, &state.hidden, rows.len(), &mut state.ffn_in);
        backend.head(&self.output, &state.ffn_in, Head::Logits { rows: &rows, out }, &mut state.workspace)
    }
}
