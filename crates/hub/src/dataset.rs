//! From the id of a dataset to the files of one split.

use crate::api::{self, Tree, is_plain_path};
use crate::cache::{Known, RepoCache};
use crate::error::excerpt;
use crate::fetch::{WithoutToken, connected};
use crate::id::{DatasetId, is_commit};
use crate::split::{self, Found};
use crate::transfer::Transfer;
use crate::{Error, Settings, select};
use pythia_task::{Cancel, Progress};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file that says which files belong to a split.
const README: &str = "README.md";
const README_LIMIT_BYTES: u64 = 8 << 20;
/// Where the server keeps its own conversion of a dataset to Parquet.
const CONVERSION: &str = "refs/convert/parquet";
/// Names that a message lists.
const LISTED: usize = 8;
/// The most files of a commit that are looked at in the cache.
const MAX_CACHED: usize = 20_000;

/// The files of one split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetFiles {
    /// In the order of their rows: Parquet or JSON.
    pub files: Vec<PathBuf>,
    /// The commit, 40 hexadecimal digits.
    pub commit: String,
}

/// Finds the files of a split of `id` in the cache, or downloads what the cache lacks. `config` names the configuration,
/// if the dataset has several.
///
/// Which files belong to a split, the repository's README says, or their names do. If the repository has neither Parquet
/// nor JSON for it, and no revision was asked for, the server's own conversion to Parquet is taken.
///
/// Nothing is requested for a full commit hash of which the cache certainly has all files of the split. Offline, the
/// files that the cache has are taken; a part that is known to be missing is an error.
///
/// # Errors
/// See [`Error`].
pub fn fetch_dataset(
    settings: &Settings,
    id: &DatasetId,
    config: Option<&str>,
    split: &str,
    cancel: &Cancel,
    progress: Arc<dyn Progress>,
) -> Result<DatasetFiles, Error> {
    let progress: Arc<dyn Progress> = Arc::new(WithoutToken(progress));
    let wanted = Wanted { config: config.map(str::to_owned), split: split.to_owned() };
    // The dataset itself, then the conversion of one that was not asked for at a revision.
    let ids: Vec<DatasetId> =
        std::iter::once(id.clone()).chain((!id.has_revision()).then(|| id.at(CONVERSION))).collect();
    for id in &ids {
        let cache = RepoCache::new(&settings.cache, id.as_repo());
        let revision = id.as_repo().revision();
        let Some(commit) = cache.commit(revision) else { continue };
        match wanted.cached(&cache, &commit) {
            Some((files, is_all)) if settings.offline || (is_all && is_commit(revision)) => {
                return Ok(DatasetFiles { files, commit });
            }
            _ => {}
        }
    }
    if settings.offline {
        let reason = format!("offline, and {wanted} is not in the cache {}", settings.cache.display());
        return Err(Error::offline(id.to_string(), reason));
    }
    let root = settings.cache.clone();
    connected(settings, cancel, progress, move |client, progress| {
        let mut client = client;
        let mut missing = None;
        for id in ids {
            let is_conversion = missing.is_some();
            let cache = RepoCache::new(&root, id.as_repo());
            let transfer = Transfer { client, cache, repo: id.as_repo().clone(), progress: Arc::clone(&progress) };
            match fetch(&transfer, &wanted) {
                Ok(Ok(files)) => {
                    if is_conversion {
                        progress.note(&format!("{id}: has {wanted}, converted by the server"));
                    }
                    return Ok(files);
                }
                // What the dataset itself has is the better message.
                Ok(Err(error)) => missing = missing.or(Some(error)),
                Err(Error::Refused { .. }) if is_conversion => {}
                Err(error) => return Err(error),
            }
            client = transfer.client;
        }
        Err(missing.unwrap_or(Error::Cancelled))
    })
}

/// A split of a configuration.
struct Wanted {
    config: Option<String>,
    split: String,
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the split {}", self.split)?;
        self.config.iter().try_for_each(|config| write!(f, " of {config}"))
    }
}

