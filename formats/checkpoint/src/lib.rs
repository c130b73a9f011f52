//! Hugging Face checkpoints of GPT-NeoX models: weights as safetensors or as PyTorch saves them, and `config.json`.
//!
//! Opening a checkpoint reads and checks only headers. Tensor data is read later, by position and a few rows at a time,
//! so memory does not depend on the size of the model.
//!
//! ```no_run
//! use pythia_checkpoint::{Checkpoint, to_f32};
//!
//! let checkpoint = Checkpoint::open("pythia-70m".as_ref())?;
//! let (mut bytes, mut values) = (Vec::new(), Vec::new());
//! for tensor in checkpoint.tensors() {
//!     checkpoint.read_rows(tensor, 0, 1, &mut bytes)?;
//!     to_f32(tensor.dtype, &bytes, &mut values);
//!     println!("{} {:?}: starts with {}", tensor.name, tensor.shape, values[0]);
//! }
//! # Ok::<(), pythia_checkpoint::Error>(())
//! ```

#![forbid(unsafe_code)]

mod adapter;
mod checkpoint;
mod config;
mod dtype;
mod error;
mod folder;
mod names;
mod other;
mod positioned;
mod safetensors_file;
mod torch;
mod weights;

pub use adapter::{Adapter, Addend, Change};
pub use checkpoint::{Checkpoint, SourceTensor};
pub use config::{Config, HiddenAct, MODEL_TYPE};
pub use dtype::{Dtype, to_f32};
pub use error::Error;
pub use positioned::PositionedFile;
pub use weights::WeightFile;

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
