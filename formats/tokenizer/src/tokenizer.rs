//! Converts text to token ids and back.
//!
//! This uses Hugging Face's `tokenizers` crate. It is set up from the `tokenizer.json` embedded in the file, or, for
//! files of other tools, from the `tokenizer.ggml.*` keys. Both give the same ids: a file in which they differ is
//! refused.

mod agree;
mod embedded;
mod rebuild;
mod segments;
mod stream;

pub use segments::{MAX_SEGMENT_BYTES, Segments};
pub use stream::TextStream;

use crate::added::AddedToken;
use crate::error::one_line;
use crate::{Error, TokenKind, Vocab, alphabet, keys};
use pythia_gguf::Metadata;
use tokenizers::models::bpe::{BPE, BpeBuilder};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

/// A byte-level BPE tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    pieces: Vec<Piece>,
    segments: Segments,
    bos: Option<u32>,
    eos: Option<u32>,
}

/// An entry of the vocabulary. An unused id has no bytes.
#[derive(Clone, Debug, Default)]
struct Piece {
    bytes: Box<[u8]>,
    special: bool,
}

impl Tokenizer {
    /// The tokenizer of a GGUF file: from its `tokenizer.json` if there is one, otherwise from the GGUF keys.
    ///
    /// # Errors
    /// If both are missing or invalid, or if they disagree.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, Error> {
        Self::from_checked(&Vocab::from_metadata(metadata)?)
    }

    /// As [`Tokenizer::from_gguf`], from a vocabulary.
    ///
    /// # Errors
    /// As [`Tokenizer::from_gguf`], and as [`Vocab::check`].
    pub fn from_vocab(vocab: &Vocab) -> Result<Self, Error> {
        vocab.check()?;
        Self::from_checked(vocab)
    }

    /// From a vocabulary that has passed [`Vocab::check`], which bounds its size.
    fn from_checked(vocab: &Vocab) -> Result<Self, Error> {
        match &vocab.huggingface_json {
            Some(json) => Self::new(embedded::tokenizer(json, vocab)?, vocab, keys::HUGGINGFACE_JSON),
            None => Self::rebuilt(vocab),
        }
    }

    /// From the GGUF keys alone, even if the file embeds a `tokenizer.json`.
    ///
    /// # Errors
    /// If the tokens and merges do not fit together, or the pre-tokenizer is not the one of GPT-2.
    pub fn rebuilt(vocab: &Vocab) -> Result<Self, Error> {
        Self::new(rebuild::tokenizer(vocab)?, vocab, keys::TOKENS)
    }

    /// The `tokenizer.json` of a vocabulary: the embedded one, or one that gives the same ids.
    ///
    /// # Errors
    /// As [`Tokenizer::from_vocab`], and if the result exceeds the limit for a `tokenizer.json`.
    pub fn json(vocab: &Vocab) -> Result<String, Error> {
        Self::from_vocab(vocab)?;
        match &vocab.huggingface_json {
            Some(json) => Ok(json.clone()),
            None => {
                let json = rebuild::tokenizer(vocab)?.to_string(true);
                let json = json.map_err(|e| Error::key(keys::TOKENS, one_line(&*e)))?;
                Vocab::check_json(&json)?;
                Ok(json)
            }
        }
    }

    fn new(inner: tokenizers::Tokenizer, vocab: &Vocab, key: &'static str) -> Result<Self, Error> {
        let pieces = pieces(&inner, vocab, key)?;
        let segments = Segments::of(&inner);
        Ok(Self { inner, pieces, segments, bos: vocab.bos, eos: vocab.eos })
    }

    /// Token ids of `text`. No special token is added. Special tokens in the text are recognised, as in transformers.
    /// Time and memory are linear in the length of the text.
    ///
    /// # Errors
    /// If the text has a word of more than 16 MiB, or the `tokenizers` crate fails. If the vocabulary lacks some of the
    /// 256 bytes and a token for unknown text, those bytes are dropped, as in Hugging Face.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        self.segments.split(text).try_for_each(|segment| self.encode_segment(segment?, &mut ids))?;
        Ok(ids)
    }

    /// Appends the ids of a segment between two [cuts](Segments::cut) of a text.
    ///
    /// # Errors
    /// If the `tokenizers` crate fails.
    pub fn encode_segment(&self, segment: &str, ids: &mut Vec<u32>) -> Result<(), Error> {
        let encoding = self.inner.encode_fast(segment, false).map_err(|e| Error::key(keys::TOKENS, one_line(&*e)))?;
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
    }

    /// The rules for cutting its texts.
    pub fn segments(&self) -> &Segments {
        &self.segments
    }

    /// Text of `ids`. Bytes that are not UTF-8 become U+FFFD. Ids outside the vocabulary are ignored.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let shown = ids.iter().filter(|&&id| !(skip_special && self.is_special(id)));
        let bytes: Vec<u8> = shown.flat_map(|&id| self.token_bytes(id)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Bytes of a token, possibly incomplete characters. Empty outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.pieces.get(id as usize).map_or(&[], |p| &p.bytes)
    }

    /// Whether this is a control token, such as the end of a text.
    pub fn is_special(&self, id: u32) -> bool {
        self.pieces.get(id as usize).is_some_and(|p| p.special)
    }

    /// One more than the highest token id. A model can have more rows, as padding.
    pub fn n_tokens(&self) -> usize {
        self.pieces.len()
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }
}

