//! Removes weights from the cache, for those who look at many checkpoints and have no room for all.

use crate::blob::BlobId;
use crate::cache::RepoCache;
use crate::error::excerpt;
use crate::id::{ModelId, is_commit};
use crate::lock::Lock;
use crate::{Error, Settings, select};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

/// How long to wait for the lock of a blob. Who takes a blob that is there holds it for a moment only.
const WAIT: Duration = Duration::from_secs(1);

/// Removes the weights that [`fetch`](crate::fetch()) took for `commit` of the repository of `id` from the cache. Config,
/// tokenizer and index stay. Returns the bytes that became free.
///
/// Contents that another snapshot of the repository links to stay, and so do those that another program has locked. A
/// link to a place outside the repository's folder in the cache is removed only where a blob is such a link, as those of
/// the store that `huggingface_hub` shares among repositories; what it leads to stays.
///
/// A `fetch` that runs at the same time downloads again what it lacks. But a program that has its snapshot already must
/// have opened the files: remove only weights that nobody else on this cache uses, such as those that this program has
/// [`downloaded`](crate::Snapshot::downloaded). On a file system without locks, that holds for a fetch, too.
///
/// # Errors
/// If `commit` is not one, a file cannot be removed, or a folder of the repository is a link.
pub fn evict(settings: &Settings, id: &ModelId, commit: &str) -> Result<u64, Error> {
    select::check_variant(settings.variant.as_deref())?;
    if !is_commit(commit) {
        let found = excerpt(commit);
        return Err(Error::Request(format!("{}: {found} is not a commit, wanted 40 hexadecimal digits", id.repo())));
    }
    let mut id = id.clone();
    // The folder is that of the present name.
    let _ = id.rename();
    let cache = RepoCache::new(&settings.cache, id.as_repo());
    for folder in cache.folders(commit) {
        match fs::symlink_metadata(&folder) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(Error::io(&folder)(io::Error::other("not a folder, so nothing is removed in it"))),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(Error::io(&folder)(error)),
        }
    }
    let names = select::fetched_weights(&cache.lookup(commit), settings.variant.as_deref());
    names.iter().try_fold(0, |freed, name| Ok(freed + remove(&cache, &cache.snapshot(commit).join(name))?))
}

/// Removes the file at `path` of a snapshot, and its blob if nothing else links to it. The bytes that became free.
fn remove(cache: &RepoCache, path: &Path) -> Result<u64, Error> {
    let Some(blob) = blob_of(cache, path)? else { return Ok(0) };
    let Some(_lock) = Lock::acquire_within(&cache.lock(&blob), WAIT)? else { return Ok(0) };
    let users = cache.users(&blob)?;
    let is_used = users.iter().any(|user| user != path);
    // The blob first: if the program is killed in between, the link that leads nowhere still tells what to remove.
    let freed = if is_used { 0 } else { remove_file(&cache.blob(&blob))? };
    Ok(freed + remove_file(path)?)
}

/// The blob of the file at `path` of a snapshot. `None` if the file is not of the cache's making.
fn blob_of(cache: &RepoCache, path: &Path) -> Result<Option<BlobId>, Error> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(None) };
    if found.is_symlink() {
        let target = fs::read_link(path).map_err(Error::io(path))?;
        let blob = target.file_name().and_then(|name| BlobId::from_etag(name.to_str()?));
        // Other links are the user's own.
        return Ok(blob.filter(|blob| target == RepoCache::target(blob)));
    }
    if !found.is_file() {
        return Ok(None);
    }
    // Where links cannot be made, it is a copy of its blob. Elsewhere the user may have put it here.
    for blob in cache.blobs() {
        let is_alike = fs::metadata(cache.blob(&blob)).is_ok_and(|other| other.len() == found.len());
        if is_alike && blob.digest_of(path).map_err(Error::io(path))? == blob {
            return Ok(Some(blob));
        }
    }
    Ok(None)
}

/// Removes a file, or a link but not what it leads to. The bytes that became free.
fn remove_file(path: &Path) -> Result<u64, Error> {
    let bytes = match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() && is_alone(&found) => found.len(),
        Ok(_) => 0,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(Error::io(path)(error)),
    };
    fs::remove_file(path).map_err(Error::io(path))?;
    Ok(bytes)
}

/// Whether the file has no other name.
#[cfg(unix)]
fn is_alone(metadata: &fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(metadata) == 1
}

#[cfg(not(unix))]
fn is_alone(_metadata: &fs::Metadata) -> bool {
    true
}
