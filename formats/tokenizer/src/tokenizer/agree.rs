//! Checks that the `tokenizer.json` and the `tokenizer.ggml.*` keys of a file describe the same tokenizer.
//!
//! Other programs use the keys, this one uses the `tokenizer.json`. If they differed, the same file would give
//! different ids. So everything that ids depend on must be equal: the vocabulary, the merges and their order, the
//! normalizer, the split before BPE, and the tokens that are matched before all that. What llama.cpp's keys cannot
//! express is under keys of this project ([`crate::TokenizerExtras`]); without them, the defaults are NFC and plain
//! matching.
//!
//! Not compared, because no id depends on it: `trim_offsets`, `truncation`, `padding`, the decoder's settings, and an
//! unknown token if every byte has its own token.

use crate::added::AddedToken;
use crate::document::Document;
use crate::{Error, Vocab, alphabet, keys};
use std::collections::HashMap;

/// Checks all of it. The pieces themselves are compared when the tokenizer is made.
pub(super) fn check(document: &Document, pairs: &[(String, String)], vocab: &Vocab) -> Result<(), Error> {
    if document.normalizes == vocab.extras.unnormalized {
        let (found, wanted) = (normalizer(document.normalizes), normalizer(!vocab.extras.unnormalized));
        return Err(differs(format!("normalizer is {found}, the GGUF keys mean {wanted}")));
    }
    merges(pairs, vocab)?;
    unknown(document)?;
    added_tokens(&document.added_tokens, vocab)
}

/// The name of the normalizer in messages.
pub(super) fn normalizer(normalizes: bool) -> &'static str {
    if normalizes { "NFC" } else { "none" }
}

/// Checks that the merges are the same, in the same order.
fn merges(found: &[(String, String)], vocab: &Vocab) -> Result<(), Error> {
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

/// Checks that the same tokens are matched before BPE, in the same way.
fn added_tokens(found: &[AddedToken], vocab: &Vocab) -> Result<(), Error> {
    let listed = AddedToken::of_vocab(vocab);
    let mut by_text: HashMap<&str, &AddedToken> = listed.iter().map(|token| (token.content.as_str(), token)).collect();
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
    match listed.iter().find(|token| by_text.contains_key(token.content.as_str())) {
        None => Ok(()),
        Some(AddedToken { id, content, .. }) => {
            Err(differs(format!("has no added token {content:?}, {} has one with id {id}", keys::TOKEN_TYPE)))
        }
    }
}

/// Checks that nothing depends on the token for unknown text: the keys have no rule for it.
fn unknown(document: &Document) -> Result<(), Error> {
    let Some(token) = &document.unk_token else { return Ok(()) };
    match alphabet::missing_letter(|letter| document.pieces.contains_key(letter)) {
        None => Ok(()),
        Some((_, letter)) => Err(differs(format!(
            "model.unk_token is {token:?} and there is no token {letter:?}: the GGUF keys have no rule for unknown bytes"
        ))),
    }
}

fn differs(problem: String) -> Error {
    Error::key(keys::HUGGINGFACE_JSON, problem)
}
