//! Journals of an evaluation, one per model.

use crate::exit::Failure;
use pythia_compare::program_id;
use pythia_compare::report::FileDigest;
use pythia_eval::Subject;
use pythia_task::user_cache;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

/// Where replies are kept until the run is complete.
pub(super) struct Journals {
    /// `None` if no variable of the environment tells where.
    folder: Option<PathBuf>,
    resume: bool,
    /// Those that this run writes.
    used: Vec<PathBuf>,
    /// Whether another run writes the replies of one of the models.
    is_shared: bool,
}

impl Journals {
    /// In the cache folder; `resume` uses what is there.
    pub(super) fn new(resume: bool) -> Result<Self, Failure> {
        let cache = user_cache(|name| std::env::var_os(name).map(PathBuf::from));
        let folder = cache.map(|cache| cache.join("eval"));
        let is_made = folder.as_deref().map(fs::create_dir_all);
        match (&folder, is_made) {
            (Some(folder), Some(Err(e))) if resume => Err(Failure::at(folder, &e)),
            (None, _) if resume => {
                Err(Failure::usage("--resume: no cache folder, neither PYTHIA_CACHE, XDG_CACHE_HOME nor HOME is set"))
            }
            (Some(_), Some(Ok(()))) => Ok(Self { folder, resume, used: Vec::new(), is_shared: false }),
            _ => Ok(Self { folder: None, resume: false, used: Vec::new(), is_shared: false }),
        }
    }

    /// Their folder, which the cache of digests shares.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Opens the journal of a model of these files, running like this. False if another run writes it at this time: then
    /// replies of this one are not kept.
    pub(super) fn open(
        &mut self,
        subject: &mut Subject,
        files: &[FileDigest],
        arguments: &Map<String, Value>,
    ) -> Result<bool, Failure> {
        let Some(folder) = &self.folder else { return Ok(true) };
        // Neither the place of the file nor the number of threads changes replies.
        let matters = arguments.iter().filter(|(key, _)| !["model", "threads"].contains(&key.as_str()));
        let digests: Vec<&str> = files.iter().map(|file| file.sha256.as_str()).collect();
        let parts = json!([program_id(), digests, matters.collect::<Vec<_>>()]);
        let key = pythia_text::hex(&Sha256::digest(parts.to_string()));
        let own = subject.keep_in(folder, &key, !self.resume)?;
        self.is_shared |= own.is_none();
        let is_own = own.is_some();
        self.used.extend(own);
        Ok(is_own)
    }

    pub(super) fn is_kept(&self) -> bool {
        !self.used.is_empty() && !self.is_shared
    }

    /// The run is complete. What another run writes is left to it.
    pub(super) fn forget(self) {
        self.used.iter().for_each(|path| drop(fs::remove_file(path)));
    }
}
