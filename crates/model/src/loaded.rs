//! A model on some device, as a trait object: contexts and their users need not be generic.

use crate::arch::gptneox::{GptNeoX, State};
use crate::backend::{Backend, Batch, ContextSpec, Head};
use crate::context::ContextShape;
use crate::error::Error;
use crate::tap::Taps;
use pythia_kernels::{Cpu, KvType};
use pythia_task::Cancel;
use std::sync::Arc;

/// Weights, ready on a device.
pub(crate) trait Loaded: Send + Sync {
    /// The sizes of such a context.
    fn spec(&self, kv: KvType, shape: ContextShape) -> ContextSpec;
    /// Whether the device shows attention.
    fn shows_attention(&self) -> bool;
    /// Allocates the state of such a context, if it fits in memory.
    fn run(self: Arc<Self>, kv: KvType, shape: ContextShape) -> Result<Box<dyn Running>, Error>;
}

/// Weights with the state of a context. The methods are those of the architecture.
pub(crate) trait Running: Send + Sync {
    fn forward(&mut self, batch: Batch<'_>, cancel: &Cancel, taps: Taps<'_, '_>) -> Result<(), Error>;
    fn copy_prefix(&mut self, from: usize, to: usize, positions: usize);
    fn finish(&self) -> Result<(), Error>;
    fn head(&mut self, head: Head<'_>) -> Result<(), Error>;
    fn head_of(&mut self, hidden: &[f32], out: &mut [f32]) -> Result<(), Error>;
}

/// A backend and what it has loaded.
pub(crate) struct On<B: Backend> {
    pub(crate) backend: B,
    pub(crate) weights: GptNeoX<B>,
    /// For what taps have computed on the host.
    pub(crate) cpu: Arc<Cpu>,
}

struct RunningOn<B: Backend> {
    /// Dropped first: what a device recorded for it refers to the weights.
    state: State<B>,
    on: Arc<On<B>>,
}

impl<B: Backend> Loaded for On<B> {
    fn spec(&self, kv: KvType, shape: ContextShape) -> ContextSpec {
        self.weights.spec(kv, shape)
    }

    fn shows_attention(&self) -> bool {
        B::SHOWS_ATTENTION
    }

    fn run(self: Arc<Self>, kv: KvType, shape: ContextShape) -> Result<Box<dyn Running>, Error> {
        let spec = self.spec(kv, shape);
        self.backend.check_fits(&spec)?;
        let state = self.weights.state(&self.backend, &spec)?;
        Ok(Box::new(RunningOn { on: self, state }))
    }
}

impl<B: Backend> Running for RunningOn<B> {
    fn forward(&mut self, batch: Batch<'_>, cancel: &Cancel, taps: Taps<'_, '_>) -> Result<(), Error> {
        let On { backend, weights, cpu } = &*self.on;
        let on = (backend, &**cpu);
        if taps.is_empty() {
            return weights.forward::<false>(on, &mut self.state, batch, cancel, taps);
        }
        weights.forward::<true>(on, &mut self.state, batch, cancel, taps)
    }

    fn copy_prefix(&mut self, from: usize, to: usize, positions: usize) {
        self.on.weights.copy_prefix(&self.on.backend, &mut self.state, from, to, positions);
    }

    fn finish(&self) -> Result<(), Error> {
        self.on.backend.finish()
    }

    fn head(&mut self, head: Head<'_>) -> Result<(), Error> {
        self.on.weights.head(&self.on.backend, &mut self.state, head)
    }

    fn head_of(&mut self, hidden: &[f32], out: &mut [f32]) -> Result<(), Error> {
        self.on.weights.head_of(&self.on.backend, &mut self.state, hidden, out)
    }
}
