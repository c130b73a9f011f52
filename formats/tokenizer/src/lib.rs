//! The byte-level BPE tokenizers of Pythia models.

#![forbid(unsafe_code)]

mod alphabet;
pub mod keys;
mod vocab;

pub use vocab::{GPT2_PRE_TOKENIZERS, TokenKind, TokenizerExtras, Vocab};

/// Text from a file for a message: in quotes, escaped, cut to 80 characters.
fn quoted(text: &str) -> String {
    pythia_text::quoted(text, '\'', 80)
}
