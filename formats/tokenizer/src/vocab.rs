//! The vocabulary of a byte-level BPE tokenizer, as metadata.

use crate::error::quoted;
use crate::{alphabet, keys, merges};
use pythia_gguf::{Error, Metadata};
use std::collections::HashMap;

/// The kind of a token. The discriminant is its value in `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum TokenKind {
    /// Text, in the byte-level alphabet.
    Normal = 1,
    /// Stands for text that has no token.
    Unknown = 2,
    /// Special: recognised in text only if special tokens are, and not shown.
    Control = 3,
    /// Added after training: plain text that is matched before BPE.
    UserDefined = 4,
    /// An unused id.
    Unused = 5,
    /// A single byte, written `<0x0A>`.
    Byte = 6,
}

impl TokenKind {
    /// Every kind, by ascending id.
    pub const ALL: &[Self] = &[Self::Normal, Self::Unknown, Self::Control, Self::UserDefined, Self::Unused, Self::Byte];

    /// Its value in `tokenizer.ggml.token_type`.
    pub const fn id(self) -> i32 {
        self as i32
    }

    /// The kind of this value.
    pub fn from_id(id: i32) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.id() == id)
    }
}

/// Everything the metadata says about the tokenizer.
#[derive(Clone, Debug, PartialEq)]
pub struct Vocab {
    /// Token texts by id; those of normal tokens in the byte-level alphabet of GPT-2.
    pub tokens: Vec<String>,
    /// Kind of each token.
    pub kinds: Vec<TokenKind>,
    /// BPE merges by rank: two pieces with a space between.
    pub merges: Vec<String>,
    /// The token that begins a text.
    pub bos: Option<u32>,
    /// The token that ends a text.
    pub eos: Option<u32>,
    /// The token for unknown text.
    pub unk: Option<u32>,
    /// Name of the rule that splits text before BPE.
    pub pre: String,
    /// Settings that llama.cpp's keys cannot express.
    pub extras: TokenizerExtras,
    /// The whole `tokenizer.json` from which the rest was made, if the file embeds it. If present, it is used to encode
    /// text.
    pub huggingface_json: Option<String>,
}

/// Settings of a tokenizer that llama.cpp's keys cannot express. Keys of this project hold them if they are not the
/// defaults. Ids are in ascending order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenizerExtras {
    /// Whether text is not normalized to NFC: [`keys::NORMALIZER`].
    pub unnormalized: bool,
    /// [`keys::LSTRIP`].
    pub lstrip: Vec<u32>,
    /// [`keys::RSTRIP`].
    pub rstrip: Vec<u32>,
    /// [`keys::SINGLE_WORD`].
    pub single_word: Vec<u32>,
    /// [`keys::OTHER_TEXT`].
    pub other_text: Vec<u32>,
}

