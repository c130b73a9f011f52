//! Options for drafts, of every command that generates text.

use crate::exit::Failure;
use pythia_model::Model;
use pythia_runtime::Tokenizer;
use pythia_runtime::draft::{DraftLength, DraftSource, DraftStats, Drafting};
use pythia_text::counted;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whether and how tokens are drafted.
#[derive(Debug, clap::Args)]
pub(super) struct DraftArgs {
    /// Check several tokens per pass that a smaller model with the same vocabulary drafts (a GGUF file), or that followed
    /// the same tokens earlier in the text (lookup). The result is the same; drafting stops while it does not save time
    #[arg(long, value_name = "FILE|lookup")]
    draft: Option<PathBuf>,
    /// Draft at most N tokens per pass
    #[arg(long, value_name = "N", default_value_t = DraftLength::default().most(), requires = "draft")]
    draft_max: usize,
    /// Draft at least N tokens per pass, also where that takes longer
    #[arg(long, value_name = "N", default_value_t = 0, requires = "draft")]
    draft_min: usize,
}

impl DraftArgs {
    /// Whether there is to be a draft.
    pub(super) fn is_asked(&self) -> bool {
        self.draft.is_some()
    }

    /// The file of the draft model, if there is one.
    pub(super) fn path(&self) -> Option<&Path> {
        self.draft.as_deref().filter(|path| path.as_os_str() != "lookup")
    }

    /// Opens the draft for texts of this tokenizer, and its model as `open` does.
    pub(super) fn open(
        &self,
        tokenizer: &Tokenizer,
        open: impl FnOnce(&Path) -> Result<(Arc<Model>, Tokenizer), Failure>,
    ) -> Result<Option<Drafting>, Failure> {
        if self.draft.is_none() {
            return Ok(None);
        }
        let length = DraftLength::new(self.draft_min, self.draft_max)?;
        let source = match self.path() {
            None => DraftSource::Lookup,
            Some(path) => {
                let (model, own) = open(path)?;
                DraftSource::model(model, &own, tokenizer)
                    .map_err(|error| Failure::data(format_args!("{}: {error}", pythia_text::path(path))))?
            }
        };
        Ok(Some(Drafting { source, length }))
    }
}

/// What came of the drafts of a text or of several, in words.
pub(super) fn in_words(stats: &DraftStats) -> String {
    if stats.passes == 0 {
        return "no drafts were checked".to_owned();
    }
    format!(
        "drafted: {} tokens in {}, {} accepted ({:.0} %), {:.2} of each; {:.3} s",
        stats.drafted,
        counted(stats.passes, "draft"),
        stats.accepted,
        100.0 * stats.acceptance(),
        stats.mean_accepted(),
        stats.time.as_secs_f64(),
    )
}
