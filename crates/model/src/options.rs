//! How a model runs.

use crate::budget::Budget;
use pythia_kernels::{Activations, Gelu, IsaLevel, KvType};
use std::sync::Arc;

/// Tokens that go through a model in one call at most, unless a caller has a reason for another number: what
/// llama.cpp's tools do. More would hardly be faster, and activations grow with it.
pub const BATCH_TOKENS: usize = 512;

/// Choices made when a model is opened. The default is what gives Hugging Face's function fastest: int8 activations,
/// the file's GELU, an f16 cache, all processors and the best ISA.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Threads; 0 for as many as the process may use.
    pub threads: usize,
    /// ISA level; `None` for what `PYTHIA_ISA` names, else the best of this CPU.
    pub isa: Option<IsaLevel>,
    /// How activations enter products with quantized weights.
    pub activations: Activations,
    /// Which GELU; `None` for the file's own.
    pub gelu: Option<Gelu>,
    /// Element type of the key-value cache.
    pub kv: KvType,
    /// What contexts on the processor may take together; `None` for all that the system gives.
    pub memory: Option<Arc<Budget>>,
    /// Copies the files into memory when a model is opened for the processor, into large pages where the system has them,
    /// rather than using the weights where they lie in the mapped file. There most quantized types are arranged as products
    /// read them fastest. Opening takes longer, and the system cannot drop these pages: they count for [`memory`](Self::memory).
    pub in_memory: bool,
    /// For models larger than memory: how many bytes of the files can stay in it, on the processor. Weights behind them
    /// leave memory as soon as a pass has used them. Left to itself, the system would drop those that were not used for
    /// the longest time, which the next pass needs first, and no page would ever be there twice. `None` for all bytes.
    pub resident_bytes: Option<u64>,
}