impl TokenizerExtras {
    fn lists(&self) -> [(&'static str, &Vec<u32>); 4] {
        [
            (keys::LSTRIP, &self.lstrip),
            (keys::RSTRIP, &self.rstrip),
            (keys::SINGLE_WORD, &self.single_word),
            (keys::OTHER_TEXT, &self.other_text),
        ]
    }

    fn to_metadata(&self, metadata: &mut Metadata) {
        if self.unnormalized {
            metadata.insert(keys::NORMALIZER, NO_NORMALIZER);
        }
        for (key, ids) in self.lists().into_iter().filter(|(_, ids)| !ids.is_empty()) {
            metadata.insert(key, ids.iter().map(|&id| id as i32).collect::<Vec<i32>>());
        }
    }

    fn from_metadata(metadata: &Metadata, n_tokens: usize) -> Result<Self, Error> {
        let unnormalized = match metadata.str(keys::NORMALIZER)? {
            None => false,
            Some(NO_NORMALIZER) => true,
            Some(other) => {
                return Err(Error::key(keys::NORMALIZER, quoted(other), format!("'{NO_NORMALIZER}' or no such key")));
            }
        };
        let ids = |key| -> Result<Vec<u32>, Error> {
            let ids = metadata.i32s(key)?.unwrap_or_default();
            let in_range = |&id: &i32| usize::try_from(id).is_ok_and(|id| id < n_tokens);
            if let Some(id) = ids.iter().find(|id| !in_range(id)) {
                return Err(Error::key(key, id.to_string(), format!("ids below {n_tokens}")));
            }
            if !ids.is_sorted_by(|a, b| a < b) {
                return Err(Error::key(key, "ids out of order", "each id once, in ascending order"));
            }
            Ok(ids.into_iter().map(|id| id as u32).collect())
        };
        Ok(Self {
            unnormalized,
            lstrip: ids(keys::LSTRIP)?,
            rstrip: ids(keys::RSTRIP)?,
            single_word: ids(keys::SINGLE_WORD)?,
            other_text: ids(keys::OTHER_TEXT)?,
        })
    }
}

/// The value of [`keys::NORMALIZER`].
const NO_NORMALIZER: &str = "none";

/// The only kind of tokenizer this project reads: byte-level BPE.
const MODEL: &str = "gpt2";

/// Values of `tokenizer.ggml.pre` for the splitting rule of GPT-2, which is also Pythia's. llama.cpp has the same regex
/// for all of these. Its converter wrote `default` for any tokenizer that it did not recognise, and older files may
/// have an empty name. No other rule was ever used with this architecture.
pub const GPT2_PRE_TOKENIZERS: &[&str] =
    &["olmo", "gpt-2", "mpt", "phi-2", "jais", "trillion", "granite-docling", "default", ""];

/// The rule of files without `tokenizer.ggml.pre`. The key was added later, and this was the only rule before.
const DEFAULT_PRE: &str = "gpt-2";

/// Maximum length of a token. llama.cpp uses 32-bit lengths.
const MAX_TOKEN_BYTES: usize = 65535;
/// Maximum number of tokens in a vocabulary, and of rows in the model's vocabulary matrices. Twice the largest existing
/// ones; a token takes some 400 bytes of memory.
pub(crate) const LIMIT_TOKENS: usize = 1 << 18;
/// Maximum number of merges. Vocabularies that were converted from other forms have two merges per token.
const MAX_MERGES: usize = 1 << 19;
/// Maximum size of all tokens, and of all merges, in bytes. Pythia's have half a million.
const MAX_TEXT_BYTES: usize = 8 << 20;
/// Maximum size of all added tokens, in bytes. The automaton that finds them in texts takes some hundred times that.
const MAX_ADDED_BYTES: usize = 128 << 10;

impl Vocab {
    /// Sets the `tokenizer.*` keys. No scores: byte-level BPE has none.
    ///
    /// # Errors
    /// As [`check`](Self::check), because nothing is written that cannot be read back.
    pub fn to_metadata(&self, metadata: &mut Metadata) -> Result<(), Error> {
        self.check()?;
        metadata.insert(keys::TOKENIZER_MODEL, MODEL);
        metadata.insert(keys::TOKENIZER_PRE, self.pre.as_str());
        metadata.insert(keys::TOKENS, self.tokens.clone());
        metadata.insert(keys::TOKEN_TYPE, self.kinds.iter().map(|k| k.id()).collect::<Vec<i32>>());
        metadata.insert(keys::MERGES, self.merges.clone());
        for (key, id) in [(keys::BOS, self.bos), (keys::EOS, self.eos), (keys::UNK, self.unk)] {
            if let Some(id) = id {
                metadata.insert(key, id);
            }
        }
        metadata.insert(keys::ADD_BOS, false);
        metadata.insert(keys::ADD_EOS, false);
        self.extras.to_metadata(metadata);
        if let Some(json) = &self.huggingface_json {
            metadata.insert(keys::HUGGINGFACE_JSON, json.as_str());
        }
        Ok(())
    }

