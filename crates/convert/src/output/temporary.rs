//! Names and locks of what is under construction, and what is left of it when a process is killed.
//!
//! The file or folder that becomes NAME lies beside it as `.NAME.pythia-XXXXXX.tmp`, and is locked by the process that
//! makes it (flock). Locks end with their process, however it ends: what bears such a name and can be locked belongs to
//! nobody any more, and the next run that makes NAME removes it. Where a file system knows no locks, nothing is
//! removed: what is still being written looks the same there.

use super::{file_name, folder_of};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// Ending of what is under construction.
pub(super) const UNFINISHED: &str = ".tmp";
/// Ending of a folder that makes room for the one that replaces it.
pub(super) const REPLACED: &str = ".old";
/// Random characters of a name.
const RANDOM_CHARS: usize = 6;

/// What was done about the remains of a process that was killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leftover {
    /// A file, or a folder with all that was in it, was removed.
    Removed {
        /// Where it was.
        path: PathBuf,
        /// Bytes in it.
        n_bytes: u64,
    },
    /// A folder that had made room for another, which never came, has its name again.
    PutBack {
        /// Where it is again.
        path: PathBuf,
    },
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removed { path, n_bytes } => {
                write!(
                    f,
                    "{}: removed, {n_bytes} bytes that a run had left when it was killed",
                    pythia_text::path(path)
                )
            }
            Self::PutBack { path } => {
                write!(f, "{}: put back, a run was killed while it replaced it", pythia_text::path(path))
            }
        }
    }
}

/// What comes before the random characters in the names for `target`.
fn prefix(target: &Path) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(file_name(target));
    prefix.push(".pythia-");
    prefix
}

/// Makes a file or folder for `target` with `make`, beside it, under a name that ends in `ending`; `mode` is what is
/// permitted, before the umask.
pub(super) fn create<T>(
    target: &Path,
    ending: &str,
    mode: u32,
    make: impl Fn(&tempfile::Builder<'_, '_>, &Path) -> io::Result<T>,
) -> io::Result<T> {
    let prefix = prefix(target);
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(ending).rand_bytes(RANDOM_CHARS);
    permit(&mut builder, mode);
    make(&builder, folder_of(target))
}

/// Temporary files are private by default; these become ordinary ones, so the umask decides.
#[cfg(unix)]
fn permit(builder: &mut tempfile::Builder<'_, '_>, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    builder.permissions(fs::Permissions::from_mode(mode));
}

#[cfg(not(unix))]
fn permit(_builder: &mut tempfile::Builder<'_, '_>, _mode: u32) {}

/// Locks what was just made at `path`. False if another process took it for a leftover in between; it is gone then.
pub(super) fn hold(file: &File, path: &Path) -> bool {
    match try_lock(file) {
        Ok(()) => path.symlink_metadata().is_ok(),
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(_)) => true,
    }
}

#[cfg(unix)]
fn try_lock(file: &File) -> Result<(), TryLockError> {
    file.try_lock()
}

/// Elsewhere a lock would keep its own process from reading the file by another handle.
#[cfg(not(unix))]
fn try_lock(_file: &File) -> Result<(), TryLockError> {
    Err(TryLockError::Error(io::ErrorKind::Unsupported.into()))
}

/// Something that a process had under construction, or out of the way, when it was killed: now locked by this one.
pub(super) struct Orphan {
    pub(super) path: PathBuf,
    lock: File,
    is_folder: bool,
}

