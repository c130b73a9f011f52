//! CPU kernels written once over a small set of ISA operations.
//!
//! One answer everywhere: for the same inputs, every operation here returns the same bits on every ISA level, with any
//! number of threads, and however rows are batched. `docs/numerics.md` in the repository states the order of every
//! sum. The layers, from the bottom:
//!
//! - the ISA operations: vectors of fixed width, scalar code as the oracle, the one dispatch;
//! - the block formats as the products see them: a file each, written once for all ISAs;
//! - matrix products, attention, LayerNorm, softmax;
//! - [`Cpu`]: an ISA level and a [`Team`] of threads, with a safe method per operation.

// Kernels walk several arrays by one index; iterators over one of them would hide that.
#![allow(clippy::needless_range_loop)]

mod attention;
mod codebook;
mod cpu;
mod dot;
mod element;
mod gemm;
mod interleave;
mod isa;
pub mod limits;
mod math;
mod matmul;
mod norm;
mod pointwise;
mod probabilities;
mod quantize;
mod rope;
mod shared;
mod softmax;
mod team;

pub use attention::{Attention, AttentionWeights, KvCache, KvShape, KvType, RowSpan};
pub use cpu::Cpu;
pub use gemm::{MatRef, Store};
pub use interleave::Layout;
pub use isa::{IsaError, IsaLevel};
pub use matmul::{Activations, Epilogue, Gelu, Matmul, Predict, Weights, Workspace};
pub use norm::{LayerNorm, LayerNormBackward};
pub use probabilities::SeenRows;
pub use rope::{RopeTable, Rotary};
pub use softmax::{LogSumPart, Prediction};
pub use team::Team;
