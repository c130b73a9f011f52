//! Tokenizer, sampling, generation and evaluation over a model.
//!
//! - [`Tokenizer`]: text to token ids and back, exactly as Hugging Face's `tokenizers` does it, from what a GGUF holds.
//! - [`Text`], [`TextReader`] and [`TokenStream`]: a text of any length, read and tokenized as far as it is needed.
//! - [`Sampler`]: which token comes next, by the rules and in the order of transformers' `generate`.
//! - [`generate()`]: a prompt continued, its text handed on as it appears.
//! - [`eval`]: perplexity of a text under a named protocol, and the distance of one file from another.
//! - [`device`]: where a model runs; [`machine`]: what the system tells about that place.

mod arithmetic;
pub mod device;
mod error;
pub mod eval;
mod generate;
pub mod machine;
mod rng;
mod sampler;
mod stop;
mod text;
mod tokenizer;
mod tokens;

pub use arithmetic::{Arithmetic, parse_activations, parse_gelu, parse_kv};
pub use device::Device;
pub use error::Error;
pub use generate::{Finish, GenerateOptions, Generation, Timings, generate};
pub use rng::Rng;
pub use sampler::{Sampler, Sampling};
pub use text::{Text, TextForm, TextReader};
pub use tokenizer::{TextStream, Tokenizer};
pub use tokens::TokenStream;
