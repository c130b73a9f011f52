//! A tokenizer from the `tokenizer.ggml.*` keys, for files that do not embed their `tokenizer.json`.

use super::{assemble, builder};
use crate::added::AddedToken;
use crate::error::one_line;
use crate::{Error, GPT2_PRE_TOKENIZERS, TokenKind, Vocab, keys, merges};
use tokenizers::Tokenizer;
use tokenizers::models::bpe::{BPE, Vocab as Pieces};

/// The pipeline of the GPT-NeoX tokenizer around the vocabulary, merges and added tokens of `vocab`.
pub(super) fn tokenizer(vocab: &Vocab) -> Result<Tokenizer, Error> {
    if !GPT2_PRE_TOKENIZERS.contains(&vocab.pre.as_str()) {
        let problem = format!("unknown pre-tokenizer '{}', wanted 'olmo'", vocab.pre);
        return Err(Error::key(keys::TOKENIZER_PRE, problem));
    }
    assemble(model(vocab)?, !vocab.extras.unnormalized, AddedToken::of_vocab(vocab), keys::TOKENS)
}

fn model(vocab: &Vocab) -> Result<BPE, Error> {
    let entries = vocab.tokens.iter().zip(&vocab.kinds).zip(0..);
    let used = entries.filter(|((_, kind), _)| **kind != TokenKind::Unused);
    let ids: Pieces = used.map(|((text, _), id)| (text.clone(), id)).collect();
    let (mut pairs, mut whole) = (Vec::with_capacity(vocab.merges.len()), String::new());
    for (i, merge) in vocab.merges.iter().enumerate() {
        let refuse = |problem| Error::key(keys::MERGES, format!("merge {i}: {problem}"));
        let (left, right) = merges::halves(merge).ok_or_else(|| refuse("found no two halves".to_owned()))?;
        if let Some(piece) = merges::no_token(left, right, &mut whole, |piece| ids.contains_key(piece)) {
            return Err(refuse(format!("{left:?} and {right:?}, but {piece:?} is no token")));
        }
        pairs.push((left.to_owned(), right.to_owned()));
    }
    builder().vocab_and_merges(ids, pairs).build().map_err(|e| Error::key(keys::MERGES, one_line(&*e)))
}
