//! A tokenizer from the `tokenizer.ggml.*` keys, for files that do not embed their `tokenizer.json`.

use super::merges::check_merge;
use super::{fault, one_line};
use crate::Error;
use pythia_gguf::keys;
use pythia_tokenizer::{GPT2_PRE_TOKENIZERS, TokenKind, Vocab};
use tokenizers::models::bpe::{BPE, Vocab as BpeVocab};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

/// The pipeline of the GPT-NeoX tokenizer around the vocabulary, merges and added tokens of `vocab`.
pub(super) fn tokenizer(vocab: &Vocab) -> Result<Tokenizer, Error> {
    if !GPT2_PRE_TOKENIZERS.contains(&vocab.pre.as_str()) {
        return Err(fault(keys::TOKENIZER_PRE, format!("unknown pre-tokenizer '{}', wanted 'olmo'", vocab.pre)));
    }
    let mut tokenizer = Tokenizer::new(model(vocab)?);
    let normalizer = (!vocab.extras.unnormalized).then_some(NFC);
    tokenizer.with_normalizer(normalizer).map_err(|e| fault(keys::TOKENS, one_line(&*e)))?;
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    // Added tokens take the ids of the entries with their texts.
    let added = added_tokens(vocab).into_iter().map(|(_, token)| token);
    tokenizer.add_tokens(added).map_err(|e| fault(keys::TOKENS, one_line(&*e)))?;
    Ok(tokenizer)
}

fn model(vocab: &Vocab) -> Result<BPE, Error> {
    let entries = vocab.tokens.iter().zip(&vocab.kinds).zip(0..);
    let used = entries.filter(|((_, kind), _)| **kind != TokenKind::Unused);
    let ids: BpeVocab = used.map(|((text, _), id)| (text.clone(), id)).collect();
    let mut merges = Vec::with_capacity(vocab.merges.len());
    for (i, merge) in vocab.merges.iter().enumerate() {
        let pair = merge.split_once(' ');
        check_merge(pair, |token| ids.contains_key(token))
            .map_err(|problem| fault(keys::MERGES, format!("merge {i}: {problem}")))?;
        merges.extend(pair.map(|(left, right)| (left.to_owned(), right.to_owned())));
    }
    BPE::builder().vocab_and_merges(ids, merges).build().map_err(|e| fault(keys::MERGES, one_line(&*e)))
}

/// The tokens that are matched before BPE, with their ids. Control tokens are matched in the text as it is, those a user
/// defined, such as runs of spaces, after NFC, unless the file has it otherwise.
pub(super) fn added_tokens(vocab: &Vocab) -> Vec<(u32, AddedToken)> {
    let extras = &vocab.extras;
    // The lists are in order.
    let is_in = |ids: &[u32], id: u32| ids.binary_search(&id).is_ok();
    let entries = vocab.tokens.iter().zip(&vocab.kinds).zip(0u32..);
    let added = entries.filter_map(|((text, kind), id)| {
        let token = match kind {
            TokenKind::Control => AddedToken::from(text.clone(), true),
            TokenKind::UserDefined => AddedToken::from(text.clone(), false),
            _ => return None,
        };
        let normalized = token.normalized != is_in(&extras.other_text, id);
        let token = token.normalized(normalized).lstrip(is_in(&extras.lstrip, id));
        Some((id, token.rstrip(is_in(&extras.rstrip, id)).single_word(is_in(&extras.single_word, id))))
    });
    added.collect()
}
