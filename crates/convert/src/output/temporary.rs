//! Names and locks of unfinished files, and the leftovers of killed processes.
//!
//! A file or folder that will become NAME is `.NAME.pythia-XXXXXX.tmp` beside it, and its writer holds a lock on it
//! (flock). A lock ends with its process, however that ends. So if such a file is ours and can be locked, its writer
//! has died, and the next run that writes NAME deletes it. On a file system without locks nothing is deleted, because a
//! file that is still being written looks the same.
//!
//! The name alone does not prove that a file is ours. So the six characters are a digest of its inode number. A copy
//! has another number, and a foreign file that is saved or renamed to such a name fits only by chance, once in two
//! billion cases. A folder is ours if it contains only files with the names that this program writes.

use super::{file_name, folder_of};
use sha2::{Digest, Sha256};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use tempfile::{NamedTempFile, TempPath};

/// Extension of unfinished files and folders.
pub(super) const UNFINISHED: &str = ".tmp";
/// Extension of a folder that was moved aside to be replaced.
pub(super) const REPLACED: &str = ".old";
/// Length of the tag in a name.
const TAG_CHARS: usize = 6;

/// A leftover of a killed process, and what was done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leftover {
    /// A file, or a folder with its contents, was removed.
    Removed {
        /// Where it was.
        path: PathBuf,
        /// Bytes in it.
        n_bytes: u64,
    },
    /// A folder that was moved aside but not replaced got its name back.
    PutBack {
        /// Its path.
        path: PathBuf,
    },
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removed { path, n_bytes } => {
                write!(f, "{}: removed {n_bytes} bytes, the leftover of a killed run", pythia_text::path(path))
            }
            Self::PutBack { path } => {
                write!(
                    f,
                    "{}: put back, because a run was killed while it replaced this folder",
                    pythia_text::path(path)
                )
            }
        }
    }
}

/// The part before the tag in the names for `target`.
fn prefix(target: &Path) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(file_name(target));
    prefix.push(".pythia-");
    prefix
}

/// Creates a file or folder beside `target` with `make`, under a name that ends in `ending`, with the permissions
/// `mode` minus the umask.
pub(super) fn create<T>(
    target: &Path,
    ending: &str,
    mode: u32,
    make: impl Fn(&tempfile::Builder<'_, '_>, &Path) -> io::Result<T>,
) -> io::Result<T> {
    let prefix = prefix(target);
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(ending).rand_bytes(TAG_CHARS);
    permit(&mut builder, mode);
    make(&builder, folder_of(target))
}

/// Creates an empty file for `target`, under a name that proves that it is ours.
pub(super) fn create_file(target: &Path) -> io::Result<NamedTempFile> {
    // Kept open until one gets a name, so that the next one has another inode number.
    let mut kept = Vec::new();
    while let Some(file) = create_unnamed(target) {
        let path = own_name(&file, target)?;
        match link(&file, &path) {
            Ok(()) => return Ok(NamedTempFile::from_parts(file, TempPath::try_from_path(path)?)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => kept.push(file),
            Err(_) => break,
        }
    }
    // In two steps. A process killed between them leaves an empty file that no run recognises.
    let mut kept = Vec::new();
    loop {
        let file = create(target, UNFINISHED, 0o666, |builder, folder| builder.tempfile_in(folder))?;
        let path = own_name(file.as_file(), target)?;
        if path.symlink_metadata().is_ok() {
            kept.push(file);
            continue;
        }
        let (file, first) = file.into_parts();
        fs::rename(&first, &path)?;
        return Ok(NamedTempFile::from_parts(file, TempPath::try_from_path(path)?));
    }
}

/// Creates a file without a name in the folder of `target`, where the file system can do that.
#[cfg(target_os = "linux")]
fn create_unnamed(target: &Path) -> Option<File> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    open(folder_of(target), flags, Mode::from_raw_mode(0o666)).ok().map(File::from)
}

#[cfg(not(target_os = "linux"))]
fn create_unnamed(_target: &Path) -> Option<File> {
    None
}

/// Gives an unnamed file this name, if it is free.
#[cfg(target_os = "linux")]
fn link(file: &File, path: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    use std::os::fd::AsRawFd;
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(CWD, own, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(not(target_os = "linux"))]
fn link(_file: &File, _path: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The name for `target` that only `file` can have.
fn own_name(file: &File, target: &Path) -> io::Result<PathBuf> {
    let mut name = prefix(target);
    name.push(tag(&file.metadata()?));
    name.push(UNFINISHED);
    Ok(folder_of(target).join(name))
}

/// The tag in the name of a file of ours.
fn tag(metadata: &fs::Metadata) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let digest = Sha256::digest([b"pythia unfinished".as_slice(), &number(metadata).to_le_bytes()].concat());
    let mut rest = digest.iter().take(8).fold(0u64, |number, &byte| number << 8 | u64::from(byte));
    let digit = |_| {
        let digit = DIGITS[(rest % 36) as usize];
        rest /= 36;
        char::from(digit)
    };
    (0..TAG_CHARS).map(digit).collect()
}

/// The inode number, which no other file of the file system has.
#[cfg(unix)]
fn number(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

/// Elsewhere nothing is deleted (see [`try_lock`]), so the number only has to differ each time.
#[cfg(not(unix))]
fn number(_metadata: &fs::Metadata) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

/// Whether the file at `path` has the name that [`create_file`] gave to it.
fn is_tagged(path: &Path, metadata: &fs::Metadata) -> bool {
    file_name(path).as_encoded_bytes().ends_with(format!("{}{UNFINISHED}", tag(metadata)).as_bytes())
}

/// Permissions of ordinary files minus the umask. (Temporary files are private by default, but these become outputs.)
#[cfg(unix)]
fn permit(builder: &mut tempfile::Builder<'_, '_>, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    builder.permissions(fs::Permissions::from_mode(mode));
}

#[cfg(not(unix))]
fn permit(_builder: &mut tempfile::Builder<'_, '_>, _mode: u32) {}

/// Locks the file just created at `path`. False if another process removed it as a leftover in between.
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

/// No lock on other systems, where it would keep this process from reading the file through another handle.
#[cfg(not(unix))]
fn try_lock(_file: &File) -> Result<(), TryLockError> {
    Err(TryLockError::Error(io::ErrorKind::Unsupported.into()))
}

/// A leftover of a killed process, now locked by this one.
pub(super) struct Orphan {
    pub(super) path: PathBuf,
    lock: File,
    kind: Kind,
}

/// The kind of an orphan.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// An unfinished file.
    File,
    /// A folder. This program writes only files of these names in it.
    Folder(&'static [&'static str]),
}

