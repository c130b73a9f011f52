//! The byte-level BPE tokenizers of Pythia models: text to token ids and back.
//!
//! A tokenizer comes in two forms. Hugging Face folders have [files](TokenizerFile), above all `tokenizer.json`; GGUF
//! files have the keys `tokenizer.ggml.*`, and may embed the `tokenizer.json` too. Both become a [`Vocab`], and a [`Vocab`]
//! becomes a [`Tokenizer`].
//!
//! ```no_run
//! use pythia_tokenizer::{ForModel, Tokenizer, TokenizerFile};
//!
//! let model = ForModel { n_vocab: 50304, bos: None, eos: None };
//! let file = TokenizerFile::find("pythia-70m".as_ref(), &model)?.expect("a folder with a tokenizer");
//! let tokenizer = Tokenizer::from_vocab(&file.vocab)?;
//! let ids = tokenizer.encode("Hello world")?;
//! assert_eq!(tokenizer.decode(&ids, true), "Hello world");
//! # Ok::<(), pythia_tokenizer::Error>(())
//! ```
//!
//! What is done is what the `tokenizers` library does with these settings: text in NFC or as it is, the split of GPT-2,
//! merges over bytes, and added tokens. Other settings that change ids are refused by name. `truncation` and `padding`
//! are ignored, because training scripts leave them behind. So are `trim_offsets` and the decoder's settings, on which
//! no id depends.

#![forbid(unsafe_code)]

mod added;
mod alphabet;
mod document;
mod error;
mod huggingface;
pub mod keys;
mod merges;
mod tokenizer;
mod vocab;

pub use alphabet::byte_char;
pub use error::Error;
pub use huggingface::{ForModel, TokenizerFile};
pub use tokenizer::{MAX_SEGMENT_BYTES, Segments, TextStream, Tokenizer};
pub use vocab::{GPT2_PRE_TOKENIZERS, TokenKind, TokenizerExtras, Vocab};

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
