//! Tokens that are matched in the text before BPE.

use crate::{TokenKind, TokenizerExtras, Vocab};
use serde::{Deserialize, Serialize};

/// An added token as `tokenizer.json` has it. Every flag is there in what the `tokenizers` library reads and writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AddedToken {
    pub(crate) id: u32,
    pub(crate) content: String,
    /// It is recognised only as a whole word.
    pub(crate) single_word: bool,
    /// It swallows white space on its left.
    pub(crate) lstrip: bool,
    /// It swallows white space on its right.
    pub(crate) rstrip: bool,
    /// It is looked for in the normalized text, rather than in the text as it is.
    pub(crate) normalized: bool,
    /// It means something of its own and is part of no text.
    pub(crate) special: bool,
}

impl AddedToken {
    /// Those of a vocabulary, by id. Control tokens are matched in the text as it is, those a user defined, such as runs
    /// of spaces, after NFC, unless the vocabulary has it otherwise.
    pub(crate) fn of_vocab(vocab: &Vocab) -> Vec<Self> {
        let extras = &vocab.extras;
        // The lists are in order.
        let is_in = |ids: &[u32], id: u32| ids.binary_search(&id).is_ok();
        let entries = vocab.tokens.iter().zip(&vocab.kinds).zip(0u32..);
        let added = entries.filter_map(|((text, kind), id)| {
            let special = match kind {
                TokenKind::Control => true,
                TokenKind::UserDefined => false,
                _ => return None,
            };
            Some(Self {
                id,
                content: text.clone(),
                single_word: is_in(&extras.single_word, id),
                lstrip: is_in(&extras.lstrip, id),
                rstrip: is_in(&extras.rstrip, id),
                normalized: special == is_in(&extras.other_text, id),
                special,
            })
        });
        added.collect()
    }

    /// Its kind in GGUF files.
    pub(crate) fn kind(&self) -> TokenKind {
        if self.special { TokenKind::Control } else { TokenKind::UserDefined }
    }
}

impl TokenizerExtras {
    /// What GGUF's keys cannot say of a tokenizer with these added tokens.
    pub(crate) fn of_added(added: &[AddedToken], unnormalized: bool) -> Self {
        let ids = |picks: fn(&AddedToken) -> bool| {
            let mut ids: Vec<u32> = added.iter().filter(|token| picks(token)).map(|token| token.id).collect();
            ids.sort_unstable();
            ids
        };
        Self {
            unnormalized,
            lstrip: ids(|token| token.lstrip),
            rstrip: ids(|token| token.rstrip),
            single_word: ids(|token| token.single_word),
            other_text: ids(|token| token.normalized == token.special),
        }
    }
}

impl From<AddedToken> for tokenizers::AddedToken {
    fn from(token: AddedToken) -> Self {
        Self {
            content: token.content,
            single_word: token.single_word,
            lstrip: token.lstrip,
            rstrip: token.rstrip,
            normalized: token.normalized,
            special: token.special,
        }
    }
}
