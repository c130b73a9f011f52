//! Parent folders that are created for outputs, and removed if there is no output.

use super::live::{forget_folder, make_folder};
use super::{check_is_path, folder_of, sync_folder};
use crate::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Parent folders that were created for an output. Those that are still empty are removed when this value is dropped,
/// so that a failure leaves nothing behind.
#[derive(Debug)]
pub struct MadeFolders {
    /// The deepest last.
    made: Vec<PathBuf>,
}

impl MadeFolders {
    /// Creates `folder` and its missing parents.
    ///
    /// # Errors
    /// If the system refuses, or one of them is not a folder. The created folders are then removed.
    pub fn create(folder: &Path) -> Result<Self, Error> {
        check_is_path(folder)?;
        let mut this = Self { made: Vec::new() };
        let missing: Vec<&Path> = folder.ancestors().take_while(|folder| !is_there(folder)).collect();
        for folder in missing.into_iter().rev() {
            match make_folder(folder) {
                Ok(()) => this.made.push(folder.to_owned()),
                // Another process created it, or the path has a `..` after a missing folder.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
                Err(e) => return Err(Error::io(folder, "create the folder")(e)),
            }
        }
        match folder.as_os_str().is_empty() || folder.is_dir() {
            true => Ok(this),
            false => Err(Error::io(folder, "write into it")(io::ErrorKind::NotADirectory.into())),
        }
    }

    /// Keeps and syncs them, because the deepest now contains an output.
    ///
    /// # Errors
    /// If the system cannot sync a folder that contains one of them.
    pub fn keep(mut self) -> Result<(), Error> {
        let made = std::mem::take(&mut self.made);
        made.iter().for_each(|folder| forget_folder(folder));
        made.iter().try_for_each(|folder| sync_folder(folder_of(folder)))
    }
}

impl Drop for MadeFolders {
    fn drop(&mut self) {
        for folder in self.made.iter().rev() {
            // Fails for a folder that is not empty.
            let _ = fs::remove_dir(folder);
            forget_folder(folder);
        }
    }
}

/// Replaces the empty name that the current folder has among the ancestors of a relative path.
fn is_there(folder: &Path) -> bool {
    folder.as_os_str().is_empty() || folder.symlink_metadata().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::names;

    #[test]
    fn what_was_made_goes_again_unless_it_is_kept_or_used() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("there")).unwrap();
        let deep = dir.path().join("there/a/b");
        drop(MadeFolders::create(&deep).unwrap());
        assert_eq!(names(&dir.path().join("there")), [""; 0]);
        MadeFolders::create(&deep).unwrap().keep().unwrap();
        drop(MadeFolders::create(&deep).unwrap());
        assert!(deep.is_dir(), "it was there before");
        let other = dir.path().join("there/c/d/");
        let made = MadeFolders::create(&other).unwrap();
        fs::write(dir.path().join("there/c/file"), "").unwrap();
        drop(made);
        assert_eq!(names(&dir.path().join("there/c")), ["file"]);
    }

    #[test]
    fn a_file_on_the_way_is_an_error_and_nothing_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        for path in ["file", "file/a/b", "a/b/../../file/c"] {
            let error = MadeFolders::create(&dir.path().join(path)).unwrap_err().to_string();
            assert!(error.contains("file"), "{path}: {error}");
            assert_eq!(names(dir.path()), ["file"], "{path}");
        }
    }
}
