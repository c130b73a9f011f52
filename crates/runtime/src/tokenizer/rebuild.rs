//! A tokenizer from the `tokenizer.ggml.*` keys, for files that do not embed their `tokenizer.json`.

use super::merges::check_merge;
use super::{fault, one_line};
use crate::Error;
use pythia_gguf::{GPT2_PRE_TOKENIZERS, TokenKind, Vocab, keys};
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
    tokenizer.with_normalizer(Some(NFC)).map_err(|e| fault(keys::TOKENS, one_line(&*e)))?;
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    // Added tokens take the ids of the entries with their texts.
    tokenizer.add_tokens(added_tokens(vocab)).map_err(|e| fault(keys::TOKENS, one_line(&*e)))?;
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

/// Control tokens are matched in the text as it is; those a user defined, such as runs of spaces, after NFC.
fn added_tokens(vocab: &Vocab) -> Vec<AddedToken> {
    let entries = vocab.tokens.iter().zip(&vocab.kinds);
    let added = entries.filter_map(|(text, kind)| match kind {
        TokenKind::Control => Some(AddedToken::from(text.clone(), true)),
        TokenKind::UserDefined => Some(AddedToken::from(text.clone(), false)),
        _ => None,
    });
    added.collect()
}
