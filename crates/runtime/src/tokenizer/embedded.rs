//! A tokenizer from the `tokenizer.json` that a file embeds.
//!
//! The `tokenizers` crate trusts what it reads: a normalizer without its table, or a merge longer than every token,
//! makes it panic. So the parts that decide about ids are checked here first, and those that do not are left out.
//! The vocabulary and the merges are read into what the crate wants, past its own reader, which goes through two trees
//! of JSON values and takes most of the time to the first token.

use super::agree;
use super::merges::check_merge;
use super::{fault, one_line};
use crate::Error;
use pythia_gguf::keys;
use pythia_tokenizer::Vocab as Listed;
use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde_json::{Value, json};
use std::fmt;
use tokenizers::models::bpe::{BPE, BpeBuilder, Vocab as BpeVocab};
use tokenizers::{AddedToken, Tokenizer};

/// What counts of a `tokenizer.json`. Not `truncation` and `padding`: what a training script left behind there would
/// silently shorten or lengthen every text. `post_processor` only has to add no tokens.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Pipeline {
    version: Value,
    added_tokens: Vec<AddedToken>,
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
    model: Model,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Model {
    #[serde(rename = "type")]
    ty: Value,
    dropout: Value,
    continuing_subword_prefix: Value,
    end_of_word_suffix: Value,
    unk_token: Option<String>,
    fuse_unk: Option<bool>,
    byte_fallback: Option<bool>,
    ignore_merges: Option<bool>,
    vocab: Option<BpeVocab>,
    merges: Option<Vec<Merge>>,
}

/// Two spellings: "left right", and since 2024 ["left", "right"]. None if there are not two halves.
struct Merge(Option<(String, String)>);

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MergeVisitor)
    }
}

struct MergeVisitor;

impl<'de> Visitor<'de> for MergeVisitor {
    type Value = Merge;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the two halves of a merge")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Merge, E> {
        let halves = text.split_once(' ').filter(|(_, right)| !right.contains(' '));
        Ok(Merge(halves.map(|(left, right)| (left.to_owned(), right.to_owned()))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut halves: A) -> Result<Merge, A::Error> {
        let (left, right) = (halves.next_element()?, halves.next_element()?);
        let more = halves.next_element::<de::IgnoredAny>()?.is_some();
        Ok(Merge(left.zip(right).filter(|_| !more)))
    }
}

/// Reads `tokenizer.json`: a byte-level BPE of no more tokens and merges than the file lists, and the same as its other
/// keys mean. [`Listed::check`] has seen that the text itself is not too large.
pub(super) fn tokenizer(text: &str, listed: &Listed) -> Result<Tokenizer, Error> {
    // A derived reader takes an array of the fields for a structure.
    if !text.trim_ascii_start().starts_with('{') {
        return Err(wrong("no JSON object".to_owned()));
    }
    let Pipeline { version, added_tokens, normalizer, pre_tokenizer, post_processor, decoder, model } =
        serde_json::from_str(text).map_err(|e| wrong(one_line(&e)))?;
    // The crate makes an automaton of them.
    let n_bytes = added_tokens.iter().map(|token| token.content.len()).sum();
    Listed::check_added_bytes(keys::HUGGINGFACE_JSON, n_bytes)?;
    let name = match normalizer {
        Value::Null => None,
        normalizer => Some(check_type("normalizer", &normalizer, &["NFC", "NFD", "NFKC", "NFKD"])?),
    };
    let normalizer = name.map(|name| json!({ "type": name }));
    check_type("pre_tokenizer", &pre_tokenizer, &["ByteLevel"])?;
    agree::pipeline(name, &pre_tokenizer, &post_processor, listed)?;
    check_type("decoder", &decoder, &["ByteLevel"])?;
    let mut tree = json!({
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "decoder": decoder,
        "model": { "type": "BPE", "vocab": {}, "merges": [] },
    });
    if !version.is_null() {
        tree["version"] = version;
    }
    let mut tokenizer: Tokenizer = serde_json::from_value(tree).map_err(|e| wrong(one_line(&e)))?;
    tokenizer.with_model(bpe(model, listed)?);
    agree::added_tokens(&added_tokens, listed)?;
    // They take the ids of the entries with their texts.
    tokenizer.add_tokens(added_tokens).map_err(|e| wrong(one_line(&*e)))?;
    Ok(tokenizer)
}

/// The type of a part of the pipeline, if it is one of these.
fn check_type(name: &str, part: &Value, supported: &[&'static str]) -> Result<&'static str, Error> {
    let found = &part["type"];
    let known = supported.iter().find(|&name| found == name);
    known.copied().ok_or_else(|| wrong(format!("{name} has type {found}, wanted {}", supported.join(" or "))))
}

fn bpe(model: Model, listed: &Listed) -> Result<BPE, Error> {
    if model.ty != "BPE" {
        return Err(wrong(format!("model has type {}, wanted BPE", model.ty)));
    }
    // Dropout would make ids random, byte_fallback and ignore_merges are other ways to encode than the GGUF keys mean,
    // and the others are not part of any byte-level vocabulary.
    for (key, value) in [
        ("dropout", &model.dropout),
        ("continuing_subword_prefix", &model.continuing_subword_prefix),
        ("end_of_word_suffix", &model.end_of_word_suffix),
    ] {
        if !value.is_null() && value != "" {
            return Err(wrong(format!("model has {key} {value}, wanted none")));
        }
    }
    for (key, value) in [("byte_fallback", model.byte_fallback), ("ignore_merges", model.ignore_merges)] {
        if value == Some(true) {
            return Err(wrong(format!("model.{key} is true, the GGUF keys mean false")));
        }
    }
    let vocab = model.vocab.ok_or_else(|| wrong("model has no vocab".to_owned()))?;
    let found = model.merges.ok_or_else(|| wrong("model has no merges".to_owned()))?;
    for (what, key, found, listed) in [
        ("tokens", keys::TOKENS, vocab.len(), listed.tokens.len()),
        ("merges", keys::MERGES, found.len(), listed.merges.len()),
    ] {
        if found > listed {
            return Err(wrong(format!("model has {found} {what}, {key} has {listed}")));
        }
    }
    let mut merges = Vec::with_capacity(found.len());
    for (i, Merge(pair)) in found.into_iter().enumerate() {
        let halves = pair.as_ref().map(|(left, right)| (left.as_str(), right.as_str()));
        check_merge(halves, |token| vocab.contains_key(token))
            .map_err(|problem| wrong(format!("merge {i}: {problem}")))?;
        merges.extend(pair);
    }
    agree::merges(&merges, listed)?;
    agree::unknown(model.unk_token.as_deref(), |token| vocab.contains_key(token))?;
    let mut builder = BpeBuilder::new().fuse_unk(model.fuse_unk.unwrap_or_default()).vocab_and_merges(vocab, merges);
    if let Some(token) = model.unk_token {
        builder = builder.unk_token(token);
    }
    builder.build().map_err(|e| wrong(one_line(&*e)))
}

fn wrong(problem: String) -> Error {
    fault(keys::HUGGINGFACE_JSON, problem)
}
