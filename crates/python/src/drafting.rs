//! Drafts, as callers ask for them.

use crate::error::Problem;
use crate::model::Model;
use pyo3::prelude::*;
use pythia_runtime::Tokenizer;
use pythia_runtime::draft::{DraftLength, DraftSource, Drafting};

/// A smaller model, or the name of another way.
#[derive(Debug, FromPyObject)]
pub(crate) enum Drafter {
    #[pyo3(annotation = "Model")]
    Model(Py<Model>),
    #[pyo3(annotation = "str")]
    Named(String),
}

/// The keyword arguments `draft`, `draft_max` and `draft_min`.
#[derive(Debug, Default)]
pub(crate) struct DraftArgs {
    pub(crate) draft: Option<Drafter>,
    pub(crate) most: Option<usize>,
    pub(crate) least: Option<usize>,
}

impl DraftArgs {
    /// Drafts for texts of this tokenizer, if they are asked for.
    pub(crate) fn checked(self, tokenizer: &Tokenizer) -> Result<Option<Drafting>, Problem> {
        let Some(draft) = self.draft else {
            return match (self.most, self.least) {
                (None, None) => Ok(None),
                (Some(_), _) => Err(Problem::usage("draft_max: found no draft, wanted one")),
                (None, Some(_)) => Err(Problem::usage("draft_min: found no draft, wanted one")),
            };
        };
        let usual = DraftLength::default();
        let length = DraftLength::new(self.least.unwrap_or(usual.least()), self.most.unwrap_or(usual.most()))?;
        let source = match draft {
            Drafter::Named(name) if name == "lookup" => DraftSource::Lookup,
            Drafter::Named(name) => {
                let name = pythia_text::quoted(&name, '"', 80);
                return Err(Problem::usage(format_args!("draft: found {name}, wanted a Model or \"lookup\"")));
            }
            Drafter::Model(model) => model.get().as_draft(tokenizer)?,
        };
        Ok(Some(Drafting { source, length }))
    }
}