impl Orphan {
    /// The orphans of `target` whose names end in `ending`. Files that cannot be listed, opened or locked are left out.
    pub(super) fn find(target: &Path, ending: &str, kind: Kind) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(folder_of(target)) else { return Vec::new() };
        let prefix = prefix(target);
        let named = entries.flatten().filter(|entry| is_temporary(&entry.file_name(), &prefix, ending));
        named.filter_map(|entry| Self::claim(entry.path(), kind)).collect()
    }

    fn claim(path: PathBuf, kind: Kind) -> Option<Self> {
        // Checked before opening, because opening a FIFO waits for a writer. Links are never ours.
        let metadata = path.symlink_metadata().ok()?;
        let is_ours = match kind {
            Kind::File => metadata.is_file() && is_tagged(&path, &metadata),
            Kind::Folder(files) => metadata.is_dir() && contents(&path, files).is_some(),
        };
        if !is_ours {
            return None;
        }
        // On network file systems a write lock needs a file that is open for writing, which a folder cannot be.
        let is_file = matches!(kind, Kind::File);
        let lock = File::options().read(true).write(is_file).open(&path).ok()?;
        try_lock(&lock).ok()?;
        Some(Self { path, lock, kind })
    }

    /// Removes it. `None` if it has gone, cannot be removed, or contains something that no run writes.
    pub(super) fn remove(self) -> Option<Leftover> {
        let Self { path, lock, kind } = self;
        let n_bytes = match kind {
            Kind::File => {
                let n_bytes = lock.metadata().ok()?.len();
                fs::remove_file(&path).ok()?;
                n_bytes
            }
            Kind::Folder(files) => {
                let (files, n_bytes) = contents(&path, files)?;
                files.iter().try_for_each(fs::remove_file).ok()?;
                // Fails if something was added since.
                fs::remove_dir(&path).ok()?;
                n_bytes
            }
        };
        Some(Leftover::Removed { path, n_bytes })
    }
}

/// Whether `name` consists of `prefix`, a tag and `ending`.
fn is_temporary(name: &OsStr, prefix: &OsStr, ending: &str) -> bool {
    let rest = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes());
    let tag = rest.and_then(|rest| rest.strip_suffix(ending.as_bytes()));
    tag.is_some_and(|tag| tag.len() == TAG_CHARS && tag.iter().all(u8::is_ascii_alphanumeric))
}

/// The files in a folder and their sizes. `None` if it contains anything other than files of these `names`, finished or
/// unfinished.
fn contents(folder: &Path, names: &[&str]) -> Option<(Vec<PathBuf>, u64)> {
    let mut sum = 0;
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).ok()? {
        let path = entry.ok()?.path();
        let metadata = path.symlink_metadata().ok()?;
        let is_unfinished = |name: &&str| is_temporary(file_name(&path), &prefix(Path::new(name)), UNFINISHED);
        let is_ours = names.iter().any(|name| file_name(&path) == *name || is_unfinished(name));
        sum += (metadata.is_file() && is_ours).then_some(metadata.len())?;
        files.push(path);
    }
    Some((files, sum))
}

/// Removes the unfinished files of killed runs for `target`.
///
/// [`AtomicFile::create`](super::AtomicFile::create) does the same.
pub fn remove_leftovers(target: &Path) -> Vec<Leftover> {
    Orphan::find(target, UNFINISHED, Kind::File).into_iter().filter_map(Orphan::remove).collect()
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
        let leave = || create_file(&target).unwrap().into_temp_path().keep().unwrap();
        let (left, held) = (leave(), leave());
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
    fn a_file_with_such_a_name_that_is_not_ours_stays() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out.gguf");
        let left = create_file(&target).unwrap().into_temp_path().keep().unwrap();
        let theirs = [".out.gguf.pythia-abc123.tmp", ".out.gguf.pythia-thesis.tmp"].map(|name| dir.path().join(name));
        fs::write(&theirs[0], "GGUF, all of it").unwrap();
        fs::write(&theirs[1], "").unwrap();
        // What is copied, or saved by an editor, to the name that one of ours had.
        fs::write(dir.path().join("notes"), "theirs").unwrap();
        fs::rename(dir.path().join("notes"), &left).unwrap();
        assert_eq!(remove_leftovers(&target), []);
        assert!(theirs.iter().all(|path| path.exists()) && fs::read(&left).unwrap() == b"theirs");
        // A name that is taken is given to nobody.
        let names_before = names(dir.path());
        let files: Vec<_> = (0..8).map(|_| create_file(&target).unwrap()).collect();
        drop(files);
        assert_eq!(names(dir.path()), names_before);
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
