//! Tokenizer, sampling, generation and evaluation over a model.
//!
//! - [`Tokenizer`]: text to token ids and back, exactly as Hugging Face's `tokenizers` does it, from what a GGUF holds.
//! - [`Text`], [`TextReader`] and [`TokenStream`]: a text of any length, read and tokenized as far as it is needed.
//! - [`Sampler`]: which token comes next, by the rules and in the order of transformers' `generate`.
//! - [`Generator`]: a text continued token by token, apart from the model's passes.
//! - [`Scheduler`]: passes that several generators share.
//! - [`generate()`]: a prompt continued, its text handed on as it appears.
//! - [`eval`]: perplexity of a text under a named protocol, and the distance of one file from another.
//! - [`device`]: where a model runs; [`machine`]: what the system tells about that place.

mod arithmetic;
pub mod device;
mod error;
pub mod eval;
mod generate;
mod generator;
pub mod machine;
mod rng;
mod sampler;
mod scheduler;
mod stop;
mod text;
mod tokens;

pub use arithmetic::{Arithmetic, parse_activations, parse_gelu, parse_kv};
pub use device::Device;
pub use error::Error;
pub use generate::{Generation, Timings, generate};
pub use generator::{Finish, GenerateOptions, Generator};
pub use pythia_tokenizer::{TextStream, Tokenizer};
pub use rng::Rng;
pub use sampler::{Distribution, Sampler, Sampling};
pub use scheduler::Scheduler;
pub use text::{Text, TextForm, TextReader};
pub use tokens::TokenStream;
