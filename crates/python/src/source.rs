//! The checkpoint that a caller names: a path, or an id of the Hugging Face Hub.

use crate::error::Problem;
use crate::work::Notes;
use pythia_task::Cancel;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A checkpoint, as it was named.
pub(crate) struct Named {
    pub(crate) name: PathBuf,
    /// Which variant of the weights, such as `fp16`.
    pub(crate) variant: Option<String>,
    /// Open no connection.
    pub(crate) offline: bool,
}

/// A checkpoint or a file that is on this machine.
#[derive(Debug, Default)]
pub(crate) struct Located {
    pub(crate) path: PathBuf,
    /// Stem for the names of files made from it, if not that of the path.
    pub(crate) stem: Option<String>,
    /// Owner of the repository on the Hub.
    pub(crate) owner: Option<String>,
    /// Its branch, tag or commit.
    pub(crate) revision: Option<String>,
}

impl Named {
    /// Finds it. A path that exists is used as it is.
    pub(crate) fn locate(&self, notes: &Arc<Notes>, cancel: &Cancel) -> Result<Located, Problem> {
        match self.name.to_str().filter(|_| fs::symlink_metadata(&self.name).is_err()) {
            Some(text) => self.find(text, notes, cancel),
            None => Ok(here(&self.name)),
        }
    }

    #[cfg(feature = "hub")]
    fn find(&self, text: &str, notes: &Arc<Notes>, cancel: &Cancel) -> Result<Located, Problem> {
        let mut settings = pythia_hub::Settings::from_env(|name| std::env::var_os(name))?;
        settings.offline |= self.offline;
        settings.variant.clone_from(&self.variant);
        let progress = Arc::clone(notes);
        Ok(match pythia_hub::find(&settings, text, cancel, progress)? {
            None => here(&self.name),
            Some(pythia_hub::Snapshot { path, id, .. }) => Located {
                path,
                stem: Some(id.file_stem()),
                owner: Some(id.owner().to_owned()),
                revision: Some(id.revision().to_owned()),
            },
        })
    }

    #[cfg(not(feature = "hub"))]
    fn find(&self, _text: &str, _notes: &Arc<Notes>, _cancel: &Cancel) -> Result<Located, Problem> {
        Ok(here(&self.name))
    }
}

fn here(path: &Path) -> Located {
    Located { path: path.to_owned(), ..Located::default() }
}
