//! Converts a checkpoint or a GGUF file to GGUF files of other types: recipe, plan and one streaming pass.
//!
//! A [`Source`] is opened; then
//!
//! 1. [`recipe`] chooses the type of every tensor at a [`Level`]: llama.cpp's mixes, then the user's options.
//! 2. [`plan()`] computes from an open source and a [`Request`], per level, the metadata, the exact position of every
//!    tensor, and warnings. It writes nothing, so it is also the dry run.
//! 3. [`run()`] reads the weights once for all levels. One thread reads chunks of rows ahead. The pool widens each
//!    chunk to f32 in a buffer that stays in cache, encodes it for every level and writes it to its planned position.
//!    Before that, a [`Quantizer`] may round tensors its own way.
//! 4. [`output`] makes a file appear whole or not at all.
//!
//! The bytes depend only on the source and the request, not on threads, machine or time.
//!
//! Existing files can be [compared](diff()), [verified](verify()) by themselves and against their source, and converted
//! [back to a checkpoint](dequantize()).

#![forbid(unsafe_code)]

mod budget;
mod decode;
pub mod dequantize;
mod deviation;
pub mod diff;
mod digest;
mod error;
mod file;
mod imatrix;
pub mod metadata;
pub mod output;
mod pipeline;
pub mod plan;
pub mod provenance;
mod qkv;
mod quantizer;
pub mod recipe;
pub mod run;
mod source;
mod targets;
pub mod verify;
mod wanted;

pub use budget::Budget;
pub use decode::read_f32;
pub use dequantize::dequantize;
pub use deviation::Deviation;
pub use diff::diff;
pub use digest::Digests;
pub use error::Error;
pub use file::{GgufFile, Part};
pub use imatrix::ImatrixFile;
pub use pipeline::PassOptions;
pub use plan::{FilePlan, Plan, Request, plan};
pub use provenance::Provenance;
pub use quantizer::{QuantizeJob, Quantizer};
pub use recipe::{Level, Recipe, TypeRule};
pub use run::{RunOptions, Written, WrittenFile, run};
pub use source::{CheckpointSource, GgufSource, LoraFacts, LoraSource, Source, SourceTensor, model_name};
pub use targets::Targets;
pub use verify::verify;
pub use wanted::{check_checkpoint, check_file, check_gguf, is_gguf};
