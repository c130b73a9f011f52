//! Names of the metadata keys of a tokenizer: those of GGUF, and those of this project that say what GGUF cannot.

pub use pythia_gguf::keys::{
    ADD_BOS, ADD_EOS, BOS, EOS, HUGGINGFACE_JSON, MERGES, SCORES, TOKEN_TYPE, TOKENIZER_MODEL, TOKENIZER_PRE, TOKENS,
    UNK,
};

/// `none` where text is not normalized before it is tokenized, string; absent, it is put in NFC. This key and the four
/// below are of this project: llama.cpp's keys cannot say it.
pub const NORMALIZER: &str = "pythia_quant.tokenizer.normalizer";
/// Ids of the added tokens that swallow white space on their left, i32s; absent, there are none.
pub const LSTRIP: &str = "pythia_quant.tokenizer.lstrip";
/// Ids of the added tokens that swallow white space on their right, i32s.
pub const RSTRIP: &str = "pythia_quant.tokenizer.rstrip";
/// Ids of the added tokens that are recognised only as whole words, i32s.
pub const SINGLE_WORD: &str = "pythia_quant.tokenizer.single_word";
/// Ids of the added tokens that are looked for in the other text than their kind implies, i32s: control tokens in the
/// normalized text, tokens of the user in the text as it is.
pub const OTHER_TEXT: &str = "pythia_quant.tokenizer.other_text";
