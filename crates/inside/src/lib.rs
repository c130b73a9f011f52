//! The inside of a running model.
//!
//! - [`Selection`]: which hooks are meant, in the spellings of TransformerLens, Hugging Face and sparsify.
//! - [`run_with_cache`]: a pass over some tokens, and the values at the hooks that were selected.
//! - [`Changes`]: heads and MLPs taken away, vectors added, values of another run put in. [`Changes::of`] a model is a model,
//!   so that all that can be computed with a model can be computed with a changed one.
//! - [`lens`]: what every layer would predict, if it were the last.
//! - [`attention`]: patterns of heads, and what they are like.
//! - [`damage`]: what quantization changes inside, and in which block.
//! - [`export`]: the values at these hooks for texts of any length, in files.

#![forbid(unsafe_code)]

pub mod attention;
mod cache;
mod change;
pub mod damage;
mod error;
pub mod export;
pub mod lens;
pub mod list;
mod means;
mod select;
#[cfg(test)]
mod toy;

pub use cache::{Array, Cache, run_with_cache};
pub use change::{Ablation, Change, Changes, Reach, SteeringVectors, control_vectors, patches, steering_vectors};
pub use error::Error;
pub use means::{mean_of, mean_over};
pub use select::{Selection, modules};
