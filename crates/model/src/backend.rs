//! What a device must be able to do to run a model.
//!
//! The verbs are coarse: a call is at least a pass over a row of activations, so that a device pays for a launch per
//! verb, not per block. Architectures are written over this trait and name no device.
//!
//! Verbs that make something can fail. Those of a pass only ask for work, which a device may do later: what went wrong in
//! it is told by [`Backend::pass`] and by the verbs that bring numbers to the host.

use crate::error::Error;
use pythia_kernels::{KvShape, Rotary, Then};
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

/// What a forward pass runs.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// A token per row.
    pub tokens: &'a [u32],
    /// Where the rows belong: together all of them, in order, each sequence at most once.
    pub places: &'a [Place],
}

/// What a context needs.
#[derive(Clone, Debug)]
pub struct Room {
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

impl Room {
    /// Bytes that a backend with caches and activations in plain memory takes; `None` if they cannot be counted.
    pub fn bytes(&self) -> Option<usize> {
        let caches = self.kv.bytes()?.checked_mul(self.n_layer)?;
        let rope = self.kv.positions.checked_mul(4 * self.n_rot)?;
        // What products and scores reuse takes about as much as the widest of the buffers.
        let cols: usize = self.widths.iter().chain(self.widths.iter().max()).sum();
        let batch = self.n_batch.checked_mul(4 * cols)?;
        caches.checked_add(rope)?.checked_add(batch)
    }
}

impl fmt::Display for Room {
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
    type Cache: Send + Sync;
    /// A rotary table.
    type Rope: Send + Sync;
    /// What verbs reuse from call to call.
    type Workspace: Send + Sync;

    /// Whether a pass only asks for its work, which is done later and perhaps repeated: then a pass must ask for all of it.
    /// Where each verb does its work, a pass can be left in the middle.
    const QUEUES: bool;

    /// Where it runs, for people: `cpu`.
    fn name(&self) -> String;
    /// Makes a matrix ready.
    ///
    /// # Errors
    /// As for everything that is made here: if there is no room for it, or the device fails.
    fn matrix(&self, tensor: &Tensor) -> Result<Self::Matrix, Error>;
    /// Makes a vector ready.
    ///
    /// # Errors
    /// As for [`matrix`](Self::matrix).
    fn vector(&self, tensor: &Tensor) -> Result<Self::Vector, Error>;
    /// Asks whether a context would fit, before its buffers and caches are made.
    ///
    /// # Errors
    /// If it would not.
    fn make_room(&self, room: &Room) -> Result<(), Error>;
    /// Room for `rows` rows of `cols`.
    ///
    /// # Errors
    /// As for [`matrix`](Self::matrix).
    fn buffer(&self, rows: usize, cols: usize) -> Result<Self::Buffer, Error>;
    /// An empty cache.
    ///
    /// # Errors
    /// As for [`matrix`](Self::matrix).
    fn cache(&self, shape: KvShape) -> Result<Self::Cache, Error>;
    /// A rotary table for positions from 0 up to `positions`.
    ///
    /// # Errors
    /// As for [`matrix`](Self::matrix).
    fn rope(&self, rotary: Rotary, positions: usize) -> Result<Self::Rope, Error>;
    /// What verbs need besides.
    ///
    /// # Errors
    /// As for [`matrix`](Self::matrix).
    fn workspace(&self, room: &Room) -> Result<Self::Workspace, Error>;

    /// The first `n` rows of a buffer, on the host: where they lie, or copied into `staging`.
    fn rows<'a>(&self, x: &'a Self::Buffer, n: usize, staging: &'a mut Vec<f32>) -> &'a [f32];

    /// Runs `verbs`, which are a forward pass over `batch` and use no workspace but this one.
    ///
    /// Unless somebody `looks_on`, a backend may record these operations and replay them for later batches of the same
    /// shape. Within one workspace they always use the same buffers.
    ///
    /// # Errors
    /// If the device failed, now or before.
    fn pass(
        &self,
        batch: Batch<'_>,
        looks_on: bool,
        workspace: &mut Self::Workspace,
        verbs: impl FnMut(&mut Self::Workspace),
    ) -> Result<(), Error>;

    /// Waits until everything that was asked for has been done, so that a clock may be read.
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
    /// Causal attention of a batch of queries, keys and values, `[rows, 3 * width]`: queries and keys are rotated, keys
    /// and values appended to the cache. What `qkv` holds afterwards is the device's business.
    fn attend(
        &self,
        rope: &Self::Rope,
        batch: Batch<'_>,
        qkv: &mut Self::Buffer,
        cache: &mut Self::Cache,
        out: &mut Self::Buffer,
        workspace: &mut Self::Workspace,
    );
    /// Logits of some rows, to the host: `[rows.len(), vocabulary]`.
    ///
    /// # Errors
    /// If the device failed, now or before.
    fn logits(
        &self,
        output: &Self::Matrix,
        x: &Self::Buffer,
        rows: &[usize],
        out: &mut [f32],
        workspace: &mut Self::Workspace,
    ) -> Result<(), Error>;
    /// Log-likelihood of one token per row, to the host: a few numbers where the logits would be megabytes.
    ///
    /// # Errors
    /// As for [`logits`](Self::logits).
    fn log_likelihoods(
        &self,
        output: &Self::Matrix,
        x: &Self::Buffer,
        rows: &[usize],
        targets: &[u32],
        out: &mut [f64],
        workspace: &mut Self::Workspace,
    ) -> Result<(), Error>;
    /// The largest of a row's first `n` logits, by ascending id. `None` if the logits are on the host anyway, or there
    /// are too many.
    ///
    /// # Errors
    /// As for [`logits`](Self::logits).
    fn largest(
        &self,
        output: &Self::Matrix,
        x: &Self::Buffer,
        row: usize,
        n: usize,
        largest: Largest,
        workspace: &mut Self::Workspace,
    ) -> Result<Option<Vec<Candidate>>, Error>;
}
