//! Whether the two tokenizers of a file are one: its `tokenizer.json` and its `tokenizer.ggml.*` keys.
//!
//! Other programs go by the keys, this one by the `tokenizer.json`; where the two differ, the same file gives two
//! answers. So everything that decides about ids must be the same in both: the vocabulary, the merges and their order,
//! the normalizer, the split before BPE, and which tokens are matched in the text before all that, and how. What
//! llama.cpp's keys cannot say is under keys of this project ([`pythia_tokenizer::TokenizerExtras`]); where there are none,
//! NFC and plain matching is what they mean.
//!
//! Not compared, because no id depends on it: `trim_offsets`, `truncation`, `padding`, the decoder's settings, and an
//! unknown token where every byte has a token of its own.

use super::rebuild;
use super::{byte_level, fault};
use crate::Error;
use pythia_tokenizer::{Vocab, keys};
use serde_json::Value;
use std::collections::HashMap;
use tokenizers::AddedToken;

/// Checks that the merges are the same, in the same order.
pub(super) fn merges(found: &[(String, String)], vocab: &Vocab) -> Result<(), Error> {
    let same = |((left, right), listed): (&(String, String), &String)| {
        listed.strip_prefix(left.as_str()).and_then(|rest| rest.strip_prefix(' ')) == Some(right)
    };
    let first = found.iter().zip(&vocab.merges).position(|pair| !same(pair));
    if let Some(at) = first {
        let (left, right) = &found[at];
        let listed = &vocab.merges[at];
        return Err(differs(format!("merge {at} is {:?}, {} has {listed:?}", format!("{left} {right}"), keys::MERGES)));
    }
    if found.len() != vocab.merges.len() {
        return Err(differs(format!("{} merges, {} has {}", found.len(), keys::MERGES, vocab.merges.len())));
    }
    Ok(())
}

/// Checks that text is normalized as the keys say, split by the regex of GPT-2, and comes without further tokens.
pub(super) fn pipeline(
    normalizer: Option<&str>,
    pre_tokenizer: &Value,
    post_processor: &Value,
    vocab: &Vocab,
) -> Result<(), Error> {
    let wanted = if vocab.extras.unnormalized { None } else { Some("NFC") };
    if normalizer != wanted {
        let name = |normalizer: Option<&str>| normalizer.unwrap_or("none").to_owned();
        return Err(differs(format!("normalizer is {}, the GGUF keys mean {}", name(normalizer), name(wanted))));
    }
    // The defaults are those of the format: the second came later.
    for (flag, wanted, default) in [("add_prefix_space", false, true), ("use_regex", true, true)] {
        if pre_tokenizer[flag].as_bool().unwrap_or(default) != wanted {
            let found = &pre_tokenizer[flag];
            let pre = &vocab.pre;
            return Err(differs(format!(
                "pre_tokenizer.{flag} is {found}, {} '{pre}' means {wanted}",
                keys::TOKENIZER_PRE
            )));
        }
    }
    if adds_tokens(post_processor) {
        return Err(differs(format!("post_processor adds tokens to a text, {} does not", keys::ADD_BOS)));
    }
    Ok(())
}

/// Whether a post-processor adds tokens; one of a kind that is not known does.
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

/// Checks that the same tokens are matched before BPE, in the same way.
pub(super) fn added_tokens(found: &[AddedToken], vocab: &Vocab) -> Result<(), Error> {
    let listed: Vec<(u32, AddedToken)> = rebuild::added_tokens(vocab);
    let mut by_text: HashMap<&str, &AddedToken> =
        listed.iter().map(|(_, token)| (token.content.as_str(), token)).collect();
    for token in found {
        let text = &token.content;
        let Some(listed) = by_text.remove(text.as_str()) else {
            return Err(differs(format!("{text:?} is an added token, by {} it is none", keys::TOKEN_TYPE)));
        };
        for (flag, found, wanted, key) in [
            ("special", token.special, listed.special, keys::TOKEN_TYPE),
            ("normalized", token.normalized, listed.normalized, keys::OTHER_TEXT),
            ("lstrip", token.lstrip, listed.lstrip, keys::LSTRIP),
            ("rstrip", token.rstrip, listed.rstrip, keys::RSTRIP),
            ("single_word", token.single_word, listed.single_word, keys::SINGLE_WORD),
        ] {
            if found != wanted {
                return Err(differs(format!("added token {text:?}: {flag} is {found}, by {key} it is {wanted}")));
            }
        }
    }
    match listed.iter().find(|(_, token)| by_text.contains_key(token.content.as_str())) {
        None => Ok(()),
        Some((id, token)) => {
            let text = &token.content;
            Err(differs(format!("has no added token {text:?}, {} has one with id {id}", keys::TOKEN_TYPE)))
        }
    }
}

/// Checks that nothing depends on the token for unknown text: the keys have no rule for it.
pub(super) fn unknown(unk_token: Option<&str>, is_token: impl Fn(&str) -> bool) -> Result<(), Error> {
    let Some(token) = unk_token else { return Ok(()) };
    match byte_level::Alphabet::new().text_letters().find(|letter| !is_token(letter.encode_utf8(&mut [0; 4]))) {
        None => Ok(()),
        Some(letter) => Err(differs(format!(
            "model.unk_token is {token:?} and there is no token {letter:?}: the GGUF keys have no rule for unknown bytes"
        ))),
    }
}

fn differs(problem: String) -> Error {
    fault(keys::HUGGINGFACE_JSON, problem)
}
