//! The beginning of a text, as one pass takes it.

use super::text::TextArgs;
use crate::exit::Failure;
use pythia_model::Model;
use pythia_runtime::{Error, Text, Tokenizer};
use pythia_task::Cancel;
use std::path::Path;

/// A text, and how much of it.
#[derive(Debug, clap::Args)]
pub(super) struct BeginningArgs {
    #[command(flatten)]
    text: TextArgs,
    /// Read only the first N tokens of the text
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    tokens: Option<u64>,
}

impl BeginningArgs {
    /// Its file, if it has one.
    pub(super) fn path(&self) -> Option<&Path> {
        self.text.path()
    }

    /// The text.
    pub(super) fn open(&self) -> Result<Text, Failure> {
        self.text.open()
    }

    /// How many tokens are asked for.
    pub(super) fn limit(&self) -> Option<usize> {
        self.tokens.map(|n| usize::try_from(n).unwrap_or(usize::MAX))
    }

    /// Its tokens.
    ///
    /// # Errors
    /// If there are none, or more than the model's context has, or the text cannot be read.
    pub(super) fn ids(
        &self,
        text: &Text,
        model: &Model,
        tokenizer: &Tokenizer,
        cancel: &Cancel,
    ) -> Result<Vec<u32>, Error> {
        let n_ctx = model.hparams().n_ctx;
        let wanted = self.limit().unwrap_or(usize::MAX);
        let mut tokens = text.tokens(tokenizer, cancel)?;
        tokens.require_below(model.hparams().n_vocab)?;
        // One more than fits, to know whether the text goes on.
        let found = tokens.reach(wanted.min(n_ctx.saturating_add(1)))?;
        match found {
            0 => Err(Error::EmptyPrompt.at(text)),
            _ if found > n_ctx => {
                let problem = format!(
                    "the text has more than the {n_ctx} of the model's context; --tokens {n_ctx} reads the first"
                );
                Err(Error::Setting { name: "tokens", problem })
            }
            _ => Ok(tokens.slice(0..found.min(wanted)).to_vec()),
        }
    }
}

/// The error with the model's name before it, if that is at fault.
pub(super) fn locate(error: pythia_inside::Error, model: &Path) -> Failure {
    match error {
        pythia_inside::Error::NotFinite { .. } => Failure::data(format_args!("{}: {error}", pythia_text::path(model))),
        error => error.into(),
    }
}