impl Orphan {
    /// Those of `target` whose names end in `ending`. What cannot be listed, opened or locked is none.
    pub(super) fn find(target: &Path, ending: &str, is_folder: bool) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(folder_of(target)) else { return Vec::new() };
        let prefix = prefix(target);
        let named = entries.flatten().filter(|entry| is_temporary(&entry.file_name(), &prefix, ending));
        named.filter_map(|entry| Self::claim(entry.path(), is_folder)).collect()
    }

    fn claim(path: PathBuf, is_folder: bool) -> Option<Self> {
        // Asked before opening: opening a FIFO waits for a writer, and no link is ours.
        let metadata = path.symlink_metadata().ok()?;
        let is_ours = if is_folder { metadata.is_dir() } else { metadata.is_file() };
        if !is_ours {
            return None;
        }
        // Network file systems lock for writing only what is open for writing; a folder cannot be.
        let lock = File::options().read(true).write(!is_folder).open(&path).ok()?;
        try_lock(&lock).ok()?;
        Some(Self { path, lock, is_folder })
    }

    /// Removes it. `None` if it is not there any more, cannot be removed, or holds what no run puts there.
    pub(super) fn remove(self) -> Option<Leftover> {
        let Self { path, lock, is_folder } = self;
        let n_bytes = if is_folder { plain_bytes(&path)? } else { lock.metadata().ok()?.len() };
        let removed = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.ok()?;
        Some(Leftover::Removed { path, n_bytes })
    }
}

/// Whether `name` is `prefix`, random characters and `ending`, nothing else.
fn is_temporary(name: &OsStr, prefix: &OsStr, ending: &str) -> bool {
    let rest = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes());
    let random = rest.and_then(|rest| rest.strip_suffix(ending.as_bytes()));
    random.is_some_and(|random| random.len() == RANDOM_CHARS && random.iter().all(u8::is_ascii_alphanumeric))
}

/// Bytes of the files in a folder; `None` if it holds anything but files.
fn plain_bytes(folder: &Path) -> Option<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder).ok()? {
        let metadata = entry.ok()?.path().symlink_metadata().ok()?;
        sum += metadata.is_file().then_some(metadata.len())?;
    }
    Some(sum)
}

/// Removes the files that runs left under construction for `target` when they were killed.
///
/// [`AtomicFile::create`](super::AtomicFile::create) does so too.
pub fn remove_leftovers(target: &Path) -> Vec<Leftover> {
    Orphan::find(target, UNFINISHED, false).into_iter().filter_map(Orphan::remove).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::names;

    #[test]
    fn only_names_of_the_target_are_temporary() {
        let prefix = prefix(Path::new("some/out.gguf"));
        let is_ours = |name: &str| is_temporary(name.as_ref(), &prefix, UNFINISHED);
        assert!(is_ours(".out.gguf.pythia-aB3xYz.tmp"));
        for other in [
            ".out.gguf.pythia-aB3xYz.old",
            ".out.gguf.pythia-aB3xY.tmp",
            ".out.gguf.pythia-aB3xYzz.tmp",
            ".out.gguf.pythia-aB.xYz.tmp",
            ".out.gguf.backup.tmp",
            ".out.pythia-aB3xYz.tmp",
            ".out.gguf.sha256.pythia-aB3xYz.tmp",
            "out.gguf.pythia-aB3xYz.tmp",
            "out.gguf",
        ] {
            assert!(!is_ours(other), "{other}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_nobody_holds_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out.gguf");
        let left = dir.path().join(".out.gguf.pythia-left00.tmp");
        let held = dir.path().join(".out.gguf.pythia-held00.tmp");
        let link = dir.path().join(".out.gguf.pythia-link00.tmp");
        let folder = dir.path().join(".out.gguf.pythia-fold00.tmp");
        fs::write(&left, "123").unwrap();
        fs::write(&held, "1234").unwrap();
        fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink(&held, &link).unwrap();
        let holder = File::open(&held).unwrap();
        assert!(hold(&holder, &held));
        assert_eq!(remove_leftovers(&target), [Leftover::Removed { path: left, n_bytes: 3 }]);
        assert_eq!(names(dir.path()).len(), 3);
        drop(holder);
        assert_eq!(remove_leftovers(&target).len(), 1);
        assert_eq!(names(dir.path()), [".out.gguf.pythia-fold00.tmp", ".out.gguf.pythia-link00.tmp"]);
    }

    #[cfg(unix)]
    #[test]
    fn what_was_taken_away_before_it_could_be_locked_is_not_held() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let file = File::create(&path).unwrap();
        let other = File::open(&path).unwrap();
        assert!(hold(&other, &path));
        assert!(!hold(&file, &path), "another has the lock");
        drop(other);
        fs::remove_file(&path).unwrap();
        assert!(!hold(&file, &path), "another has removed it");
    }
}