/// The vocabulary of `inner` by id, checked against the token list of the file.
fn pieces(inner: &tokenizers::Tokenizer, vocab: &Vocab, key: &'static str) -> Result<Vec<Piece>, Error> {
    let added = inner.get_added_tokens_decoder();
    let mut pieces = Vec::with_capacity(vocab.tokens.len());
    let (mut found, mut misused) = (0, None);
    for ((text, kind), id) in vocab.tokens.iter().zip(&vocab.kinds).zip(0..) {
        let is_there = inner.token_to_id(text) == Some(id);
        if is_there == (*kind == TokenKind::Unused) {
            misused.get_or_insert((id, text, is_there));
        }
        if is_there {
            found += 1;
            pieces.resize(id as usize, Piece::default());
            let special = added.get(&id).is_some_and(|token| token.special);
            pieces.push(Piece { bytes: alphabet::decode(text), special });
        }
    }
    if found != inner.get_vocab_size(true) {
        let listed = |id: u32| vocab.tokens.get(id as usize);
        let strays = inner.get_vocab(true).into_iter().filter(|(text, id)| listed(*id) != Some(text));
        if let Some((text, id)) = strays.min_by_key(|(_, id)| *id) {
            let listed = listed(id).map_or("nothing".to_owned(), |t| format!("{t:?}"));
            return Err(Error::key(key, format!("token {id} is {text:?}, {} has {listed} there", keys::TOKENS)));
        }
    }
    match misused {
        None => Ok(pieces),
        Some((id, text, true)) => {
            Err(Error::key(key, format!("has token {id}, {text:?}, by {} it is unused", keys::TOKEN_TYPE)))
        }
        Some((id, text, false)) => {
            Err(Error::key(key, format!("has no token {id}, {} has {text:?} there, in use", keys::TOKENS)))
        }
    }
}

/// The start of a model. Without the crate's cache of words: each thread would keep 10,000 of them, up to 80 MB, until it
/// ends, whoever sent them and even after the tokenizer is gone. Texts take at most half as long again without it.
fn builder() -> BpeBuilder {
    BpeBuilder::new().cache_capacity(0)
}

/// The pipeline of the GPT-NeoX tokenizer around a model. `key` is the one at fault.
fn assemble(
    model: BPE,
    normalizes: bool,
    added: impl IntoIterator<Item = AddedToken>,
    key: &'static str,
) -> Result<tokenizers::Tokenizer, Error> {
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    tokenizer.with_normalizer(normalizes.then_some(NFC)).map_err(|e| Error::key(key, one_line(&*e)))?;
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    // They get the ids of the entries with their texts.
    let added = added.into_iter().map(Into::<tokenizers::AddedToken>::into);
    tokenizer.add_tokens(added).map_err(|e| Error::key(key, one_line(&*e)))?;
    Ok(tokenizer)
}

#[cfg(test)]
mod tests;
