//! Metadata keys of a tokenizer: those of GGUF, and those of this project for what GGUF's cannot express.

pub use pythia_gguf::keys::{
    ADD_BOS, ADD_EOS, BOS, EOS, HUGGINGFACE_JSON, MERGES, SCORES, TOKEN_TYPE, TOKENIZER_MODEL, TOKENIZER_PRE, TOKENS,
    UNK,
};

/// String: `none` if text is not normalized; if absent, text is normalized to NFC. This key and the four below are of
/// this project, because llama.cpp has no such keys.
pub const NORMALIZER: &str = "pythia_quant.tokenizer.normalizer";
/// Ids of the added tokens that include white space on their left, i32s; none if absent.
pub const LSTRIP: &str = "pythia_quant.tokenizer.lstrip";
/// Ids of the added tokens that include white space on their right, i32s.
pub const RSTRIP: &str = "pythia_quant.tokenizer.rstrip";
/// Ids of the added tokens that are recognised only as whole words, i32s.
pub const SINGLE_WORD: &str = "pythia_quant.tokenizer.single_word";
/// Ids of the added tokens that are not matched in the text that their kind implies, i32s: control tokens that are
/// matched in normalized text, and tokens of the user that are matched in the original text.
pub const OTHER_TEXT: &str = "pythia_quant.tokenizer.other_text";