    /// Reads and checks the `tokenizer.*` keys, of this project's files or llama.cpp's.
    ///
    /// # Errors
    /// If the tokenizer is of another kind, or the tokens, kinds, merges and ids do not fit together: see
    /// [`check`](Self::check).
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, Error> {
        match metadata.str(keys::TOKENIZER_MODEL)? {
            Some(MODEL) => {}
            Some(other) => return Err(Error::key(keys::TOKENIZER_MODEL, quoted(other), format!("'{MODEL}'"))),
            None => return Err(Error::missing_key(keys::TOKENIZER_MODEL, format!("'{MODEL}'"))),
        }
        for key in [keys::ADD_BOS, keys::ADD_EOS] {
            if metadata.bool(key)? == Some(true) {
                return Err(Error::key(key, "true", "false: GPT-NeoX adds no tokens to a text"));
            }
        }
        let strings = |key| metadata.strings(key)?.ok_or_else(|| Error::missing_key(key, "an array of strings"));
        let (tokens, merges) = (strings(keys::TOKENS)?, strings(keys::MERGES)?);
        // Checked before anything is copied.
        check_sizes(tokens, merges)?;
        let vocab = Self {
            kinds: read_kinds(metadata, tokens.len())?,
            merges: merges.to_vec(),
            bos: metadata.u32(keys::BOS)?,
            eos: metadata.u32(keys::EOS)?,
            unk: metadata.u32(keys::UNK)?,
            pre: metadata.str(keys::TOKENIZER_PRE)?.unwrap_or(DEFAULT_PRE).to_owned(),
            extras: TokenizerExtras::from_metadata(metadata, tokens.len())?,
            huggingface_json: metadata.str(keys::HUGGINGFACE_JSON)?.map(str::to_owned),
            tokens: tokens.to_vec(),
        };
        check_scores(metadata, vocab.tokens.len())?;
        vocab.check()?;
        Ok(vocab)
    }

    /// Checks consistency: as many kinds as tokens, no two equal tokens, merges of tokens into tokens, ids in range, a
    /// known splitting rule, and the size limits. Without an embedded `tokenizer.json`, also checks that any text can
    /// be encoded: there must be a token for each byte that UTF-8 uses.
    ///
    /// # Errors
    /// Names the key and the token or merge.
    pub fn check(&self) -> Result<(), Error> {
        check_sizes(&self.tokens, &self.merges)?;
        let ids = self.check_tokens()?;
        self.check_added_tokens()?;
        self.check_merges(&ids)?;
        for (key, id) in [(keys::BOS, self.bos), (keys::EOS, self.eos), (keys::UNK, self.unk)] {
            if let Some(id) = id.filter(|&id| id as usize >= self.tokens.len()) {
                return Err(Error::key(key, id.to_string(), format!("an id below {}", self.tokens.len())));
            }
        }
        if !GPT2_PRE_TOKENIZERS.contains(&self.pre.as_str()) {
            let names: Vec<_> = GPT2_PRE_TOKENIZERS.iter().map(|name| quoted(name)).collect();
            return Err(Error::key(keys::TOKENIZER_PRE, quoted(&self.pre), format!("one of {}", names.join(", "))));
        }
        if let Some(json) = &self.huggingface_json {
            return Self::check_json(json);
        }
        match alphabet::missing_letter(|letter| ids.contains_key(letter)) {
            Some((byte, letter)) => {
                let found = format!("no token for byte {byte:#04x}, '{letter}'");
                Err(Error::key(keys::TOKENS, found, "one for each byte that UTF-8 uses"))
            }
            None => Ok(()),
        }
    }

    /// Ids by text.
    fn check_tokens(&self) -> Result<HashMap<&str, usize>, Error> {
        if self.tokens.is_empty() {
            return Err(Error::key(keys::TOKENS, "no tokens", "at least one"));
        }
        if self.kinds.len() != self.tokens.len() {
            return Err(kinds_mismatch(self.kinds.len(), self.tokens.len()));
        }
        let mut ids = HashMap::with_capacity(self.tokens.len());
        for (id, (token, kind)) in self.tokens.iter().zip(&self.kinds).enumerate() {
            if token.len() > MAX_TOKEN_BYTES {
                let found = format!("token {id} of {} bytes", token.len());
                return Err(Error::key(keys::TOKENS, found, format!("at most {MAX_TOKEN_BYTES}")));
            }
            if *kind == TokenKind::Byte && !is_byte_token(token) {
                let found = format!("token {id}, {}, of kind byte", quoted(token));
                return Err(Error::key(keys::TOKENS, found, "'<0x00>' to '<0xFF>'"));
            }
            if let Some(first) = ids.insert(token.as_str(), id) {
                let found = format!("tokens {first} and {id} both {}", quoted(token));
                return Err(Error::key(keys::TOKENS, found, "distinct tokens"));
            }
        }
        Ok(ids)
    }

