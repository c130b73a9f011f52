//! From an id to a folder.

use crate::api::{self, Tree};
use crate::cache::RepoCache;
use crate::client::Client;
use crate::id::{ModelId, is_commit};
use crate::select::{self, Cached};
use crate::transfer::Transfer;
use crate::{Error, Settings, secret};
use pythia_task::{Cancel, Progress};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// Time between two checks of the caller's flag.
const POLL: Duration = Duration::from_millis(50);
/// Time for a cancelled download to end. A connection that is still being made then ends by itself later and touches no
/// file.
const GRACE: Duration = Duration::from_millis(500);

/// Passes everything on, and removes the token from notes.
pub(crate) struct WithoutToken(pub(crate) Arc<dyn Progress>);

impl Progress for WithoutToken {
    fn expect(&self, total_bytes: Option<u64>) {
        self.0.expect(total_bytes);
    }

    fn advance(&self, file: &str, bytes: i64) {
        self.0.advance(file, bytes);
    }

    fn note(&self, line: &str) {
        self.0.note(&secret::redact(line));
    }
}

/// A checkpoint in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The folder: `config.json`, the tokenizer and the weights.
    pub path: PathBuf,
    /// The commit, 40 hexadecimal digits.
    pub commit: String,
    /// The requested id, with the present name if the model was renamed.
    pub id: ModelId,
    /// Whether this call has downloaded weights, at least some of them. False if the cache had them all.
    pub downloaded: bool,
}

/// Finds the checkpoint `text`, which does not exist as a path: as an id of the Hub it is [fetched](fetch()). `None` if
/// it cannot be an id, so that to open it as a path gives the right error.
///
/// # Errors
/// As [`fetch()`]; or if it is more likely a path that is mistyped, which should not become a download.
pub fn find(
    settings: &Settings,
    text: &str,
    cancel: &Cancel,
    progress: Arc<dyn Progress>,
) -> Result<Option<Snapshot>, Error> {
    let Some(id) = ModelId::parse(text)? else {
        return match ModelId::suggestion(text) {
            Some(id) => Err(Error::refused(text, format!("no such file or folder; on the Hub it may be {id}"))),
            None => Ok(None),
        };
    };
    let owner = id.owner();
    if !text.contains("://") && Path::new(owner).is_dir() {
        let reason =
            format!("no such file or folder in {owner}/, which exists here; use hf://{text} for a model of the Hub");
        return Err(Error::refused(text, reason));
    }
    fetch(settings, &id, cancel, progress).map(Some)
}

/// Finds the checkpoint `id` in the cache, or downloads what the cache lacks.
///
/// Nothing is requested for a full commit hash that the cache has. For any other revision the server is asked once,
/// unless `settings` say to stay offline. If it does not answer and the cache has a checkpoint for the revision, that
/// one is used, with a note.
///
/// Returns within a second after `cancel` was raised.
///
/// # Errors
/// See [`Error`]. Downloaded bytes are kept, and the next call resumes there, unless they were wrong.
pub fn fetch(
    settings: &Settings,
    id: &ModelId,
    cancel: &Cancel,
    progress: Arc<dyn Progress>,
) -> Result<Snapshot, Error> {
    select::check_variant(settings.variant.as_deref())?;
    let progress: Arc<dyn Progress> = Arc::new(WithoutToken(progress));
    let mut id = id.clone();
    if let Some(note) = id.rename() {
        progress.note(&note);
    }
    id.check_step()?;
    if let Some(fault) = id.known_fault() {
        progress.note(&format!("{id}: {fault}"));
    }
    let cache = RepoCache::new(&settings.cache, id.as_repo());
    if let Some(snapshot) = without_network(settings, &cache, &id)? {
        return Ok(snapshot);
    }
    let variant = settings.variant.clone();
    connected(settings, cancel, progress, move |client, progress| {
        Online { transfer: Transfer { client, cache, repo: id.as_repo().clone(), progress }, id, variant }.fetch()
    })
}

/// Runs `work`, which asks the server, until it ends or `cancel` is raised.
pub(crate) fn connected<T: Send + 'static>(
    settings: &Settings,
    cancel: &Cancel,
    progress: Arc<dyn Progress>,
    work: impl FnOnce(Client, Arc<dyn Progress>) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let stop = Cancel::new();
    let client = Client::new(settings, stop.clone(), Arc::clone(&progress))?;
    let agent = client.agent();
    // A separate thread, because a name lookup or a connection attempt cannot be interrupted, only abandoned.
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // The receiver is gone if the caller has cancelled.
        let _ = sender.send(work(client, progress));
    });
    let lost = || Error::network("download", "ended without a result");
    loop {
        match receiver.recv_timeout(POLL) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Disconnected) => return Err(lost()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if cancel.is_raised() {
            stop.raise();
            agent.shutdown();
            // The download may have completed at the last moment.
            return receiver.recv_timeout(GRACE).unwrap_or(Err(Error::Cancelled));
        }
    }
}

