//! Locks that keep two programs from downloading one file at the same time.
//!
//! They are those of `huggingface_hub`: `flock` on `.locks/models--OWNER--NAME/ETAG.lock`. They guard
//! `blobs/*.incomplete`, and a blob from being removed while a snapshot is linked to it. Two programs that write the same file would damage each other's download, and one could write
//! to a file that the other has already checked and renamed. On a file system without locks (see [`Lock::is_held`]),
//! every program must write its own files.

use crate::{Error, own};
use pythia_task::LockFile;
use std::fs::{self, TryLockError};
use std::io::ErrorKind;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(50);

/// A lock, held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    /// `None` on a file system without locks.
    file: Option<LockFile>,
}

impl Lock {
    /// Waits for the lock at `path`. Calls `waiting` after each failed attempt; its error ends the wait.
    pub(crate) fn acquire(path: &Path, mut waiting: impl FnMut() -> Result<(), Error>) -> Result<Self, Error> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        loop {
            match Self::try_acquire(path)? {
                Some(lock) => return Ok(lock),
                None => waiting()?,
            }
            thread::sleep(POLL);
        }
    }

    /// Waits for the lock at `path`, but not longer than `time`. `None` if another still holds it.
    pub(crate) fn acquire_within(path: &Path, time: Duration) -> Result<Option<Self>, Error> {
        let start = Instant::now();
        match Self::acquire(path, || if start.elapsed() < time { Ok(()) } else { Err(Error::Cancelled) }) {
            Err(Error::Cancelled) => Ok(None),
            result => result.map(Some),
        }
    }

    /// Whether the lock excludes other programs. False on a file system without locks.
    pub(crate) fn is_held(&self) -> bool {
        self.file.is_some()
    }

    /// The lock at `path`, or `None` if another holds it.
    pub(crate) fn try_acquire(path: &Path) -> Result<Option<Self>, Error> {
        let mut options = own::options();
        // The permissions that Python uses, because a cache may belong to a group.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o664);
        let file = LockFile(options.open(path).map_err(Error::io(path))?);
        match file.0.try_lock() {
            // It may be behind a link.
            Ok(()) => {
                Ok(fs::canonicalize(path).is_ok_and(|path| file.is_at(&path)).then_some(Self { file: Some(file) }))
            }
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => Ok(Some(Self { file: None })),
            Err(TryLockError::Error(error)) => Err(Error::io(path)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_it_and_the_other_waits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.lock");
        let mut first = Some(Lock::acquire(&path, || panic!("nobody holds it")).unwrap());
        assert!(Lock::try_acquire(&path).unwrap().is_none());
        let mut tries = 0;
        let waiting = || {
            tries += 1;
            if tries == 2 {
                first = None;
            }
            Ok(())
        };
        Lock::acquire(&path, waiting).unwrap();
        assert_eq!(tries, 2);
        let held = Lock::acquire(&path, || Ok(())).unwrap();
        let error = Lock::acquire(&path, || Err(Error::Cancelled)).unwrap_err();
        assert!(matches!(error, Error::Cancelled));
        drop(held);
    }
}
