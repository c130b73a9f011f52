//! Files and folders that appear whole or not at all.

mod folder;
mod live;
mod parents;
mod space;
mod temporary;

pub use folder::{AtomicFolder, check_folder, recover_folder};
pub use live::{Naming, give_up};
pub use parents::MadeFolders;
pub use temporary::{Leftover, remove_leftovers};

use crate::Error;
use live::Unfinished;
use pythia_task::Progress;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// An unfinished file: a temporary file in the target's folder. It is renamed to the target when it is complete, and
/// removed if this value is dropped before that.
///
/// (A killed process cannot remove it. It then leaves `.NAME.pythia-*.tmp`, never a partial NAME, and the next file for
/// the same target removes that.)
#[derive(Debug)]
pub struct AtomicFile {
    temp: NamedTempFile,
    /// Declared after the file, so that the file is dropped first.
    unfinished: Unfinished,
    target: PathBuf,
    /// The target's name in errors.
    shown: PathBuf,
}

impl AtomicFile {
    /// Starts a file that will become `target`, with `bytes` zeros and the disk space for them reserved. Leftovers of
    /// killed runs for the same target are removed first, each with a note to `progress`.
    ///
    /// # Errors
    /// If the folder does not exist or cannot be written, or has too little free space.
    pub fn create(target: &Path, bytes: u64, progress: &dyn Progress) -> Result<Self, Error> {
        Self::create_shown(target, target.to_owned(), bytes, progress)
    }

    /// Makes `target` a file of these bytes. What is there is replaced only with `force`.
    ///
    /// # Errors
    /// As [`create`](Self::create) and [`commit`](Self::commit).
    pub fn write(target: &Path, bytes: &[u8], force: bool, progress: &dyn Progress) -> Result<(), Error> {
        let file = Self::create(target, 0, progress)?;
        file.write_at(bytes, 0)?;
        file.commit(force)
    }

    /// As [`create`](Self::create), with `shown` as the target's name in errors.
    fn create_shown(target: &Path, shown: PathBuf, bytes: u64, progress: &dyn Progress) -> Result<Self, Error> {
        /// Attempts. Another process may remove the file as a leftover before it is locked, but not every time. If the
        /// folder is gone or cannot hold files, every attempt fails.
        const TRIES: usize = 8;
        remove_leftovers(target).iter().for_each(|leftover| progress.note(&leftover.to_string()));
        let mut tries = 0;
        let (temp, unfinished) = loop {
            tries += 1;
            let made = match Unfinished::make(|| temporary::create_file(target), NamedTempFile::path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && tries < TRIES => continue,
                made => made,
            };
            let (temp, unfinished) = made.map_err(Error::io(&shown, "create a file in its folder"))?;
            if temporary::hold(temp.as_file(), temp.path()) {
                break (temp, unfinished);
            }
        };
        space::reserve(temp.as_file(), bytes).map_err(Error::io(&shown, "reserve its space"))?;
        Ok(Self { temp, unfinished, target: target.to_owned(), shown })
    }

    /// The file, for positioned writes.
    pub fn file(&self) -> &File {
        self.temp.as_file()
    }

    /// Writes `bytes` at `offset`. Can be called from several threads.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        write_all_at(self.file(), bytes, offset).map_err(Error::io(&self.shown, "write"))
    }

    /// Its path until it is committed.
    pub fn temp_path(&self) -> &Path {
        self.temp.path()
    }

    /// Its path afterwards.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Syncs the file and renames it to the target. Without `force`, a target that exists by now is not replaced.
    ///
    /// # Errors
    /// If the data cannot be flushed, or the target exists and `force` is off. The temporary file is then removed.
    pub fn commit(self, force: bool) -> Result<(), Error> {
        let Self { temp, unfinished, target, shown, .. } = self;
        temp.as_file().sync_all().map_err(Error::io(&shown, "flush"))?;
        let _naming = Naming::begin();
        let renamed = if force { temp.persist(&target) } else { temp.persist_noclobber(&target) };
        renamed.map_err(|e| match e.error.kind() {
            std::io::ErrorKind::AlreadyExists => exists(&shown),
            _ => Error::io(&shown, "rename to")(e.error),
        })?;
        drop(unfinished);
        sync_folder(folder_of(&target))
    }
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let n = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
        if n == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[n..];
        offset += n as u64;
    }
    Ok(())
}

/// The error for a target that exists.
pub(crate) fn exists(target: &Path) -> Error {
    Error::Exists(target.to_owned())
}

