//! Tokenizer, sampling, generation and evaluation over a model.
//!
//! - [`Tokenizer`]: converts text to token ids and back, exactly like Hugging Face's `tokenizers`.
//! - [`Text`], [`TextReader`] and [`TokenStream`]: a text of any length, read and tokenized as far as needed.
//! - [`Sampler`]: chooses the next token, with the rules and the order of transformers' `generate`.
//! - [`Generator`]: continues a text token by token, separate from the model's passes.
//! - [`Scheduler`]: passes that several generators share.
//! - [`generate()`]: continues a prompt and returns its text as it appears.
//! - [`draft`]: several tokens per pass, guessed by a smaller model or from the text itself, without a change of the text.
//! - [`engine`]: many prompts at once, each continued or scored as if it were alone: what a server needs.
//! - [`eval`]: perplexity of a text under a named protocol, and the divergence of one file from another.
//! - [`score`]: log-likelihoods of many continuations after their contexts, and continuations of many prompts.
//! - [`whole`]: logits and log-likelihoods of all tokens of a text.
//! - [`device`]: the device that a model runs on; [`machine`]: facts from the system about it.

mod arithmetic;
pub mod device;
pub mod draft;
pub mod engine;
mod error;
pub mod eval;
mod generate;
mod generator;
pub mod machine;
mod rng;
mod sampler;
mod scheduler;
pub mod score;
mod stop;
mod text;
mod tokens;
pub mod whole;

pub use arithmetic::{Arithmetic, parse_activations, parse_gelu, parse_kv};
pub use device::Device;
pub use error::Error;
pub use generate::{Generation, Timings, generate, prompt};
pub use generator::{Finish, GenerateOptions, Generator};
pub use pythia_tokenizer::{TextStream, Tokenizer};
pub use rng::Rng;
pub use sampler::{Distribution, Sampler, Sampling};
pub use scheduler::Scheduler;
pub use text::{Text, TextForm, TextReader, ids_of_json};
pub use tokens::TokenStream;
