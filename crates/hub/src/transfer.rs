//! Downloads several files of a repository at once.

use crate::api::{self, RemoteFile};
use crate::cache::RepoCache;
use crate::client::Client;
use crate::download::Job;
use crate::id::{Repo, is_commit};
use crate::{Error, space};
use pythia_task::Progress;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

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

    /// Downloads `files` to blobs, a few at a time.
    pub(crate) fn download(&self, commit: &str, files: &[&RemoteFile], with_progress: bool) -> Result<(), Error> {
        // Two names may have the same content.
        let missing: BTreeMap<_, _> =
            files.iter().filter(|file| !self.cache.has_blob(file)).map(|file| (&file.blob, *file)).collect();
        let mut missing: Vec<&RemoteFile> = missing.into_values().collect();
        if missing.is_empty() {
            return Ok(());
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
        let queue = Mutex::new(VecDeque::from(missing));
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let work = || {
            while let Some(file) = next() {
                if let Err(error) = job.download(file) {
                    // The others stop and keep their parts for the next run.
                    self.client.stop();
                    return Err(error);
                }
            }
            Ok(())
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..MAX_CONNECTIONS.min(files.len())).map(|_| scope.spawn(work)).collect();
            let lost = || Err(Error::network("download", "a thread ended without a result"));
            let results = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| lost()));
            // A thread that fails cancels the others.
            let worst = |first: Result<(), Error>, next| match (first, next) {
                (Ok(()) | Err(Error::Cancelled), next @ Err(_)) => next,
                (first, _) => first,
            };
            results.fold(Ok(()), worst)
        })
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
