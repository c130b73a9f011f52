//! GPT-NeoX, the architecture of Pythia models: the one place that knows its tensors and hyperparameters.
//!
//! A tensor is known by its [`TensorId`]. One table gives its name in GGUF files, which is llama.cpp's, and its names in
//! Hugging Face checkpoints, which are those of `GPTNeoXForCausalLM`.
//!
//! ```
//! use pythia_schema::{Kind, TensorId};
//!
//! let id = TensorId::weight(Kind::AttnQkv, Some(3));
//! assert_eq!(id.gguf(), "blk.3.attn_qkv.weight");
//! assert_eq!(id.hf(), ["gpt_neox.layers.3.attention.query_key_value.weight"]);
//! assert_eq!(TensorId::from_gguf("blk.3.attn_qkv.weight"), Some(id));
//! ```
//!
//! The feature `gguf` adds what reads and writes GGUF: [`Hparams`] as metadata, and the tensors of a file. The names
//! themselves need no reader, so a reader of checkpoints can have them without it.

#![forbid(unsafe_code)]

#[cfg(feature = "gguf")]
mod gguf;
pub mod hf;
mod hparams;
mod id;
mod suite;
mod tensors;

#[cfg(feature = "gguf")]
pub use gguf::bind;
pub use hparams::{ARCH, Hparams};
pub use id::{Kind, Param, TensorId, block_part};
pub use suite::{SUITE, Size};
pub use tensors::{TensorSpec, Transform, parameter_counts, tensors};
