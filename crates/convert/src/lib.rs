//! From checkpoint to GGUF: plan, recipe and one streaming pass.
//!
//! 1. [`recipe`] decides the type of every tensor at a [`Level`]: llama.cpp's mixes, then what the user asked for.
//! 2. [`plan()`] is pure: an open checkpoint and a [`Request`] become, per level, a metadata block, the exact place of
//!    every tensor, and the notes a user should see. Nothing is written, so it is also the dry run.
//! 3. [`run()`] reads the weights once for all levels: one thread reads chunks of rows ahead, the pool widens each to
//!    f32 in a buffer that stays in cache, encodes it for every level and writes it where the plan says.
//! 4. [`output`] makes a file appear whole or not at all.
//!
//! The bytes depend on the checkpoint and the request alone: not on threads, machine or time.

#![forbid(unsafe_code)]

mod digest;
mod error;
mod metadata;
pub mod output;
pub mod plan;
pub mod provenance;
mod qkv;
pub mod recipe;
pub mod run;

pub use error::{Error, ErrorKind};
pub use plan::{FilePlan, Plan, Request, plan};
pub use provenance::Provenance;
pub use recipe::{Level, Recipe, TypeRule};
pub use run::{Progress, RunOptions, Written, run};
