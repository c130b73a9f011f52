//! The operations of a forward pass, over rows of tokens, and the gradients of those that are a product.

use super::{Block, Linear, Network, Norm};
use pythia_kernels::{LayerNorm, LayerNormBackward, MatRef, Store, Team};

impl Network<'_> {
    /// LayerNorm of every row of `x`, `[n, n_embd]`.
    pub fn layer_norm(&self, norm: &Norm, x: &[f32], out: &mut Vec<f32>) {
        out.resize(x.len(), 0.0);
        let Norm { gamma, beta } = norm;
        self.cpu.layer_norm(LayerNorm { x, gamma, beta, eps: self.hparams.norm_eps, out });
    }

    /// Adds to `dx` the gradient at the input `x` of a LayerNorm, from that at its output.
    pub(super) fn layer_norm_backward(&self, norm: &Norm, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        let (gamma, eps) = (&norm.gamma, self.hparams.norm_eps);
        self.cpu.layer_norm_backward(LayerNormBackward { x, gamma, eps, dy, dx });
    }

    /// `x WT + b`: from `[n, cols]` to `[n, rows]`. A sum starts from the bias; then follows the product, in the order
    /// of [`Cpu::gemm`](pythia_kernels::Cpu::gemm).
    ///
    /// # Panics
    /// If `x` is not whole rows.
    pub fn linear(&self, linear: &Linear, x: &[f32], out: &mut Vec<f32>) {
        let Linear { rows, cols, .. } = *linear;
        assert!(x.len().is_multiple_of(cols), "whole rows");
        self.product_of(rows, cols, &linear.weight, &linear.bias, x, out);
    }

    /// The same with other weights of the same shape, `[rows, cols]` in one slice.
    ///
    /// # Panics
    /// If lengths do not match.
    pub fn linear_with(&self, linear: &Linear, weight: &[f32], bias: &[f32], x: &[f32], out: &mut Vec<f32>) {
        let Linear { rows, cols, .. } = *linear;
        assert!(x.len().is_multiple_of(cols) && weight.len() == rows * cols, "whole rows, and as many weights");
        self.product_of(rows, cols, weight, bias, x, out);
    }

    fn product_of(&self, rows: usize, cols: usize, weight: &[f32], bias: &[f32], x: &[f32], out: &mut Vec<f32>) {
        let n = x.len() / cols;
        let store = if bias.is_empty() {
            out.resize(n * rows, 0.0);
            Store::Set
        } else {
            out.clear();
            out.reserve_exact(n * rows);
            (0..n).for_each(|_| out.extend_from_slice(bias));
            Store::Add
        };
        self.cpu.gemm(MatRef::new(x, n, cols), MatRef::new(weight, rows, cols).t(), store, out, rows);
    }

    /// The gradient at the input of a product, from that at its output.
    pub(super) fn linear_backward(&self, linear: &Linear, dy: &[f32], dx: &mut Vec<f32>) {
        let Linear { rows, cols, ref weight, .. } = *linear;
        let n = dy.len() / rows;
        dx.resize(n * cols, 0.0);
        self.cpu.gemm(MatRef::new(dy, n, rows), MatRef::new(weight, rows, cols), Store::Set, dx, cols);
    }

    /// GELU of every element, in the form of the model.
    pub fn gelu(&self, x: &mut [f32]) {
        self.cpu.gelu(self.gelu, x);
    }

    /// A whole block: `h`, `[n, n_embd]`, becomes its output.
    ///
    /// # Panics
    /// If `h` is not whole windows of `n_ctx` rows.
    pub fn forward(&self, block: &Block, n_ctx: usize, h: &mut [f32]) {
        let (mut normal, mut wide, mut narrow) = (Vec::new(), Vec::new(), Vec::new());
        let mut attended = Vec::new();
        self.layer_norm(&block.attn_norm, h, &mut normal);
        self.linear(&block.qkv, &normal, &mut wide);
        self.attend(n_ctx, &mut wide, &mut narrow);
        self.linear(&block.attn_output, &narrow, &mut attended);
        if self.hparams.parallel_residual {
            self.layer_norm(&block.ffn_norm, h, &mut normal);
            add(h, &attended);
        } else {
            add(h, &attended);
            self.layer_norm(&block.ffn_norm, h, &mut normal);
        }
        self.linear(&block.ffn_up, &normal, &mut wide);
        self.gelu(&mut wide);
        self.linear(&block.ffn_down, &wide, &mut narrow);
        add(h, &narrow);
    }
}

/// `to += from`, element by element.
pub(super) fn add(to: &mut [f32], from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}

/// Calls `run` with the number of a row and that row, for every row of `data`, from the threads of the team.
pub(super) fn for_each_row(team: &Team, data: &mut [f32], cols: usize, run: impl Fn(usize, &mut [f32]) + Sync) {
    /// Rows that a task takes.
    const GRAIN: usize = 16;
    team.run_pieces(data, GRAIN * cols, |task, rows| {
        rows.chunks_exact_mut(cols).enumerate().for_each(|(i, row)| run(task * GRAIN + i, row));
    });
}
