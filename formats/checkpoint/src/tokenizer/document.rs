//! The parts of `tokenizer.json` that a GGUF vocabulary is made of.

use super::beyond;
use super::byte_level::{is_byte_char, utf8_byte_chars};
use super::{Matching, TokenKind, TokenizerFile};
use crate::error::{Error, excerpt};
use crate::json::{self, UniqueMap};
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// Only the kind of model: read first, as the rest has another shape for other kinds.
#[derive(Deserialize)]
struct Probe {
    model: ProbedModel,
}

#[derive(Deserialize)]
struct ProbedModel {
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    post_processor: Option<Value>,
    decoder: Option<Value>,
    model: Model,
}

/// Every flag is there in what the `tokenizers` library reads and writes.
#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    special: bool,
}

#[derive(Deserialize)]
struct Model {
    vocab: UniqueMap<u32>,
    merges: Vec<Merge>,
    unk_token: Option<String>,
    dropout: Option<f64>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    byte_fallback: Option<bool>,
    ignore_merges: Option<bool>,
}

/// `tokenizers` wrote merges as strings up to 0.19 and as pairs since.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Joined(String),
    Pair(String, String),
}

impl TokenizerFile {
    /// The vocabulary and merges of the text of a `tokenizer.json`; `path` is for messages.
    pub(super) fn parse(path: &Path, text: String, n_vocab: usize) -> Result<Self, Error> {
        let probe: Probe = json::parse(path, &text)?;
        if probe.model.kind.as_deref() != Some("BPE") {
            let found = probe.model.kind.map_or("missing".to_owned(), |kind| excerpt(&kind));
            return Err(Error::json(path, "model.type", format!("{found}, wanted \"BPE\"")));
        }
        if n_vocab > pythia_json::LIMIT_TOKENS {
            let reason = format!("{n_vocab} rows for a tokenizer, at most {}", pythia_json::LIMIT_TOKENS);
            return Err(Error::json(path, "", reason));
        }
        let document: Document = json::parse(path, &text)?;
        check_pipeline(path, &document)?;
        check_model(path, &document.model)?;
        let pieces = &document.model.vocab.0;
        // An added token beyond the embedding can be left out, as nothing but its own text makes it. Not if it is a piece
        // of the vocabulary too: merges could make it.
        let is_beyond = |token: &AddedToken| token.id as usize >= n_vocab && !pieces.contains_key(&token.content);
        let (beyond, added): (Vec<_>, Vec<_>) = document.added_tokens.into_iter().partition(is_beyond);
        let left_out: Vec<(u32, String)> = beyond.into_iter().map(|token| (token.id, token.content)).collect();
        let (tokens, kinds) = Slots::new(path, n_vocab).fill(pieces, &added)?;
        let (normalizes, matching) = (document.normalizer.is_some(), matching(&added));
        let merges = joined_merges(path, document.model.merges, pieces)?;
        let unk = match &document.model.unk_token {
            None => None,
            Some(token) => Some(
                id_of(&tokens, token)
                    .ok_or_else(|| Error::json(path, "model.unk_token", format!("{} is no token", excerpt(token))))?,
            ),
        };
        let json = match left_out.is_empty() {
            true => text,
            false => beyond::without(path, &text, &left_out.iter().map(|(id, _)| *id).collect())?,
        };
        Ok(Self { json, tokens, kinds, merges, normalizes, matching, bos: None, eos: None, unk, left_out })
    }
}

/// The id of the token with this text.
pub(super) fn id_of(tokens: &[String], text: &str) -> Option<u32> {
    tokens.iter().position(|token| token == text).map(|id| id as u32)
}

/// Whether the steps around the BPE model are those of GPT-2 and Pythia: NFC or nothing, then byte-level.
fn check_pipeline(path: &Path, document: &Document) -> Result<(), Error> {
    let kind = |step: &Option<Value>| step.as_ref().map(|step| step["type"].as_str().unwrap_or_default().to_owned());
    let refuse = |key: &str, found: Option<String>, wanted: &str| {
        let found = found.map_or("none".to_owned(), |kind| excerpt(&kind));
        Err(Error::json(path, key, format!("{found} is not supported, wanted {wanted}")))
    };
    match kind(&document.normalizer) {
        None => {}
        Some(kind) if kind == "NFC" => {}
        other => return refuse("normalizer", other, "\"NFC\" or none"),
    }
    for (key, step) in [("pre_tokenizer", &document.pre_tokenizer), ("decoder", &document.decoder)] {
        match kind(step) {
            Some(kind) if kind == "ByteLevel" => {}
            other => return refuse(key, other, "\"ByteLevel\""),
        }
    }
    if document.post_processor.as_ref().is_some_and(adds_tokens) {
        let reason = "adds tokens to every text, which is not supported; without it the ids are the same but for these";
        return Err(Error::json(path, "post_processor", reason));
    }
    let Some(pre_tokenizer) = &document.pre_tokenizer else { return Ok(()) };
    for (key, wanted, default) in [("add_prefix_space", false, true), ("use_regex", true, true)] {
        if pre_tokenizer[key].as_bool().unwrap_or(default) != wanted {
            let found = &pre_tokenizer[key];
            return Err(Error::json(
                path,
                format!("pre_tokenizer.{key}"),
                format!("{found} is not supported, wanted {wanted}"),
            ));
        }
    }
    Ok(())
}

