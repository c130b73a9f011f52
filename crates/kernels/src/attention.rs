//! The key-value cache and causal attention over it.
//!
//! Keys are stored 16 positions to a tile, dimension by dimension, so that a lane is a key: a score is one chain of
//! fused multiply-adds over the dimensions, ascending, and needs no sum across lanes. Values are stored position by
//! position, so that a lane is a dimension: an output is one chain over the keys, ascending. Neither order depends on
//! how many queries are worked on together.

mod append;
mod attend;
mod cache;
#[cfg(test)]
mod tests;

pub use append::Append;
pub use attend::Attend;
pub use cache::{KvCache, KvShape, KvType};
