//! Downloads several files of a repository at once.

use crate::api::{self, RemoteFile};
use crate::blob::BlobId;
use crate::cache::RepoCache;
use crate::client::Client;
use crate::download::Job;
use crate::id::{Repo, is_commit};
use crate::lock::Lock;
use crate::{Error, space, workers};
use pythia_task::Progress;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Downloads of a checkpoint of which another program removes files, before giving up.
const MAX_REMOVALS: usize = 4;
/// Files that are downloaded at the same time.
const MAX_CONNECTIONS: usize = 4;

/// A repository on the server and its part of the cache.
pub(crate) struct Transfer {
    pub(crate) client: Client,
    pub(crate) cache: RepoCache,
    pub(crate) repo: Repo,
    pub(crate) progress: Arc<dyn Progress>,
}

impl Transfer {
    /// The present commit of the revision, or the last known one if the server does not answer and the cached files of it
    /// are enough.
    pub(crate) fn commit(&self, is_enough: impl Fn(&str) -> bool) -> Result<String, Error> {
        let revision = self.repo.revision();
        if is_commit(revision) {
            return Ok(revision.to_owned());
        }
        let cached = self.cache.commit(revision).filter(|commit| is_enough(commit));
        match (api::commit(&self.client, &self.repo, cached.is_none()), cached) {
            (Err(error @ Error::Network { .. }), Some(commit)) => {
                self.progress.note(&format!("{error}; using commit {commit} from the cache"));
                Ok(commit)
            }
            (result, _) => result,
        }
    }

    /// Downloads `files` to blobs, a few at a time. Returns those that the cache did not have.
    ///
    /// An error ends all downloads; their parts are kept for the next run.
    pub(crate) fn download(
        &self,
        commit: &str,
        files: &[&RemoteFile],
        with_progress: bool,
    ) -> Result<BTreeSet<BlobId>, Error> {
        // Two names may have the same content.
        let missing: BTreeMap<_, _> =
            files.iter().filter(|file| !self.cache.has_blob(file)).map(|file| (&file.blob, *file)).collect();
        let mut missing: Vec<&RemoteFile> = missing.into_values().collect();
        if missing.is_empty() {
            return Ok(BTreeSet::new());
        }
        for file in &missing {
            self.cache.remove_outdated(file, self.repo.revision());
        }
        self.check_space(&missing)?;
        if with_progress {
            let total = missing.iter().map(|file| file.size_bytes).fold(0, u64::saturating_add);
            self.progress.expect(Some(total));
        }
        // Largest first, so that no thread is left with it at the end.
        missing.sort_by_key(|file| std::cmp::Reverse(file.size_bytes));
        let job = Job {
            client: &self.client,
            cache: &self.cache,
            id: &self.repo,
            commit,
            progress: if with_progress { &*self.progress } else { &() },
        };
        let brought = Mutex::new(BTreeSet::new());
        workers::for_each(&self.client, MAX_CONNECTIONS, missing, |file| {
            if job.download(file)? {
                brought.lock().unwrap_or_else(PoisonError::into_inner).insert(file.blob.clone());
            }
            Ok(())
        })?;
        Ok(brought.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Downloads `files` and links them in the snapshot of `commit`. Returns the blobs that the cache did not have.
    ///
    /// They are linked when all are there, so that other programs never find an incomplete checkpoint.
    pub(crate) fn download_and_link(&self, commit: &str, files: &[&RemoteFile]) -> Result<BTreeSet<BlobId>, Error> {
        let mut brought = BTreeSet::new();
        for _ in 0..MAX_REMOVALS {
            brought.append(&mut self.download(commit, files, true)?);
            if self.link(commit, files)? {
                return Ok(brought);
            }
        }
        let reason = "another program removes files as they arrive";
        Err(Error::Io { path: self.cache.root().to_owned(), source: std::io::Error::other(reason) })
    }

    /// Links `files` in the snapshot of `commit`. False if one of them was removed after it was downloaded or found.
    fn link(&self, commit: &str, files: &[&RemoteFile]) -> Result<bool, Error> {
        for file in files {
            // Who removes a blob holds this lock, too, and leaves what a snapshot links to (`evict`).
            let _lock = Lock::acquire(&self.cache.lock(&file.blob), || self.client.check_stop())?;
            if !self.cache.has_blob(file) {
                return Ok(false);
            }
            self.cache.link(commit, &file.name, &file.blob)?;
        }
        Ok(true)
    }

    /// Fails if the file system has too little free space.
    fn check_space(&self, missing: &[&RemoteFile]) -> Result<(), Error> {
        let lacks = |file: &&RemoteFile| file.size_bytes - self.cache.incomplete_bytes(file, self.repo.revision());
        let wanted = missing.iter().map(lacks).fold(0, u64::saturating_add);
        match space::available_bytes(self.cache.root()) {
            Some(available) if available < wanted => {
                let reason =
                    format!("{wanted} bytes to download, {available} free; HF_HUB_CACHE can name another folder");
                Err(Error::Io { path: self.cache.root().to_owned(), source: std::io::Error::other(reason) })
            }
            _ => Ok(()),
        }
    }
}
