//! The inside of a running model.
//!
//! - [`Selection`]: which hooks are meant, in the spellings of TransformerLens, Hugging Face and sparsify.
//! - [`run_with_cache`]: a pass over some tokens, and the values at the hooks that were selected.

#![forbid(unsafe_code)]

mod cache;
mod error;
mod select;

pub use cache::{Array, Cache, run_with_cache};
pub use error::Error;
pub use select::{Selection, modules};