    /// Checks the size of the added tokens, because they become an automaton whose size depends on their bytes.
    fn check_added_tokens(&self) -> Result<(), Error> {
        let is_added = |kind: &TokenKind| matches!(kind, TokenKind::Control | TokenKind::UserDefined);
        let added = self.tokens.iter().zip(&self.kinds).filter(|(_, kind)| is_added(kind));
        Self::check_added_bytes(keys::TOKENS, added.map(|(token, _)| token.len()).sum())
    }

    /// Checks that a `tokenizer.json` is within the limit for reading one.
    ///
    /// # Errors
    /// Names the key that embeds it.
    pub(crate) fn check_json(json: &str) -> Result<(), Error> {
        pythia_json::check(json, pythia_json::LIMIT_VALUES)
            .map_err(|found| Error::key(keys::HUGGINGFACE_JSON, found, "a smaller tokenizer.json"))
    }

    /// Checks the total size of the added tokens that `key` lists: tokens of such kinds, or those of an embedded
    /// `tokenizer.json`.
    ///
    /// # Errors
    /// Names the key.
    pub(crate) fn check_added_bytes(key: &str, n_bytes: usize) -> Result<(), Error> {
        if n_bytes <= MAX_ADDED_BYTES {
            return Ok(());
        }
        Err(Error::key(key, format!("added tokens of {n_bytes} bytes"), format!("at most {MAX_ADDED_BYTES} of them")))
    }

    fn check_merges(&self, ids: &HashMap<&str, usize>) -> Result<(), Error> {
        let mut whole = String::new();
        for (rank, merge) in self.merges.iter().enumerate() {
            let found = || format!("merge {rank}, {}", quoted(merge));
            let Some((left, right)) = merges::halves(merge) else {
                return Err(Error::key(keys::MERGES, found(), "two pieces with one space between"));
            };
            if let Some(unknown) = merges::no_token(left, right, &mut whole, |piece| ids.contains_key(piece)) {
                let wanted = format!("tokens only, {} is none", quoted(&unknown));
                return Err(Error::key(keys::MERGES, found(), wanted));
            }
        }
        Ok(())
    }
}

/// Checks the size limits of tokens and merges.
fn check_sizes(tokens: &[String], merges: &[String]) -> Result<(), Error> {
    for (key, texts, limit) in [(keys::TOKENS, tokens, LIMIT_TOKENS), (keys::MERGES, merges, MAX_MERGES)] {
        if texts.len() > limit {
            return Err(Error::key(key, texts.len().to_string(), format!("at most {limit}")));
        }
        let n_bytes: usize = texts.iter().map(String::len).sum();
        if n_bytes > MAX_TEXT_BYTES {
            return Err(Error::key(key, format!("{n_bytes} bytes of text"), format!("at most {MAX_TEXT_BYTES}")));
        }
    }
    Ok(())
}

/// The kinds of `n` tokens; all normal if the key is absent.
fn read_kinds(metadata: &Metadata, n: usize) -> Result<Vec<TokenKind>, Error> {
    let Some(ids) = metadata.i32s(keys::TOKEN_TYPE)? else { return Ok(vec![TokenKind::Normal; n]) };
    let kind = |(token, &id): (usize, &i32)| {
        TokenKind::from_id(id)
            .ok_or_else(|| Error::key(keys::TOKEN_TYPE, format!("kind {id} of token {token}"), "a kind from 1 to 6"))
    };
    // Checked before the values, so that the message is about the length if both are wrong.
    if ids.len() != n {
        return Err(kinds_mismatch(ids.len(), n));
    }
    ids.iter().enumerate().map(kind).collect()
}

fn kinds_mismatch(kinds: usize, tokens: usize) -> Error {
    Error::key(keys::TOKEN_TYPE, format!("{kinds} kinds"), format!("{tokens}, one for each token"))
}

/// BPE does not use scores, but wrong ones show that the file is damaged.
fn check_scores(metadata: &Metadata, n: usize) -> Result<(), Error> {
    use pythia_gguf::{Array, Value};
    match metadata.get(keys::SCORES) {
        None => Ok(()),
        Some(Value::Array(Array::F32(scores))) if scores.len() == n => Ok(()),
        Some(other) => Err(Error::key(keys::SCORES, other.describe(), format!("array of {n} f32"))),
    }
}

fn is_byte_token(token: &str) -> bool {
    let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|d| d.len() == 2 && d.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests;
