//! The hyperparameters.

/// The name of the architecture in GGUF: the value of `general.architecture`, and the prefix of its keys.
pub const ARCH: &str = "gptneox";

/// Hyperparameters of a GPT-NeoX model.
#[derive(Clone, Debug, PartialEq)]
pub struct Hparams {
    /// Number of transformer blocks.
    pub n_layer: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Attention heads, each `n_embd / n_head` wide.
    pub n_head: usize,
    /// Width of the feed-forward network.
    pub n_ff: usize,
    /// Rows of the vocabulary matrices, padding included.
    pub n_vocab: usize,
    /// Positions the model was trained for.
    pub n_ctx: usize,
    /// Leading elements of each head that are rotated, in pairs `(i, i + n_rot / 2)`.
    pub n_rot: usize,
    /// Base of the rotation frequencies.
    pub rope_base: f32,
    /// What the rotation frequencies are divided by, which stretches the context: linear scaling. 1 without.
    pub rope_factor: f32,
    /// Epsilon of every layer norm.
    pub norm_eps: f32,
    /// Whether attention and feed-forward both read the block's input, rather than one after the other.
    pub parallel_residual: bool,
    /// Whether GELU is its tanh approximation, rather than exact.
    pub gelu_tanh: bool,
}

impl Hparams {
    /// Width of an attention head.
    pub fn head_dim(&self) -> usize {
        self.n_embd / self.n_head
    }
}
