//! Files with locks.

use std::fs::File;
use std::path::Path;

/// An open file that may be locked. Its lock ends when this is dropped.
///
/// To close the file alone would not always end it. While a child process is being started, it has the files of its parent
/// open too, until it runs its program. So the lock is ended explicitly.
#[derive(Debug)]
pub struct LockFile(pub File);

impl Drop for LockFile {
    fn drop(&mut self) {
        // Where there is no lock, there is none to end.
        let _ = self.0.unlock();
    }
}

impl LockFile {
    /// Whether it is the file at `path`, which is not a link. Another program may have removed it after it was opened here
    /// and before it was locked. Then the lock would exclude nobody.
    #[cfg(unix)]
    pub fn is_at(&self, path: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        match (self.0.metadata(), std::fs::symlink_metadata(path)) {
            (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
            _ => false,
        }
    }

    /// Whether it is the file at `path`: one that was removed cannot be opened.
    #[cfg(not(unix))]
    pub fn is_at(&self, _path: &Path) -> bool {
        true
    }
}