impl Wanted {
    fn find<'n>(&self, names: &[&'n str], readme: &str) -> Option<Found<'n>> {
        split::find(names, readme, self.config.as_deref(), &self.split)
    }

    /// The files of the split in the snapshot of `commit`, and whether these are certainly all. `None` if there are none,
    /// or one is certainly missing.
    fn cached(&self, cache: &RepoCache, commit: &str) -> Option<(Vec<PathBuf>, bool)> {
        let folder = cache.snapshot(commit);
        let mut names = Vec::new();
        walk(&folder, "", &mut names);
        names.sort_unstable();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        // Without the README, names might mislead.
        let has_readme = cache.lookup(commit).known(README) != Known::Nothing;
        let found = self.find(&names, &readme(&folder.join(README)))?;
        let is_split = found.files.iter().any(|name| name.contains("-of-0"));
        if is_split && !found.is_all {
            return None;
        }
        let files = found.files.iter().map(|name| folder.join(name)).collect();
        Some((files, found.is_all && has_readme))
    }
}

/// Downloads the split, or says that the repository has none.
fn fetch(transfer: &Transfer, wanted: &Wanted) -> Result<Result<DatasetFiles, Error>, Error> {
    let cache = &transfer.cache;
    let cached = |commit: &str| wanted.cached(cache, commit);
    let commit = transfer.commit(|commit| cached(commit).is_some())?;
    if let Some((files, true)) = cached(&commit) {
        let _ = cache.set_commit(transfer.repo.revision(), &commit);
        return Ok(Ok(DatasetFiles { files, commit }));
    }
    let tree = match api::tree(&transfer.client, &transfer.repo, &commit) {
        Ok(tree) => tree,
        Err(error @ Error::Network { .. }) => {
            let Some((files, _)) = cached(&commit) else { return Err(error) };
            transfer.progress.note(&format!("{error}; using the cached files"));
            return Ok(Ok(DatasetFiles { files, commit }));
        }
        Err(error) => return Err(error),
    };
    cache.prepare()?;
    let readme = match select::find(&transfer.repo, &tree, README)? {
        Some(file) => {
            transfer.download(&commit, &[file], false)?;
            cache.link(&commit, README, &file.blob)?;
            readme(&cache.snapshot(&commit).join(README))
        }
        None => {
            cache.set_absent(&commit, README)?;
            String::new()
        }
    };
    let names: Vec<&str> = tree.keys().map(String::as_str).collect();
    let Some(found) = wanted.find(&names, &readme) else {
        return Ok(Err(no_files(transfer, wanted, &tree)));
    };
    let files = found.files.iter().map(|name| select::find(&transfer.repo, &tree, name));
    let files: Vec<_> = files.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    transfer.download(&commit, &files, true)?;
    for file in &files {
        cache.link(&commit, &file.name, &file.blob)?;
    }
    let _ = cache.set_commit(transfer.repo.revision(), &commit);
    let files = found.files.iter().map(|name| cache.snapshot(&commit).join(name)).collect();
    Ok(Ok(DatasetFiles { files, commit }))
}

fn no_files(transfer: &Transfer, wanted: &Wanted, tree: &Tree) -> Error {
    let names = tree.keys().filter(|name| *name != README);
    let shown: Vec<String> = names.take(LISTED).map(|name| excerpt(name).replace('"', "")).collect();
    let more = if tree.len() > LISTED { ", ..." } else { "" };
    let reason = format!("no Parquet or JSON files of {wanted}; it has {}{more}", shown.join(", "));
    Error::refused(transfer.repo.to_string(), reason)
}

/// The README at `path`, or nothing.
fn readme(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(README_LIMIT_BYTES).read_to_end(&mut bytes));
    if read.is_ok() { String::from_utf8_lossy(&bytes).into_owned() } else { String::new() }
}

/// Adds the names of the files below `folder` to `names`, each after `prefix`.
fn walk(folder: &Path, prefix: &str, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let (path, name) = (entry.path(), format!("{prefix}{name}"));
        if names.len() >= MAX_CACHED || !is_plain_path(&name) {
            continue;
        }
        // Links lead to files of the cache; false for those whose file was removed.
        if path.is_file() {
            names.push(name);
        } else if path.is_dir() && !path.is_symlink() {
            walk(&path, &format!("{name}/"), names);
        }
    }
}
