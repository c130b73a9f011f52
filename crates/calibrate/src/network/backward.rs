//! The gradient of a block, from its output to its input, and at the outputs of its matrices on the way.
//!
//! Only the input of the block is kept from the forward pass; everything inside is computed again. Gradients of weights
//! are not computed: a quantizer needs those of activations.

use super::ops::add;
use super::{Block, Network};
use pythia_schema::TensorId;

/// Is shown what passes a backward pass. Rows are tokens.
pub trait Observer {
    /// What enters a matrix: `[n, cols]`, in full precision.
    fn input(&mut self, id: TensorId, x: &[f32]);

    /// The gradient at the output of matrices that share it: `[n, rows]`. For `token_embd` it is the gradient at an
    /// embedding.
    fn gradient(&mut self, ids: &[TensorId], g: &[f32]);
}

/// Buffers of a backward pass, reused from block to block.
#[derive(Debug, Default)]
pub struct Workspace {
    normal: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    /// Input of the feed-forward network, where it is not that of the block.
    middle: Vec<f32>,
    /// What enters GELU.
    up: Vec<f32>,
    active: Vec<f32>,
    dwide: Vec<f32>,
    dnarrow: Vec<f32>,
    dx: Vec<f32>,
}

impl Workspace {
    /// Floats per token of a model of this width and width of the feed-forward network.
    pub fn width(n_embd: usize, n_ff: usize) -> usize {
        // The gradients of queries, keys and values share a buffer with those of the feed-forward network.
        (1 + 3 + 1 + 1 + 1 + 1) * n_embd + 2 * n_ff + n_ff.max(3 * n_embd)
    }
}

impl Network<'_> {
    /// The gradient of a block. `h` is its input, `[n, n_embd]`; `dh`, the gradient at its output, becomes that at its
    /// input. Rows are whole windows of `n_ctx` tokens.
    ///
    /// # Panics
    /// If shapes do not match.
    pub fn backward(
        &self,
        block: &Block,
        n_ctx: usize,
        h: &[f32],
        dh: &mut Vec<f32>,
        work: &mut Workspace,
        observer: &mut dyn Observer,
    ) {
        assert_eq!(h.len(), dh.len(), "an input for every gradient");
        let parallel = self.hparams.parallel_residual;
        let Workspace { normal, qkv, attended, middle, up, active, dwide, dnarrow, dx } = work;
        let [qkv_id, attn_output, ffn_up, ffn_down] =
            [&block.qkv, &block.attn_output, &block.ffn_up, &block.ffn_down].map(|linear| linear.id);

        self.layer_norm(&block.attn_norm, h, normal);
        observer.input(qkv_id, normal);
        self.linear(&block.qkv, normal, qkv);
        self.attend(n_ctx, qkv, attended);
        observer.input(attn_output, attended);
        let ffn_in = if parallel {
            h
        } else {
            self.linear(&block.attn_output, attended, middle);
            add(middle, h);
            &middle[..]
        };
        self.layer_norm(&block.ffn_norm, ffn_in, normal);
        observer.input(ffn_up, normal);
        self.linear(&block.ffn_up, normal, up);
        active.clone_from(up);
        self.gelu(active);
        observer.input(ffn_down, active);

        // With a parallel residual, both branches end in the same sum.
        let last: &[_] = if parallel { &[attn_output, ffn_down] } else { &[ffn_down] };
        observer.gradient(last, dh);
        dx.clone_from(dh);
        self.linear_backward(&block.ffn_down, dh, dwide);
        self.cpu.gelu_backward(self.gelu, up, dwide);
        observer.gradient(&[ffn_up], dwide);
        self.linear_backward(&block.ffn_up, dwide, dnarrow);
        self.layer_norm_backward(&block.ffn_norm, ffn_in, dnarrow, dx);
        if !parallel {
            dh.clone_from(dx);
            observer.gradient(&[attn_output], dh);
        }
        self.linear_backward(&block.attn_output, dh, dnarrow);
        self.attend_backward(n_ctx, qkv, dnarrow, dwide);
        observer.gradient(&[qkv_id], dwide);
        self.linear_backward(&block.qkv, dwide, dnarrow);
        self.layer_norm_backward(&block.attn_norm, h, dnarrow, dx);
        std::mem::swap(dh, dx);
    }
}