/// Whether a post-processor adds tokens to a text; one of a kind that is not known does.
fn adds_tokens(post_processor: &Value) -> bool {
    match post_processor["type"].as_str() {
        None => !post_processor.is_null(),
        Some("ByteLevel") => false,
        Some("Sequence") => post_processor["processors"].as_array().is_none_or(|all| all.iter().any(adds_tokens)),
        Some("TemplateProcessing") => {
            let is_text = |piece: &Value| piece.get("Sequence").is_some();
            post_processor["single"].as_array().is_none_or(|pieces| !pieces.iter().all(is_text))
        }
        Some(_) => true,
    }
}

/// The added tokens that are not matched as usual.
fn matching(added: &[AddedToken]) -> Matching {
    let ids = |picks: fn(&AddedToken) -> bool| {
        let mut ids: Vec<u32> = added.iter().filter(|token| picks(token)).map(|token| token.id).collect();
        ids.sort_unstable();
        ids
    };
    Matching {
        lstrip: ids(|token| token.lstrip),
        rstrip: ids(|token| token.rstrip),
        single_word: ids(|token| token.single_word),
        other_text: ids(|token| token.normalized == token.special),
    }
}

/// Whether the BPE model is plain: merges only, over pieces that stand for bytes.
fn check_model(path: &Path, model: &Model) -> Result<(), Error> {
    let options = [
        ("model.dropout", model.dropout.is_some_and(|p| p != 0.0)),
        ("model.continuing_subword_prefix", model.continuing_subword_prefix.as_ref().is_some_and(|s| !s.is_empty())),
        ("model.end_of_word_suffix", model.end_of_word_suffix.as_ref().is_some_and(|s| !s.is_empty())),
        ("model.byte_fallback", model.byte_fallback == Some(true)),
        ("model.ignore_merges", model.ignore_merges == Some(true)),
    ];
    if let Some((key, _)) = options.iter().find(|(_, is_set)| *is_set) {
        return Err(Error::json(path, *key, "is set, which is not supported"));
    }
    let mut buffer = [0; 4];
    for (byte, c) in utf8_byte_chars() {
        if !model.vocab.0.contains_key(&*c.encode_utf8(&mut buffer)) {
            return Err(Error::json(
                path,
                "model.vocab",
                format!("no token {c:?} for byte {byte:#04x}: not byte-level"),
            ));
        }
    }
    Ok(())
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

    fn fill(
        mut self,
        pieces: &HashMap<String, u32>,
        added: &[AddedToken],
    ) -> Result<(Vec<String>, Vec<TokenKind>), Error> {
        // Added tokens first: a piece that repeats one of them is that token.
        let mut added_ids = HashMap::new();
        for token in added {
            let kind = if token.special { TokenKind::Control } else { TokenKind::UserDefined };
            self.put(token.id, &token.content, kind, "added_tokens")?;
            let other = added_ids.insert(token.content.as_str(), token.id).or(pieces.get(&token.content).copied());
            if let Some(other) = other.filter(|other| *other != token.id) {
                let reason = format!("{} has id {}, but also id {other}", excerpt(&token.content), token.id);
                return Err(Error::json(self.path, "added_tokens", reason));
            }
        }
        // Sorted, so that of several faults the same one is named every time.
        let mut by_id: Vec<(u32, &String)> = pieces.iter().map(|(piece, id)| (*id, piece)).collect();
        by_id.sort_unstable();
        for (id, piece) in by_id.into_iter().filter(|(_, piece)| !added_ids.contains_key(piece.as_str())) {
            self.put(id, piece, TokenKind::Normal, "model.vocab")?;
            if !piece.chars().all(is_byte_char) {
                let reason = format!("{} (id {id}) is not in byte-level spelling", excerpt(piece));
                return Err(Error::json(self.path, "model.vocab", reason));
            }
        }
        let mut filled = (Vec::with_capacity(self.slots.len()), Vec::with_capacity(self.slots.len()));
        for (id, slot) in self.slots.into_iter().enumerate() {
            let (token, kind) = slot.unwrap_or_else(|| (format!("[PAD{id}]"), TokenKind::Unused));
            if kind == TokenKind::Unused && (added_ids.contains_key(&*token) || pieces.contains_key(&token)) {
                return Err(Error::json(
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
        Err(Error::json(self.path, key, reason))
    }
}

/// The merges as `left right`, each checked to join two pieces to a third.
fn joined_merges(path: &Path, merges: Vec<Merge>, pieces: &HashMap<String, u32>) -> Result<Vec<String>, Error> {
    let n_pairs = merges.iter().filter(|merge| matches!(merge, Merge::Pair(..))).count();
    if n_pairs != 0 && n_pairs != merges.len() {
        let reason = format!("{n_pairs} of {} are pairs and the others strings, wanted one form", merges.len());
        return Err(Error::json(path, "model.merges", reason));
    }
    let mut joined = Vec::with_capacity(merges.len());
    for (rank, merge) in merges.into_iter().enumerate() {
        let text = match merge {
            Merge::Joined(text) => text,
            Merge::Pair(left, right) => format!("{left} {right}"),
        };
        let refuse =
            |reason: &str| Error::json(path, format!("model.merges[{rank}]"), format!("{} {reason}", excerpt(&text)));
        // Byte-level pieces hold no spaces, so in both forms there is exactly one.
        let (left, right) = match text.split_once(' ') {
            Some((left, right)) if !left.is_empty() && !right.is_empty() && !right.contains(' ') => (left, right),
            _ => return Err(refuse("is not two pieces")),
        };
        if ![left, right, &format!("{left}{right}")].iter().all(|piece| pieces.contains_key(*piece)) {
            return Err(refuse("joins or makes a piece that is not in model.vocab"));
        }
        joined.push(text);
    }
    Ok(joined)
}

#[cfg(test)]
mod tests;
