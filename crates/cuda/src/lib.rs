//! Pythia models on NVIDIA GPUs, with the bits of the CPU.
//!
//! The kernels are CUDA C++ in `kernels/`, compiled by NVRTC on the machine that runs them and kept on disk. They
//! follow the order of float operations that `docs/numerics.md` fixes, so logits are those of the CPU's kernels to the
//! last bit, whatever the GPU. From the bottom:
//!
//! - [`Device`]: memory, copies and launches, over the driver;
//! - `compile`: kernels from source, and their cache;
//! - `ops`: an operation each, with the arguments of its kernels;
//! - `backend`: the model's backend over them.

mod backend;
mod compile;
mod device;
mod error;
mod graph;
mod layout;
mod ops;
#[cfg(test)]
mod testing;

#[doc(hidden)]
pub use compile::{OPTIONS, units};
pub use device::{Description, Device};
pub use error::Error;
pub use ops::limits::Limits;

use pythia_model::{KvType, Model, Options};
use std::path::Path;
use std::sync::Arc;

/// Opens a GGUF file, or the first of the files that a model is split over, with its weights on a GPU.
///
/// # Errors
/// As [`Model::open`]; and if the GPU cannot run it: no compiler, too little memory, heads of a size that the kernels
/// do not know, a cache of a type that they do not know.
pub fn open(device: &Arc<Device>, path: &Path, options: &Options) -> Result<Arc<Model>, pythia_model::Error> {
    if options.kv == KvType::Q8_0 {
        let problem = "key-value cache: found q8_0, wanted f16 or f32 on a GPU";
        return Err(pythia_model::Error::Request(problem.to_owned()));
    }
    Model::open_on(path, options, |source| backend::CudaBackend::new(Arc::clone(device), source, options.activations))
}
