//! `tokenizer.json` and the special tokens named beside it.
//!
//! The file itself is kept whole: the runtime tokenizes with it. What is taken out here is what the GGUF vocabulary
//! keys need, so anything those keys cannot express is refused.

mod beyond;
mod byte_level;
mod document;
mod special;
mod vocab_files;

pub use byte_level::byte_char;

use crate::config::Config;
use crate::error::Error;
use crate::files::read_text;
use std::path::Path;

const TOKENIZER_LIMIT_BYTES: u64 = pythia_json::LIMIT_BYTES as u64;

/// What a token is. The discriminant is the GGUF token type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TokenKind {
    /// A piece of the BPE vocabulary.
    Normal = 1,
    /// An added token with a meaning of its own, as `<|endoftext|>`; not part of any text.
    Control = 3,
    /// An added token that is text, as Pythia's runs of spaces.
    UserDefined = 4,
    /// A row of the embedding that no text reaches.
    Unused = 5,
}

/// Ids of added tokens, ascending, that are not matched in the text as is usual for their kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matching {
    /// They swallow white space on their left.
    pub lstrip: Vec<u32>,
    /// They swallow white space on their right.
    pub rstrip: Vec<u32>,
    /// They are recognised only as whole words.
    pub single_word: Vec<u32>,
    /// Special ones that are looked for in the normalized text, others that are looked for in the text as it is.
    pub other_text: Vec<u32>,
}

/// A byte-level BPE tokenizer.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenizerFile {
    /// The text of `tokenizer.json`, unchanged but for what is [left out](Self::left_out); without that file, what
    /// Transformers makes of `vocab.json` and `merges.txt`.
    pub json: String,
    /// The tokens by id, as many as the embedding has rows. BPE pieces are in GPT-2's byte-level spelling (`Ġthe`),
    /// added tokens are plain text, ids without a token are `[PADn]`.
    pub tokens: Vec<String>,
    /// What each token is; as long as `tokens`.
    pub kinds: Vec<TokenKind>,
    /// The merges by rank: `left right`.
    pub merges: Vec<String>,
    /// Whether text is put in NFC first, as Pythia's tokenizer does.
    pub normalizes: bool,
    /// How added tokens are matched, where that is not as usual.
    pub matching: Matching,
    /// The token that begins a text, if one is named.
    pub bos: Option<u32>,
    /// The token that ends a text, if one is named.
    pub eos: Option<u32>,
    /// The token for what has none, if one is named.
    pub unk: Option<u32>,
    /// Ids and texts of added tokens beyond the embedding, which are neither in `tokens` nor in `json`.
    pub left_out: Vec<(u32, String)>,
}

impl TokenizerFile {
    /// Reads `path` (`tokenizer.json`) and, if it exists, `special_path` (`tokenizer_config.json`). The vocabulary is
    /// padded to the config's size.
    ///
    /// # Errors
    /// If a file cannot be read, is not a byte-level BPE tokenizer, contradicts itself, or has more tokens than the
    /// model.
    pub fn open(path: &Path, special_path: &Path, config: &Config) -> Result<Self, Error> {
        let mut tokenizer = Self::parse(path, read_text(path, TOKENIZER_LIMIT_BYTES)?, config.n_vocab)?;
        let special_text = match special_path.exists() {
            true => read_text(special_path, TOKENIZER_LIMIT_BYTES)?,
            false => "{}".to_owned(),
        };
        let named = special::Named::parse(special_path, &special_text)?;
        tokenizer.name_special(special_path, named, config)?;
        Ok(tokenizer)
    }
}
