//! The folder of an export.

use super::manifest::{Found, Identity, MANIFEST, Shard};
use crate::Error;
use pythia_convert::output::MadeFolders;
use pythia_task::Cancel;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

/// What the names of shards begin with.
const PREFIX: &str = "activations-";

/// Name of a shard.
pub(super) fn shard_name(number: usize, extension: &str) -> String {
    format!("{PREFIX}{number:05}.{extension}")
}

/// A folder that is ready to be written into.
pub(super) struct Ready {
    /// The shards that are there, of the same export.
    pub(super) shards: Vec<Shard>,
    /// Whether nothing is missing.
    pub(super) complete: bool,
    /// Removed again if nothing is written there.
    pub(super) made: MadeFolders,
    /// Nobody else writes there.
    pub(super) lock: FolderLock,
}

/// An advisory lock of a folder, where the system has them: two runs would mix their shards.
pub(super) struct FolderLock(Option<File>);

impl FolderLock {
    /// Fails if another has it.
    fn take(folder: &Path) -> Result<Self, ()> {
        let Ok(file) = File::open(folder) else { return Ok(Self(None)) };
        match file.try_lock() {
            Ok(()) => Ok(Self(Some(file))),
            Err(TryLockError::WouldBlock) => Err(()),
            Err(TryLockError::Error(_)) => Ok(Self(None)),
        }
    }
}

impl Drop for FolderLock {
    /// Said, not left to the end of the file: a child process that is being started still has it open for a moment.
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            let _ = file.unlock();
        }
    }
}

/// Finds out what is in a folder, which need not exist, and makes it. An export of the same identity can go on; what
/// else is there is removed with `force` if it is an export, and refused if it is not.
pub(super) fn prepare(folder: &Path, identity: &Identity, force: bool, cancel: &Cancel) -> Result<Ready, Error> {
    let shown = pythia_text::path(folder).to_string();
    if folder.symlink_metadata().is_ok() && !folder.is_dir() {
        return Err(Error::Request(format!("{shown}: exists and is not a folder")));
    }
    let made = MadeFolders::create(folder)?;
    let entries = entries(folder)?;
    if let Some(other) = entries.iter().find(|path| !is_ours(path)) {
        let other = pythia_text::path(Path::new(other.file_name().unwrap_or_default())).to_string();
        return Err(Error::Request(format!(
            "{shown}: contains {other}, which is no part of an export; wanted a folder that is new, empty or of an export"
        )));
    }
    let lock =
        FolderLock::take(folder).map_err(|()| Error::Request(format!("{shown}: another run is writing here")))?;
    if force {
        // A manifest of something else is somebody's file.
        Found::read(folder)?;
        // The manifest first: what it lists must be there.
        let (manifests, others): (Vec<_>, Vec<_>) = entries.iter().partition(|path| path.ends_with(MANIFEST));
        for path in manifests.into_iter().chain(others) {
            fs::remove_file(path).map_err(|source| pythia_convert::Error::Io {
                path: path.clone(),
                action: "remove",
                source,
            })?;
        }
        return Ok(Ready { shards: Vec::new(), complete: false, made, lock });
    }
    let Some(found) = Found::read(folder)? else {
        // An export has its manifest before its first shard.
        let mut names = entries.iter().filter_map(|path| path.file_name()?.to_str());
        if let Some(other) = names.find(|name| name.starts_with(PREFIX)) {
            return Err(Error::Request(format!(
                "{shown}: contains {other} but no {MANIFEST} that lists it (--force removes what is there)"
            )));
        }
        return Ok(Ready { shards: Vec::new(), complete: false, made, lock });
    };
    if let Some(difference) = found.difference(identity) {
        return Err(Error::Request(format!("{shown}: holds another export: {difference} (--force replaces it)")));
    }
    found.check_files(folder, cancel)?;
    Ok(Ready { shards: found.shards, complete: found.complete, made, lock })
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let read = fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    read.map_err(|source| pythia_convert::Error::Io { path: folder.to_owned(), action: "list", source }.into())
}

/// Whether an export has written it: by its name, since `--force` removes it.
fn is_ours(path: &Path) -> bool {
    let is_file = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_shard = |name: &str| {
        let Some((number, extension)) = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('.')) else {
            return false;
        };
        number.len() >= 5
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && ["safetensors", "npz"].contains(&extension)
    };
    // What a killed run leaves behind.
    let unfinished = name.strip_prefix('.').and_then(|rest| rest.strip_suffix(".tmp")?.split_once(".pythia-"));
    is_file && (name == MANIFEST || is_shard(&name) || unfinished.is_some_and(|(of, _)| of == MANIFEST || is_shard(of)))
}
