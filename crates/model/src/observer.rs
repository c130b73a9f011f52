//! Observing what enters the matrices while a model runs.

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

/// Observes a forward pass. A pass that is compiled for `()`, which observes nothing, holds no trace of the calls.
pub trait Observer<B: Backend> {
    /// Whether it observes anything.
    const OBSERVES: bool = true;

    /// The first `n` rows of `x` are about to enter the matrix `tensor`.
    fn input(&mut self, backend: &B, tensor: TensorId, x: &B::Buffer, n: usize);
}

impl<B: Backend> Observer<B> for () {
    const OBSERVES: bool = false;

    #[inline(always)]
    fn input(&mut self, _: &B, _: TensorId, _: &B::Buffer, _: usize) {}
}

/// Shows rows to a function on the host.
pub(crate) struct HostObserver<'f> {
    observe: &'f mut dyn FnMut(MatrixInput<'_>),
    /// Where a device puts its rows.
    staging: Vec<f32>,
}

impl<'f> HostObserver<'f> {
    pub(crate) fn new(observe: &'f mut dyn FnMut(MatrixInput<'_>)) -> Self {
        Self { observe, staging: Vec::new() }
    }
}

impl<B: Backend> Observer<B> for HostObserver<'_> {
    fn input(&mut self, backend: &B, tensor: TensorId, x: &B::Buffer, n: usize) {
        let rows = backend.rows(x, n, &mut self.staging);
        (self.observe)(MatrixInput { tensor, rows, cols: rows.len() / n });
    }
}
