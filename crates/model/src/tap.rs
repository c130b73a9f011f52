//! Looking at what enters the matrices while a model runs.

use crate::backend::Backend;
use pythia_schema::TensorId;

/// Rows that are about to be multiplied by a matrix: the f32 activations, before a product rounds them to int8.
#[derive(Clone, Copy, Debug)]
pub struct MatrixInput<'a> {
    /// Which matrix.
    pub tensor: TensorId,
    /// A row per token of the batch: `[rows, cols]`.
    pub rows: &'a [f32],
    /// Inputs of the matrix.
    pub cols: usize,
}

/// Is shown the first `n` rows of `x`, which are about to enter the matrix `tensor`.
///
/// `()` looks at nothing, and a forward pass compiled for it holds no trace of the calls.
pub trait Tap<B: Backend> {
    /// Whether it looks at anything.
    const LOOKS_ON: bool = true;

    /// A matrix is about to be used.
    fn input(&mut self, backend: &B, tensor: TensorId, x: &B::Buffer, n: usize);
}

impl<B: Backend> Tap<B> for () {
    const LOOKS_ON: bool = false;

    #[inline(always)]
    fn input(&mut self, _: &B, _: TensorId, _: &B::Buffer, _: usize) {}
}

/// Shows rows to a function on the host.
pub(crate) struct HostTap<'f> {
    observe: &'f mut dyn FnMut(MatrixInput<'_>),
    /// Where a device puts its rows.
    staging: Vec<f32>,
}

impl<'f> HostTap<'f> {
    pub(crate) fn new(observe: &'f mut dyn FnMut(MatrixInput<'_>)) -> Self {
        Self { observe, staging: Vec::new() }
    }
}

impl<B: Backend> Tap<B> for HostTap<'_> {
    fn input(&mut self, backend: &B, tensor: TensorId, x: &B::Buffer, n: usize) {
        let rows = backend.rows(x, n, &mut self.staging);
        (self.observe)(MatrixInput { tensor, rows, cols: rows.len() / n });
    }
}
