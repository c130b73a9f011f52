//! GPT-NeoX over a backend: weights, key-value cache, forward pass.
//!
//! ```no_run
//! use pythia_model::{ContextShape, Model, Options, Span};
//!
//! let model = Model::open("pythia-70m-Q8_0.gguf".as_ref(), &Options::default())?;
//! let mut context = model.context(ContextShape { n_seq: 1, n_ctx: 512, n_batch: 64 })?;
//! let mut sequence = context.sequence()?;
//! context.forward(&mut [Span { sequence: &mut sequence, tokens: &[450, 1169, 996] }])?;
//! let mut logits = vec![0.0; model.hparams().n_vocab];
//! context.logits(2..3, &mut logits)?; // of the last token
//! # Ok::<(), pythia_model::Error>(())
//! ```
//!
//! Logits have the same bits on every ISA, with any number of threads, and however tokens are split over calls of
//! [`Context::forward`].

mod arch;
pub mod backend;
mod budget;
mod context;
mod cpu;
mod error;
pub mod hook;
mod loaded;
mod model;
mod options;
mod sequence;
mod tap;

pub use budget::Budget;
pub use context::{Context, ContextShape, Span};
pub use cpu::CPU;
pub use error::Error;
pub use hook::{Edits, Hook, Hooks, Site, Values};
pub use model::{Model, Source, context_bytes, kv_bytes_per_token};
pub use options::{BATCH_TOKENS, Options, Residence};
pub use pythia_kernels::{Activations, Gelu, KvType, Prediction};
pub use sequence::Sequence;
