//! The cache folder of one model: converted files and measurements that later runs of `compare` use.
//!
//! [`MARKER`] says that the folder is one. A run that uses it holds a shared lock on that file; what clears the cache
//! wants an exclusive one. Files in it appear by rename, or are journals that only one process at a time appends to, so
//! any number of runs can share a folder.

use super::rows::ROWS;
use crate::{Error, Observer, worker};
use pythia_convert::metadata::VERSION;
use pythia_convert::output::{AtomicFile, MadeFolders, remove_leftovers};
use pythia_eval::REPLIES;
use pythia_task::{LockFile, user_cache};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The file that makes a folder a cache.
pub(crate) const MARKER: &str = "pythia-cache.json";
/// What the marker says about itself.
const MARKER_FORMAT: &str = "pythia-cache/1";
/// Digests of files.
pub const DIGESTS: &str = "digests.json";
/// Speeds of a run that has not ended.
pub(crate) const SPEEDS: &str = "speeds.json";
/// What every file of JSON in a cache begins to say about itself.
const FORMATS: &str = "pythia-";
/// Files of state are small; a larger one is something else.
const MAX_STATE_BYTES: u64 = 64 << 20;

/// A folder in use by this process.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Keeps [`MARKER`] locked.
    _lock: Option<LockFile>,
}

/// The content of [`MARKER`].
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Marker {
    format: String,
    /// The checkpoint or file that the folder belongs to.
    pub(crate) source: String,
}

/// Anything that a cache keeps as JSON says what it is.
#[derive(Deserialize)]
struct Tagged {
    format: String,
}

/// The folder that holds those of all models: the one named, else the user's. `None` if no variable of the environment
/// tells where that is.
pub fn root(named: Option<&Path>) -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    named.map(Path::to_owned).or_else(|| Some(user_cache(variable)?.join("compare")))
}

impl Folder {
    /// Makes `path` the cache folder of `source`, if it is not one yet, and locks it.
    ///
    /// # Errors
    /// If it cannot be made or written, or is a folder of something else.
    pub(crate) fn open(path: PathBuf, source: &Path, observer: &dyn Observer) -> Result<Self, Error> {
        let marker = path.join(MARKER);
        // What clears the cache may take the marker away before it is held.
        for _ in 0..8 {
            let made = MadeFolders::create(&path)?;
            if marker.symlink_metadata().is_err() {
                let source = fs::canonicalize(source).unwrap_or_else(|_| source.to_owned());
                let content = Marker { format: MARKER_FORMAT.to_owned(), source: source.display().to_string() };
                write_json(&marker, &content)?;
            }
            if read_marker(&marker).is_none() {
                if marker.symlink_metadata().is_err() {
                    continue;
                }
                let problem = "not a marker of a cache";
                return Err(Error::Cache { path: marker, problem });
            }
            made.keep()?;
            if let Some(lock) = hold(&marker) {
                let state = [MARKER, DIGESTS, SPEEDS].map(|name| path.join(name));
                let leftovers = state.iter().flat_map(|file| remove_leftovers(file));
                leftovers.for_each(|leftover| observer.note(&leftover.to_string()));
                return Ok(Self { path, _lock: lock });
            }
        }
        Err(Error::Cache { path, problem: "another program keeps removing it" })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Number and size of the files in it.
    pub(crate) fn size(&self) -> (usize, u64) {
        let sizes = files(&self.path).into_iter().map(|(_, bytes)| bytes);
        sizes.fold((0, 0), |(n, sum), bytes| (n + 1, sum + bytes))
    }
}

/// A shared lock, and a new date: the folder is in use. `None` if the marker is gone by then; no lock where the file
/// system has none.
fn hold(marker: &Path) -> Option<Option<LockFile>> {
    let file =
        File::options().read(true).write(true).open(marker).or_else(|_| File::open(marker)).ok().map(LockFile)?;
    let is_locked = file.0.lock_shared().is_ok();
    let _ = file.0.set_modified(SystemTime::now());
    marker.exists().then_some(is_locked.then_some(file))
}

/// An exclusive lock on the marker of an unused folder. `None` if a run is using it, or if it cannot be locked.
pub(super) fn claim(marker: &Path) -> Option<LockFile> {
    let file = File::options().read(true).write(true).open(marker).ok().map(LockFile)?;
    match file.0.try_lock() {
        Ok(()) => Some(file),
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => None,
    }
}

/// The marker at `path`, if there is one.
pub(super) fn read_marker(path: &Path) -> Option<Marker> {
    read_json::<Marker>(path).filter(|marker| marker.format == MARKER_FORMAT)
}

/// The regular files in a folder, sorted, with their sizes. Links are not followed, nor listed.
pub(super) fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| {
        let metadata = entry.path().symlink_metadata().ok().filter(fs::Metadata::is_file)?;
        Some((entry.path(), metadata.len()))
    });
    let mut files: Vec<_> = files.collect();
    files.sort();
    files
}

/// Whether a file of a cache folder was written by this program, by what is in it.
pub(super) fn is_ours(path: &Path) -> bool {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("gguf") => pythia_gguf::open(path).is_ok_and(|(gguf, _)| gguf.metadata.get(VERSION).is_some()),
        Some("json") => read_json::<Tagged>(path).is_some_and(|tagged| tagged.format.starts_with(FORMATS)),
        _ => [&REPLIES, &ROWS].into_iter().any(|journal| journal.is_at(path)),
    }
}

/// What tells this build of the program from another, whose results may differ: the version, and the size and time of
/// the file that runs.
pub fn program_id() -> String {
    let metadata = worker::own_program().and_then(|path| path.metadata()).ok();
    let nanos = |metadata: &fs::Metadata| Some(metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos());
    let (bytes, time) = (metadata.as_ref().map(fs::Metadata::len), metadata.as_ref().and_then(nanos));
    format!("{} {} {}", env!("CARGO_PKG_VERSION"), bytes.unwrap_or_default(), time.unwrap_or_default())
}

/// What a small file of JSON holds; `None` if it is not there, or something else.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let metadata = path.symlink_metadata().ok()?;
    if !metadata.is_file() || metadata.len() > MAX_STATE_BYTES {
        return None;
    }
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_STATE_BYTES).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// Writes `value` as JSON, whole or not at all, over what is there.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    Ok(AtomicFile::write(path, text.as_bytes(), true, &())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_use_cannot_be_claimed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/model-1");
        let folder = Folder::open(path.clone(), dir.path(), &()).unwrap();
        let again = Folder::open(path.clone(), dir.path(), &()).unwrap();
        assert_eq!(folder.size().0, 1);
        let marker = path.join(MARKER);
        assert!(read_marker(&marker).is_some() && is_ours(&marker));
        #[cfg(unix)]
        {
            drop(folder);
            assert!(claim(&marker).is_none());
            drop(again);
            assert!(claim(&marker).is_some());
        }
    }

    #[test]
    fn a_folder_of_something_else_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(MARKER), "{\"format\": \"other/1\", \"source\": \"x\"}").unwrap();
        let error = Folder::open(dir.path().to_owned(), dir.path(), &()).unwrap_err();
        assert!(error.to_string().contains(MARKER), "{error}");
        assert!(!is_ours(&dir.path().join(MARKER)));
        for (name, content) in [("a.gguf", "GGUF"), ("b.rows", "x"), ("c.json", "[]"), ("d.txt", ""), ("e.json", "{}")]
        {
            let path = dir.path().join(name);
            fs::write(&path, content).unwrap();
            assert!(!is_ours(&path), "{name}");
        }
    }
}
