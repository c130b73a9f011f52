//! What a device must be able to do to run a model.
//!
//! The operations are coarse: each covers at least one row of activations, so that a device pays for one launch per
//! operation, not per block. Architectures are written over this trait and name no device.
//!
//! Operations that allocate can fail. Those of a pass only ask for work, which a device may do later: its errors are
//! returned by [`Backend::pass`] and by the operations that bring numbers to the host.

use crate::error::Error;
pub use pythia_kernels::{AttentionWeights, RowSpan};
use pythia_kernels::{Epilogue, KvShape, Prediction, Rotary};
use pythia_schema::TensorId;
use pythia_tensor::TensorType;
use std::fmt;
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

/// What a forward pass runs.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// A token per row.
    pub tokens: &'a [u32],
    /// The sequences that the rows continue: every row, in order, each sequence at most once.
    pub spans: &'a [RowSpan],
}

/// The sizes of a context: what a backend allocates for it.
#[derive(Clone, Debug)]
pub struct ContextSpec {
    /// Rows of a batch.
    pub n_batch: usize,
    /// Columns of each buffer of activations.
    pub widths: Vec<usize>,
    /// Rows of the output matrix.
    pub n_vocab: usize,
    /// Layers, each with a cache.
    pub n_layer: usize,
    /// A layer's cache.
    pub kv: KvShape,
    /// Dimensions of a head that are rotated.
    pub n_rot: usize,
}

impl ContextSpec {
    /// Bytes of such a context, where caches and activations lie in plain memory; `None` if they overflow.
    pub fn bytes(&self) -> Option<usize> {
        let caches = self.kv.bytes()?.checked_mul(self.n_layer)?;
        let rope = self.kv.positions.checked_mul(4 * self.n_rot)?;
        // The workspace takes about as much as the widest of the buffers.
        let cols: usize = self.widths.iter().chain(self.widths.iter().max()).sum();
        let batch = self.n_batch.checked_mul(4 * cols)?;
        caches.checked_add(rope)?.checked_add(batch)
    }
}

impl fmt::Display for ContextSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KvShape { sequences, positions, .. } = self.kv;
        write!(f, "a context of {sequences} x {positions} positions and batches of {} tokens", self.n_batch)
    }
}

/// A token and its logit.
pub type Candidate = (u32, f32);

/// Which of a row's logits are wanted. NaN and minus infinity are never among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Largest {
    /// The first of the largest.
    First,
    /// As many of the largest, and all that tie with the last of them.
    Top(usize),
}

/// What is computed from rows of the output matrix's input.
#[derive(Debug)]
pub enum Head<'a> {
    /// The logits of some rows.
    Logits {
        /// Which.
        rows: &'a [usize],
        /// `[rows.len(), vocabulary]`.
        out: &'a mut [f32],
    },
    /// The log-likelihood of one token per row, and the likeliest token: a few numbers where the logits would be megabytes.
    Predictions {
        /// Which rows.
        rows: &'a [usize],
        /// Token ids, `[rows.len()]`.
        targets: &'a [u32],
        /// `[rows.len()]`.
        out: &'a mut [Prediction],
    },
    /// The largest of the first `n` logits of a row.
    Largest {
        /// Which row.
        row: usize,
        /// Logits that are looked at.
        n: usize,
        /// How many are wanted.
        wanted: Largest,
        /// By ascending id. Stays `None` if the logits are on the host anyway, or there are too many.
        out: &'a mut Option<Vec<Candidate>>,
    },
}

/// A matrix with its bias.
#[derive(Debug)]
pub struct Linear<B: Backend> {
    /// Which tensor the weights are.
    pub id: TensorId,
    /// Weights, `[outputs, inputs]`.
    pub weight: B::Matrix,
    /// Bias, `[outputs]`.
    pub bias: B::Vector,
}

/// A LayerNorm.
#[derive(Debug)]
pub struct Norm<B: Backend> {
    /// Scale.
    pub gamma: B::Vector,
    /// Shift.
    pub beta: B::Vector,
    /// Added to the variance.
    pub eps: f32,
}