/// Refuses `-`, which means standard output elsewhere. Outputs here appear whole or not at all, so they must be files.
fn check_is_path(target: &Path) -> Result<(), Error> {
    match target.as_os_str() == "-" {
        true => Err(Error::Request(
            "-: cannot write to standard output, wanted a path (./- for a file of that name)".into(),
        )),
        false => Ok(()),
    }
}

/// Refuses a `target` that is `-`, that is one of `inputs` (also by another path or a link), or that exists without
/// `force`.
///
/// # Errors
/// [`Error::Request`] or [`Error::Exists`] in every case.
pub fn check_target(target: &Path, inputs: &[PathBuf], force: bool) -> Result<(), Error> {
    check_is_path(target)?;
    if let Some(input) = inputs.iter().find(|input| same_file(target, input)) {
        let (target, input) = (target.display(), input.display());
        return Err(Error::Request(format!("{target}: the output would replace the input {input}")));
    }
    // A rename would even replace `/dev/null`.
    if target.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return Err(Error::Request(format!("{}: exists and is not a regular file", target.display())));
    }
    if !force && target.symlink_metadata().is_ok() {
        return Err(exists(target));
    }
    Ok(())
}

/// The folder of a path; the current one for a bare name.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The last component of a path; empty if that is `..`.
fn file_name(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

/// Syncs a folder, which makes a rename in it durable.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::io(folder, "flush"))
}

/// Only Unix can open a folder to sync it.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> Result<(), Error> {
    Ok(())
}

#[cfg(unix)]
fn same_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |path: &Path| path.metadata().map(|m| (m.dev(), m.ino()));
    matches!((id(a), id(b)), (Ok(a), Ok(b)) if a == b)
}

#[cfg(not(unix))]
fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    pub(super) fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_dropped_file_leaves_nothing_and_a_committed_one_leaves_itself() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out.gguf");
        drop(AtomicFile::create(&target, 10, &()).unwrap());
        assert_eq!(names(dir.path()), [""; 0]);

        let file = AtomicFile::create(&target, 10, &()).unwrap();
        assert!(names(dir.path())[0].starts_with(".out.gguf."), "{:?}", names(dir.path()));
        file.commit(false).unwrap();
        assert_eq!(names(dir.path()), ["out.gguf"]);
        assert_eq!(fs::read(&target).unwrap(), [0; 10]);
    }

    #[test]
    fn a_target_that_appears_meanwhile_is_kept_unless_forced() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out.gguf");
        let file = AtomicFile::create(&target, 3, &()).unwrap();
        fs::write(&target, "theirs").unwrap();
        let error = file.commit(false).unwrap_err();
        assert!(matches!(&error, Error::Exists(path) if *path == target), "{error}");
        assert_eq!(fs::read(&target).unwrap(), b"theirs");
        assert_eq!(names(dir.path()), ["out.gguf"]);

        AtomicFile::create(&target, 3, &()).unwrap().commit(true).unwrap();
        assert_eq!(fs::read(&target).unwrap(), [0; 3]);
    }

    /// It exists, but no file can be made in it, and the system says that it is not there.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_folder_that_takes_no_file_is_an_error_at_once() {
        let error = AtomicFile::create(Path::new("/proc/pythia-test.gguf"), 0, &()).unwrap_err().to_string();
        assert!(error.contains("/proc/pythia-test.gguf"), "{error}");
    }

    #[test]
    fn standard_output_is_no_target() {
        let error = check_target(Path::new("-"), &[], true).unwrap_err().to_string();
        assert!(error.starts_with("-: cannot write to standard output"), "{error}");
        assert!(check_folder(Path::new("-"), &[], &[], false).is_err());
        assert!(MadeFolders::create(Path::new("-")).is_err());
        check_target(Path::new("./-"), &[], false).unwrap();
    }

    #[test]
    fn inputs_are_never_targets() {
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join("model.safetensors");
        fs::write(&input, "weights").unwrap();
        let other = dir.path().join("other.gguf");
        check_target(&other, std::slice::from_ref(&input), false).unwrap();
        fs::hard_link(&input, &other).unwrap();
        for target in [&input, &other, &dir.path().join("./model.safetensors")] {
            let error = check_target(target, std::slice::from_ref(&input), true).unwrap_err().to_string();
            assert!(error.contains("would replace the input"), "{error}");
        }
        let error = check_target(dir.path(), &[], true).unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
    }
}
