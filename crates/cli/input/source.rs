//! The checkpoint that a command line names: a path, or an id of the Hugging Face Hub.

use super::check_checkpoint;
use crate::exit::Failure;
use pythia_convert::CheckpointSource;
use std::fs;
use std::path::{Path, PathBuf};

/// Options of commands that take a checkpoint.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SourceOptions {
    /// Open no connection: use only cached checkpoints of the Hub (same as HF_HUB_OFFLINE=1)
    #[arg(long)]
    offline: bool,
    /// Use this variant of the weights, such as fp16 for model.fp16.safetensors
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
}

/// A checkpoint or file that is now on this machine.
#[derive(Debug, Default)]
pub(crate) struct Located {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Stem for the names of files made from it, if not that of the path: `pythia-70m-step3000`.
    pub(crate) stem: Option<String>,
    /// Owner of the repository on the Hub.
    pub(crate) owner: Option<String>,
    /// Its branch, tag or commit.
    pub(crate) revision: Option<String>,
}

impl SourceOptions {
    /// Whether no connection may be opened.
    pub(crate) fn is_offline(&self) -> bool {
        self.offline
    }

    /// Finds `named`. A path that exists is used as it is. Otherwise `named` may be an id of the Hub: its files are
    /// looked for in the cache, and downloaded if they are missing.
    ///
    /// # Errors
    /// If it exists neither here nor on the Hub, or could not be downloaded.
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
    /// If it is not a checkpoint, or is damaged.
    pub(crate) fn open(&self, path: &Path) -> Result<CheckpointSource, Failure> {
        check_checkpoint(path)?;
        Ok(CheckpointSource::open_variant(path, self.variant())?)
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
            "{text}: no such file or folder; to use ids of the Hugging Face Hub, build the program with the feature \
             `hub`"
        )))
    }
}
