//! The vocabulary of a `tokenizer.json`, padded to the rows of a model.

use super::{TokenizerFile, beyond, in_file};
use crate::added::AddedToken;
use crate::alphabet::byte_of;
use crate::document::Document;
use crate::error::{Error, excerpt};
use crate::vocab::LIMIT_TOKENS;
use crate::{TokenKind, TokenizerExtras, Vocab};
use std::collections::HashMap;
use std::path::Path;
use tokenizers::models::bpe::Vocab as Pieces;

/// The rule that splits text before BPE, as llama.cpp's converter names it for Pythia. Its regex is GPT-2's, and it adds
/// no BOS.
const PRE_TOKENIZER: &str = "olmo";

impl TokenizerFile {
    /// The vocabulary and merges of the text of a `tokenizer.json`; `path` is for messages.
    pub(super) fn parse(path: &Path, text: String, n_vocab: usize) -> Result<Self, Error> {
        pythia_json::check(&text, pythia_json::LIMIT_VALUES).map_err(|reason| Error::file(path, "", reason))?;
        let mut document = Document::parse(&text).map_err(in_file(path))?;
        if n_vocab > LIMIT_TOKENS {
            let reason = format!("{n_vocab} rows for a tokenizer, at most {LIMIT_TOKENS}");
            return Err(Error::file(path, "", reason));
        }
        document.check_letters().map_err(in_file(path))?;
        let pieces = &document.pieces;
        // An added token beyond the embedding can be left out, as nothing but its own text makes it. Not if it is a piece
        // of the vocabulary too: merges could make it.
        let is_beyond = |token: &AddedToken| token.id as usize >= n_vocab && !pieces.contains_key(&token.content);
        let (beyond, added): (Vec<_>, Vec<_>) = document.added_tokens.iter().cloned().partition(is_beyond);
        let left_out: Vec<(u32, String)> = beyond.into_iter().map(|token| (token.id, token.content)).collect();
        let (tokens, kinds) = Slots::new(path, n_vocab).fill(pieces, &added)?;
        let merges = document.pairs().map_err(in_file(path))?;
        let no_token = |token: &str| Error::file(path, "model.unk_token", format!("{} is no token", excerpt(token)));
        let unk = document.unk_token.map(|token| id_of(&tokens, &token).ok_or_else(|| no_token(&token))).transpose()?;
        let json = match left_out.is_empty() {
            true => text,
            false => beyond::without(path, &text, &left_out.iter().map(|(id, _)| *id).collect())?,
        };
        let vocab = Vocab {
            tokens,
            kinds,
            merges: merges.into_iter().map(|(left, right)| format!("{left} {right}")).collect(),
            bos: None,
            eos: None,
            unk,
            pre: PRE_TOKENIZER.to_owned(),
            extras: TokenizerExtras::of_added(&added, !document.normalizes),
            huggingface_json: Some(json),
        };
        Ok(Self { vocab, left_out, is_built: false })
    }
}

/// The id of the token with this text.
pub(super) fn id_of(tokens: &[String], text: &str) -> Option<u32> {
    tokens.iter().position(|token| token == text).map(|id| id as u32)
}

/// The table of tokens by id, while it is filled.
struct Slots<'p> {
    path: &'p Path,
    slots: Vec<Option<(String, TokenKind)>>,
}

impl<'p> Slots<'p> {
    fn new(path: &'p Path, n_vocab: usize) -> Self {
        Self { path, slots: vec![None; n_vocab] }
    }

    fn fill(mut self, pieces: &Pieces, added: &[AddedToken]) -> Result<(Vec<String>, Vec<TokenKind>), Error> {
        // Added tokens first: a piece that repeats one of them is that token.
        let mut added_ids = HashMap::new();
        for token in added {
            self.put(token.id, &token.content, token.kind(), "added_tokens")?;
            let other = added_ids.insert(token.content.as_str(), token.id).or(pieces.get(&token.content).copied());
            if let Some(other) = other.filter(|other| *other != token.id) {
                let reason = format!("{} has id {}, but also id {other}", excerpt(&token.content), token.id);
                return Err(Error::file(self.path, "added_tokens", reason));
            }
        }
        // Sorted, so that of several faults the same one is named every time.
        let mut by_id: Vec<(u32, &String)> = pieces.iter().map(|(piece, id)| (*id, piece)).collect();
        by_id.sort_unstable();
        for (id, piece) in by_id.into_iter().filter(|(_, piece)| !added_ids.contains_key(piece.as_str())) {
            self.put(id, piece, TokenKind::Normal, "model.vocab")?;
            if !piece.chars().all(|c| byte_of(c).is_some()) {
                let reason = format!("{} (id {id}) is not in byte-level spelling", excerpt(piece));
                return Err(Error::file(self.path, "model.vocab", reason));
            }
        }
        let mut filled = (Vec::with_capacity(self.slots.len()), Vec::with_capacity(self.slots.len()));
        for (id, slot) in self.slots.into_iter().enumerate() {
            let (token, kind) = slot.unwrap_or_else(|| (format!("[PAD{id}]"), TokenKind::Unused));
            if kind == TokenKind::Unused && (added_ids.contains_key(&*token) || pieces.contains_key(&token)) {
                return Err(Error::file(
                    self.path,
                    "model.vocab",
                    format!("id {id} has no token and {token:?} is taken"),
                ));
            }
            filled.0.push(token);
            filled.1.push(kind);
        }
        Ok(filled)
    }

    /// Enters a token under its id, which must be free.
    fn put(&mut self, id: u32, text: &str, kind: TokenKind, key: &str) -> Result<(), Error> {
        let n_vocab = self.slots.len();
        let reason = match self.slots.get_mut(id as usize) {
            _ if text.is_empty() => format!("the token with id {id} is empty"),
            None => format!("{} has id {id}, but vocab_size is {n_vocab}", excerpt(text)),
            Some(Some((other, _))) => format!("{} and {} both have id {id}", excerpt(other), excerpt(text)),
            Some(slot) => {
                *slot = Some((text.to_owned(), kind));
                return Ok(());
            }
        };
        Err(Error::file(self.path, key, reason))
    }
}

#[cfg(test)]
mod tests;
