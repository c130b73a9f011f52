//! What a device must be able to do to run a model.
//!
//! The verbs are coarse: a call is at least a pass over a row of activations, so that a device pays for a launch per
//! verb, not per block. Architectures are written over this trait and name no device.

use pythia_kernels::{KvShape, Then};
use pythia_tensor::TensorType;
use std::ops::Range;

/// A tensor of the model that is to be made ready for a device.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its type.
    pub ty: TensorType,
    /// Outputs (1 for a vector).
    pub rows: usize,
    /// Inputs: elements of a row.
    pub cols: usize,
    /// Which of the model's files it is in.
    pub file: usize,
    /// Where its bytes lie in that file.
    pub bytes: Range<usize>,
}

/// Consecutive new positions of one sequence within a batch.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Which sequence.
    pub sequence: usize,
    /// First row of the batch.
    pub first_row: usize,
    /// Number of rows.
    pub rows: usize,
    /// Position of the first row in its sequence.
    pub first_position: usize,
}

/// A matrix with its bias.
#[derive(Debug)]
pub struct Linear<B: Backend + ?Sized> {
    /// GGUF name of the weights.
    pub name: String,
    /// Weights, `[outputs, inputs]`.
    pub weight: B::Matrix,
    /// Bias, `[outputs]`.
    pub bias: B::Vector,
}

/// A LayerNorm.
#[derive(Debug)]
pub struct Norm<B: Backend + ?Sized> {
    /// Scale.
    pub gamma: B::Vector,
    /// Shift.
    pub beta: B::Vector,
    /// Added to the variance.
    pub eps: f32,
}

/// A device.
pub trait Backend {
    /// Weights on the device.
    type Matrix;
    /// A bias, or half of a norm.
    type Vector;
    /// Activations: `[rows, cols]` of f32.
    type Buffer;
    /// Keys and values of one layer.
    type Cache;
    /// A rotary table.
    type Rope;
    /// What products reuse from call to call.
    type Workspace: Default;

    /// Makes a matrix ready.
    fn matrix(&self, tensor: &Tensor) -> Self::Matrix;
    /// Makes a vector ready.
    fn vector(&self, tensor: &Tensor) -> Self::Vector;
    /// Room for `rows` rows of `cols`.
    fn buffer(&self, rows: usize, cols: usize) -> Self::Buffer;
    /// An empty cache.
    fn cache(&self, shape: KvShape) -> Self::Cache;
    /// A rotary table for `rotated` dimensions and `positions`.
    fn rope(&self, base: f32, rotated: usize, positions: usize) -> Self::Rope;

    /// The first `n` rows of a buffer, on the host: where they lie, or copied into `staging`.
    fn rows<'a>(&self, x: &'a Self::Buffer, n: usize, staging: &'a mut Vec<f32>) -> &'a [f32];

    /// Rows of the embedding table.
    fn embed(&self, table: &Self::Matrix, tokens: &[u32], out: &mut Self::Buffer);
    /// LayerNorm of the first `n` rows.
    fn layer_norm(&self, norm: &Norm<Self>, x: &Self::Buffer, n: usize, out: &mut Self::Buffer);
    /// Product of the first `n` rows, bias added, then what `then` says.
    fn product(
        &self,
        linear: &Linear<Self>,
        x: &Self::Buffer,
        n: usize,
        then: Then,
        out: &mut Self::Buffer,
        workspace: &mut Self::Workspace,
    );
    /// Rotates queries and keys of a place, `[rows, 3 * width]`, and appends keys and values to the cache.
    fn append(&self, rope: &Self::Rope, place: Place, qkv: &mut Self::Buffer, cache: &mut Self::Cache);
    /// Causal attention of a place's queries.
    fn attend(&self, place: Place, qkv: &Self::Buffer, cache: &Self::Cache, out: &mut Self::Buffer);
    /// Logits of some rows, to the host: `[rows.len(), vocabulary]`.
    fn logits(
        &self,
        output: &Self::Matrix,
        x: &Self::Buffer,
        rows: &[usize],
        out: &mut [f32],
        workspace: &mut Self::Workspace,
    );
    /// Log-likelihood of one token per row, to the host: a few numbers where the logits would be megabytes.
    fn log_likelihoods(
        &self,
        output: &Self::Matrix,
        x: &Self::Buffer,
        rows: &[usize],
        targets: &[u32],
        out: &mut [f64],
        workspace: &mut Self::Workspace,
    );
}