/// The checkpoint, if no request is needed: offline, or for a commit that the cache has.
pub(crate) fn without_network(settings: &Settings, cache: &RepoCache, id: &ModelId) -> Result<Option<Snapshot>, Error> {
    let commit = cache.commit(id.revision());
    let state = commit.as_deref().map(|commit| select::cached(&cache.lookup(commit), settings.variant.as_deref()));
    let snapshot = |commit: String| {
        Ok(Some(Snapshot { path: cache.snapshot(&commit), commit, id: id.clone(), downloaded: false }))
    };
    match (commit, state) {
        (Some(commit), Some(Cached::Complete)) if settings.offline || is_commit(id.revision()) => snapshot(commit),
        (Some(commit), Some(Cached::Usable(_))) if settings.offline => snapshot(commit),
        _ if !settings.offline => Ok(None),
        (Some(commit), Some(Cached::Lacks(name))) if cache.snapshot(&commit).is_dir() => {
            let reason = format!("offline, and {} lacks {name}", cache.snapshot(&commit).display());
            Err(Error::offline(id.to_string(), reason))
        }
        _ => Err(Error::offline(id.to_string(), format!("offline, and not in the cache {}", cache.root().display()))),
    }
}

/// A fetch that may ask the server.
struct Online {
    transfer: Transfer,
    id: ModelId,
    variant: Option<String>,
}

impl Online {
    fn fetch(&self) -> Result<Snapshot, Error> {
        let commit = self.transfer.commit(|commit| self.is_usable(commit))?;
        let mut downloaded = false;
        if select::cached(&self.transfer.cache.lookup(&commit), self.variant.as_deref()) != Cached::Complete {
            let tree = match api::tree(&self.transfer.client, self.id.as_repo(), &commit) {
                Ok(tree) => tree,
                Err(error) => return self.without_server(&commit, error),
            };
            downloaded = self.complete(&commit, &tree)?;
        }
        // Last, so that it never names an incomplete snapshot.
        let _ = self.transfer.cache.set_commit(self.id.revision(), &commit);
        Ok(self.snapshot(commit, downloaded))
    }

    fn snapshot(&self, commit: String, downloaded: bool) -> Snapshot {
        Snapshot { path: self.transfer.cache.snapshot(&commit), commit, id: self.id.clone(), downloaded }
    }

    fn is_usable(&self, commit: &str) -> bool {
        !matches!(select::cached(&self.transfer.cache.lookup(commit), self.variant.as_deref()), Cached::Lacks(_))
    }

    /// The cached files of `commit`, if `error` is one of the network and they are enough.
    fn without_server(&self, commit: &str, error: Error) -> Result<Snapshot, Error> {
        if !matches!(error, Error::Network { .. }) || !self.is_usable(commit) {
            return Err(error);
        }
        self.transfer.progress.note(&format!("{error}; using the cached files"));
        Ok(self.snapshot(commit.to_owned(), false))
    }

    /// Downloads the missing files of the snapshot of `commit`. Whether there were weights among them.
    fn complete(&self, commit: &str, tree: &Tree) -> Result<bool, Error> {
        let selection = select::select(self.id.as_repo(), tree, self.variant.as_deref())?;
        self.transfer.cache.prepare()?;
        let is_index = selection.weights.shards.is_some();
        if is_index {
            // The index names the files to count.
            self.transfer.download(commit, &[selection.first], false)?;
        }
        let mut files = selection.companions.clone();
        files.push(selection.first);
        if is_index {
            let what = format!("{}: {}", self.id, selection.weights.name);
            for name in selection.weights.shards(&what, &self.transfer.cache.blob(&selection.first.blob))? {
                let missing = || {
                    let reason = format!("the index names {name}, which the repository does not have at this revision");
                    Error::data(self.id.to_string(), reason)
                };
                files.push(select::find(self.id.as_repo(), tree, &name)?.ok_or_else(missing)?);
            }
        }
        let brought = self.transfer.download_and_link(commit, &files)?;
        selection.absent.iter().try_for_each(|name| self.transfer.cache.set_absent(commit, name))?;
        let mut weights = files[selection.companions.len()..].iter().skip(usize::from(is_index));
        Ok(weights.any(|file| brought.contains(&file.blob)))
    }
}
