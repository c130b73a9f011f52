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
    /// Where the weights lie on the processor.
    pub residence: Residence,
    /// Memory that is available to the files, on the processor; `None` for enough. Of larger files a part stays in memory,
    /// and other weights leave it as soon as a pass has used them. Left to itself, the system would drop those that were
    /// not used for the longest time, which the next pass needs first, and no page would ever be there twice.
    pub available_bytes: Option<u64>,
}

/// Where the weights of a model lie while the processor runs it. Results are the same.
#[derive(Clone, Debug, Default)]
pub enum Residence {
    /// In the mapped files, whose pages the system can drop when memory is short.
    #[default]
    Mapped,
    /// In a copy that is made when the model is opened, in large pages where the system has them. There, most quantized types
    /// are arranged as products read them fastest. Its bytes count for [`memory`](Options::memory).
    Copied,
    /// In a copy if products read it faster, if this budget has room for it, and if it takes no more than half of the
    /// [available memory](Options::available_bytes); in the mapped files otherwise. [`Options::memory`] is not asked.
    Within(Arc<Budget>),
}
