//! A tokenizer from the `tokenizer.json` that a file embeds.

use super::{agree, assemble, builder};
use crate::document::{Document, Fault};
use crate::error::one_line;
use crate::{Error, Vocab, keys};
use tokenizers::Tokenizer;

/// Reads `tokenizer.json`: a byte-level BPE of no more tokens and merges than the file lists, and the same as its other
/// keys mean. [`Vocab::check`] has seen that the text itself is not too large.
pub(super) fn tokenizer(text: &str, listed: &Vocab) -> Result<Tokenizer, Error> {
    let mut document = Document::parse(text).map_err(|fault| of_file(fault, listed))?;
    // The crate makes an automaton of them.
    let n_bytes = document.added_tokens.iter().map(|token| token.content.len()).sum();
    Vocab::check_added_bytes(keys::HUGGINGFACE_JSON, n_bytes)?;
    for (what, key, found, listed) in [
        ("tokens", keys::TOKENS, document.pieces.len(), listed.tokens.len()),
        ("merges", keys::MERGES, document.n_merges(), listed.merges.len()),
    ] {
        if found > listed {
            return Err(wrong(format!("model has {found} {what}, {key} has {listed}")));
        }
    }
    let merges = document.pairs().map_err(|fault| of_file(fault, listed))?;
    agree::check(&document, &merges, listed)?;
    let Document { added_tokens, normalizes, pieces, unk_token, fuse_unk, .. } = document;
    let mut model = builder().fuse_unk(fuse_unk).vocab_and_merges(pieces, merges);
    if let Some(token) = unk_token {
        model = model.unk_token(token);
    }
    let model = model.build().map_err(|e| wrong(one_line(&*e)))?;
    assemble(model, normalizes, added_tokens, keys::HUGGINGFACE_JSON)
}

/// The error for an embedded text: its settings must be those that the other keys of the file mean.
fn of_file(fault: Fault, listed: &Vocab) -> Error {
    wrong(match fault {
        Fault::Version(found) => format!("version is {found}, only 1.0 is supported"),
        Fault::Step { key, found, wanted } => {
            let found = match found.as_deref() {
                None => "is none".to_owned(),
                Some("") => "has no type".to_owned(),
                Some(kind) => format!("is {kind}"),
            };
            let wanted = match key {
                "normalizer" => agree::normalizer(!listed.extras.unnormalized),
                _ => wanted.trim_matches('"'),
            };
            format!("{key} {found}, the GGUF keys mean {wanted}")
        }
        Fault::Split { key, found, wanted } => {
            let pre = &listed.pre;
            format!("pre_tokenizer.{key} is {found}, {} '{pre}' means {wanted}", keys::TOKENIZER_PRE)
        }
        Fault::AddsTokens => format!("post_processor adds tokens to a text, {} does not", keys::ADD_BOS),
        Fault::Option { key, found, wanted } => format!("model.{key} is {found}, the GGUF keys mean {wanted}"),
        Fault::Other { key, reason } if key.is_empty() => reason,
        Fault::Other { key, reason } => format!("{key}: {reason}"),
    })
}

fn wrong(problem: String) -> Error {
    Error::key(keys::HUGGINGFACE_JSON, problem)
}
