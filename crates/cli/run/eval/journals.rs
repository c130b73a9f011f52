//! Journals of an evaluation, one per model.

use crate::exit::{self, Failure};
use pythia_compare::cache::DIGESTS;
use pythia_compare::program_id;
use pythia_compare::report::FileDigest;
use pythia_convert::output::remove_leftovers;
use pythia_eval::{Keeping, Kept, REPLIES, Subject};
use pythia_task::user_cache;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where replies are kept until the run is complete. By default nowhere.
#[derive(Default)]
pub(super) struct Journals {
    /// `None` if no variable of the environment tells where.
    folder: Option<PathBuf>,
    resume: bool,
    /// Those that this run writes.
    used: Vec<Kept>,
    /// Whether the last of these belongs to the model that was opened last.
    is_of_last: bool,
    /// Why the replies of one of the models are not kept, if they are not.
    lacking: Option<&'static str>,
}

/// Journals of stopped runs that nobody has resumed for so long are removed.
const OLD: Duration = Duration::from_secs(30 * 24 * 3600);

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
            (Some(found), Some(Ok(()))) => {
                clean(found);
                Ok(Self { folder, resume, ..Self::default() })
            }
            _ => Ok(Self::default()),
        }
    }

    /// Their folder, which the cache of digests shares.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Opens the journal of a model of these files, running like this. Returns why its replies are not kept, if they are
    /// not though there is a folder.
    pub(super) fn open(
        &mut self,
        subject: &mut Subject,
        files: &[FileDigest],
        arguments: &Map<String, Value>,
    ) -> Result<Option<&'static str>, Failure> {
        self.is_of_last = false;
        let Some(folder) = &self.folder else { return Ok(None) };
        // Neither the place of the file nor the number of threads changes replies.
        let matters = arguments.iter().filter(|(key, _)| !["model", "threads"].contains(&key.as_str()));
        let digests: Vec<&str> = files.iter().map(|file| file.sha256.as_str()).collect();
        let parts = json!([program_id(), digests, matters.collect::<Vec<_>>()]);
        let key = pythia_text::hex(&Sha256::digest(parts.to_string()));
        // The same model once more: its replies are kept already.
        if self.used.iter().any(|kept| kept.path() == REPLIES.path(folder, &key)) {
            return Ok(None);
        }
        let lacking = match subject.keep_in(folder, &key, !self.resume) {
            Err(error) if self.resume => return Err(error.into()),
            Err(_) => Some("its replies cannot be kept in the cache"),
            Ok(Keeping::ByThis(kept)) => {
                self.used.push(kept);
                self.is_of_last = true;
                None
            }
            Ok(Keeping::ByOther) => Some("another run keeps its replies"),
            Ok(Keeping::Nowhere) => Some("its replies are not kept, since the cache's file system knows no locks"),
        };
        self.lacking = self.lacking.or(lacking);
        Ok(lacking)
    }

    /// All tasks of a model are done. Replies that others need stay.
    pub(super) fn done(&mut self, subject: &Subject) {
        if self.is_of_last && subject.has_unused_replies() {
            self.used.pop();
        }
    }

    pub(super) fn is_kept(&self) -> bool {
        !self.used.is_empty() && self.lacking.is_none()
    }

    /// The run is complete. What another run writes is left to it.
    pub(super) fn forget(self) {
        self.used.iter().for_each(|kept| drop(fs::remove_file(kept.path())));
    }
}

/// Removes what runs left that were stopped long ago, perhaps of a program that is no more.
fn clean(folder: &Path) {
    remove_leftovers(&folder.join(DIGESTS)).iter().for_each(exit::note);
    for file in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, written) = (file.path(), file.metadata().and_then(|metadata| metadata.modified()));
        let is_old = written.is_ok_and(|written| written.elapsed().is_ok_and(|age| age > OLD));
        if is_old && REPLIES.is_at(&path) && fs::File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
            drop(fs::remove_file(path));
        }
    }
}
