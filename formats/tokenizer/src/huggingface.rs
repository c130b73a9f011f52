//! The tokenizer of a Hugging Face folder, as a vocabulary: `tokenizer.json`, and the special tokens in other files.
//!
//! The file is kept whole, because text is tokenized with it. This module extracts what the keys of GGUF need, and
//! refuses what they cannot express.

mod beyond;
mod special;
mod vocab_files;
mod vocabulary;

use crate::error::{Error, excerpt};
use crate::{Vocab, document};
use pythia_text::read_text;
use std::path::Path;

const LIMIT_BYTES: u64 = pythia_json::LIMIT_BYTES as u64;

/// Facts of a model that its tokenizer depends on.
#[derive(Clone, Copy, Debug)]
pub struct ForModel {
    /// Rows of the embedding. The vocabulary is padded to this number.
    pub n_vocab: usize,
    /// The token that begins a text, if `config.json` names one.
    pub bos: Option<u32>,
    /// The token that ends a text, if `config.json` names one.
    pub eos: Option<u32>,
}

/// A byte-level BPE tokenizer, read from Hugging Face files.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TokenizerFile {
    /// The vocabulary, with as many tokens as the model has rows; ids without a token are `[PADn]`. It embeds the text
    /// of `tokenizer.json`, without the tokens that are [left out](Self::left_out). If that file is missing, it embeds
    /// what Transformers builds from `vocab.json` and `merges.txt`.
    pub vocab: Vocab,
    /// Ids and texts of added tokens beyond the rows of the model. They are not part of the vocabulary.
    pub left_out: Vec<(u32, String)>,
    /// Whether it was made from `vocab.json` and `merges.txt`.
    pub is_built: bool,
}

impl TokenizerFile {
    /// The tokenizer in `folder`: from `tokenizer.json` and `tokenizer_config.json`, or as Transformers builds it from
    /// `vocab.json` and `merges.txt`. `None` if it has neither.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn find(folder: &Path, model: &ForModel) -> Result<Option<Self>, Error> {
        let path = folder.join("tokenizer.json");
        match path.exists() {
            true => Self::open(&path, &folder.join("tokenizer_config.json"), model).map(Some),
            false => Self::from_vocab_files(folder, model),
        }
    }

    /// Reads `path` (`tokenizer.json`) and, if it exists, `special_path` (`tokenizer_config.json`).
    ///
    /// # Errors
    /// If a file cannot be read, is not a byte-level BPE tokenizer, contradicts itself, or has more tokens than the
    /// model.
    pub fn open(path: &Path, special_path: &Path, model: &ForModel) -> Result<Self, Error> {
        let mut tokenizer = Self::parse(path, read(path)?, model.n_vocab)?;
        let special_text = match special_path.exists() {
            true => read(special_path)?,
            false => "{}".to_owned(),
        };
        let named = special::Named::parse(special_path, &special_text)?;
        tokenizer.name_special(special_path, named, model)?;
        Ok(tokenizer)
    }

    /// Notes for the user about how it was read, one line each.
    pub fn notes(&self) -> Vec<String> {
        const SHOWN: usize = 8;
        let mut notes = Vec::new();
        if self.is_built {
            let note =
                "the tokenizer is built from vocab.json and merges.txt, as Transformers does without tokenizer.json";
            notes.push(note.to_owned());
        }
        if !self.left_out.is_empty() {
            let shown = self.left_out.iter().take(SHOWN).map(|(id, text)| format!("{} (id {id})", excerpt(text)));
            let more = self.left_out.len().saturating_sub(SHOWN);
            let shown: Vec<String> = shown.chain((more > 0).then(|| format!("{more} more"))).collect();
            notes.push(format!(
                "added tokens beyond the {} rows of the embedding are left out of the vocabulary: {}",
                self.vocab.tokens.len(),
                shown.join(", ")
            ));
        }
        notes
    }
}

fn read(path: &Path) -> Result<String, Error> {
    read_text(path, LIMIT_BYTES).map_err(Error::read(path))
}

/// Parses JSON that is [not too large](pythia_json); the error names line and column.
fn parse<'t, T: serde::Deserialize<'t>>(path: &Path, text: &'t str) -> Result<T, Error> {
    pythia_json::parse(text).map_err(|reason| Error::file(path, "", reason))
}

/// For `map_err`: adds the path of the `tokenizer.json`.
fn in_file(path: &Path) -> impl Fn(document::Fault) -> Error {
    |fault| {
        let (key, reason) = fault.in_file();
        Error::file(path, key, reason)
    }
}
