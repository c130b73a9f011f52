//! What a command line names as a checkpoint: a path, or an id of the Hugging Face Hub.

use super::check_checkpoint;
use crate::exit::Failure;
use pythia_checkpoint::Checkpoint;
use std::fs;
use std::path::{Path, PathBuf};

/// Options of commands that take a checkpoint.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SourceOptions {
    /// Open no connection: take a checkpoint of the Hub from the cache or not at all (also HF_HUB_OFFLINE=1)
    #[arg(long)]
    offline: bool,
    /// Take the weights of this variant, such as fp16: model.fp16.safetensors instead of model.safetensors
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
}

/// A checkpoint or file that is on this machine by now.
#[derive(Debug, Default)]
pub(crate) struct Located {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What files made from it are called, if the path does not tell: `pythia-70m-step3000`.
    pub(crate) stem: Option<String>,
    /// Owner of the Hub's repository.
    pub(crate) owner: Option<String>,
    /// The branch, tag or commit of it.
    pub(crate) revision: Option<String>,
}

impl SourceOptions {
    /// Finds what `named` names. What exists as a path is that path; else it may be an id of the Hub, whose files are
    /// then looked for in the cache and downloaded if they are not there.
    ///
    /// # Errors
    /// If there is no such thing, or it could not be downloaded.
    pub(crate) fn locate(&self, named: &Path, quiet: bool) -> Result<Located, Failure> {
        match named.to_str().filter(|_| fs::symlink_metadata(named).is_err()) {
            Some(text) => self.locate_text(text, quiet),
            None => Ok(Located { path: named.to_owned(), ..Located::default() }),
        }
    }

    /// Which variant of the weights.
    pub(crate) fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// Opens the checkpoint at `path`.
    ///
    /// # Errors
    /// If it is none, or damaged.
    pub(crate) fn open(&self, path: &Path) -> Result<Checkpoint, Failure> {
        check_checkpoint(path)?;
        Ok(Checkpoint::open_variant(path, self.variant())?)
    }

    #[cfg(feature = "hub")]
    fn locate_text(&self, text: &str, quiet: bool) -> Result<Located, Failure> {
        super::hub::locate(text, self.offline, self.variant(), quiet)
    }

    #[cfg(not(feature = "hub"))]
    fn locate_text(&self, text: &str, _quiet: bool) -> Result<Located, Failure> {
        let _ = (self.offline, &self.variant);
        let is_path = text.starts_with(['/', '.', '~']) || text.matches('/').count() != 1;
        if is_path && !text.contains("://") {
            return Ok(Located { path: text.into(), ..Located::default() });
        }
        Err(Failure::usage(format_args!(
            "{text}: no such file or folder; this program was built without the feature `hub`, which ids of the Hugging \
             Face Hub need"
        )))
    }
}