/// A device.
pub trait Backend: Send + Sync + Sized + 'static {
    /// Weights on the device.
    type Matrix: Send + Sync;
    /// A bias, or half of a norm.
    type Vector: Send + Sync;
    /// Activations: `[rows, cols]` of f32.
    type Buffer: Send + Sync;
    /// Keys and values of one layer.
    type KvCache: Send + Sync;
    /// A rotary table.
    type Rope: Send + Sync;
    /// Memory that operations reuse from call to call.
    type Workspace: Send + Sync;

    /// Whether the operations of a pass are queued, to run later and perhaps again: then a pass must issue all of them.
    /// Where each operation runs at once, a pass may stop in the middle.
    const QUEUES: bool;
    /// Whether attention shows its scores and patterns, and queries and keys after rotation.
    const SHOWS_ATTENTION: bool;

    /// Where it runs, for people: `cpu`.
    fn name(&self) -> String;
    /// Whether the processor reads the weights in a copy, and not in the mapped files.
    fn is_copied(&self) -> bool {
        false
    }
    /// Makes a matrix ready, which may change how the backend holds it: each is made ready once.
    ///
    /// # Errors
    /// If there is not enough memory, or the device fails.
    fn matrix(&mut self, tensor: &Tensor) -> Result<Self::Matrix, Error>;
    /// Makes a vector ready.
    ///
    /// # Errors
    /// As for [`matrix`](Self::matrix).
    fn vector(&self, tensor: &Tensor) -> Result<Self::Vector, Error>;
    /// Checks that a context would fit in memory, before its buffers and caches are allocated.
    ///
    /// # Errors
    /// If it would not.
    fn check_fits(&self, spec: &ContextSpec) -> Result<(), Error>;
    /// A buffer of `rows` rows of `cols`.
    ///
    /// # Errors
    /// As for [`matrix`](Self::matrix).
    fn buffer(&self, rows: usize, cols: usize) -> Result<Self::Buffer, Error>;
    /// An empty cache.
    ///
    /// # Errors
    /// As for [`matrix`](Self::matrix).
    fn kv_cache(&self, shape: KvShape) -> Result<Self::KvCache, Error>;
    /// A rotary table for positions from 0 up to `positions`.
    ///
    /// # Errors
    /// As for [`matrix`](Self::matrix).
    fn rope(&self, rotary: Rotary, positions: usize) -> Result<Self::Rope, Error>;
    /// The memory that the operations of a context reuse.
    ///
    /// # Errors
    /// As for [`matrix`](Self::matrix).
    fn workspace(&self, spec: &ContextSpec) -> Result<Self::Workspace, Error>;

    /// The first `n` rows of a buffer, on the host: where they lie, or copied into `staging`.
    fn rows<'a>(&self, x: &'a Self::Buffer, n: usize, staging: &'a mut Vec<f32>) -> &'a [f32];

    /// Has the first `n` rows of a buffer changed on the host: where they lie, or in `staging`, from which they are taken
    /// back.
    fn edit(&self, x: &mut Self::Buffer, n: usize, staging: &mut Vec<f32>, edit: &mut dyn FnMut(&mut [f32]));

    /// Runs `operations`, a forward pass over `batch` that uses no workspace but this one.
    ///
    /// Unless `tapped`, a backend may record these operations and replay them for later batches of the same shape.
    /// Within one workspace they always use the same buffers.
    ///
    /// # Errors
    /// If the device failed, now or before.
    fn pass(
        &self,
        batch: Batch<'_>,
        tapped: bool,
        workspace: &mut Self::Workspace,
        operations: impl FnMut(&mut Self::Workspace),
    ) -> Result<(), Error>;

    /// Waits until all queued work is done, so that a clock may be read.
    ///
    /// # Errors
    /// If the device failed, now or before.
    fn finish(&self) -> Result<(), Error>;

    /// Rows of the embedding table for the tokens of a batch.
    fn embed(&self, table: &Self::Matrix, batch: Batch<'_>, out: &mut Self::Buffer, workspace: &mut Self::Workspace);
    /// LayerNorm of the first `n` rows.
    fn layer_norm(&self, norm: &Norm<Self>, x: &Self::Buffer, n: usize, out: &mut Self::Buffer);
    /// Two norms of the same rows, whose mean and variance a device may compute once. They have the same `eps`.
    fn layer_norm_pair(&self, norms: [&Norm<Self>; 2], x: &Self::Buffer, n: usize, outs: [&mut Self::Buffer; 2]) {
        for (norm, out) in norms.into_iter().zip(outs) {
            self.layer_norm(norm, x, n, out);
        }
    }
    /// Product of the first `n` rows, bias added, then the epilogue.
    fn product(
        &self,
        linear: &Linear<Self>,
        x: &Self::Buffer,
        n: usize,
        epilogue: Epilogue,
        out: &mut Self::Buffer,
        workspace: &mut Self::Workspace,
    );
    /// Causal attention of a batch of queries, keys and values, `[rows, 3 * width]`: queries and keys are rotated, keys
    /// and values appended to the cache. If it [shows attention](Self::SHOWS_ATTENTION), queries and keys are rotated in
    /// `qkv`, and scores and patterns go to `weights`. Otherwise what `qkv` holds afterwards is unspecified, and there are
    /// no `weights`.
    #[allow(clippy::too_many_arguments)]
    fn attend(
        &self,
        rope: &Self::Rope,
        batch: Batch<'_>,
        qkv: &mut Self::Buffer,
        cache: &mut Self::KvCache,
        out: &mut Self::Buffer,
        workspace: &mut Self::Workspace,
        weights: Option<AttentionWeights<'_>>,
    );
    /// This pass does not read a matrix any more.
    fn release(&self, matrix: &Self::Matrix) {
        let _ = matrix;
    }
    /// Makes the first `positions` of sequence `to` in a cache those of sequence `from`.
    fn copy_prefix(&self, cache: &mut Self::KvCache, from: usize, to: usize, positions: usize);
    /// Multiplies rows by the output matrix and brings what `head` asks for to the host.
    ///
    /// # Errors
    /// If the device failed, now or before.
    fn head(
        &self,
        output: &Self::Matrix,
        x: &Self::Buffer,
        head: Head<'_>,
        workspace: &mut Self::Workspace,
    ) -> Result<(), Error>;
}
