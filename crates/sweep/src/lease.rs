//! Leases: which runner works on a group, so that two do not do the same work.
//!
//! A lease is a file that its holder keeps locked and writes anew every [`BEAT`]. A runner may take a group
//!
//! 1. if nobody holds the lock of its file, and
//! 2. the file was written on this machine, or nobody has written it for [`STALE`].
//!
//! The lock alone decides among runners of one machine: the system ends it with its process, however that ends. It also
//! decides among machines if the file system has locks for all of them. Some have not, or are mounted without. There the
//! second rule decides. Times are those of the file system, so clocks of machines need not agree.
//!
//! No result depends on this. Results appear by rename, and runners of the same group write the same bytes. If the rules
//! fail, as for a machine that sleeps longer than [`STALE`], work is done twice.

use crate::Error;
use pythia_task::LockFile;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

/// Time between two writes of a lease that is held.
const BEAT: Duration = Duration::from_secs(20);
/// A lease of another machine that was not written for so long has no holder.
const STALE: Duration = Duration::from_secs(120);
/// How often to take a lease that its holder removes at the same moment.
const TRIES: usize = 100;
/// A larger file is not a lease.
const MAX_BYTES: u64 = 4096;

/// Who holds a lease.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Holder {
    /// Name of the machine.
    pub(crate) host: String,
    /// Changes with every start of the machine; empty if the system does not tell.
    boot: String,
    /// The process.
    pub(crate) pid: u32,
}

impl Holder {
    /// This process.
    pub(crate) fn this() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        #[cfg(unix)]
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        #[cfg(not(unix))]
        let host = std::env::var("COMPUTERNAME").unwrap_or_default();
        Self { host, boot: read("/proc/sys/kernel/random/boot_id"), pid: std::process::id() }
    }

    fn is_on(&self, other: &Self) -> bool {
        self.boot == other.boot && (!self.boot.is_empty() || self.host == other.host)
    }
}

/// What an attempt to take a lease came to.
pub(crate) enum Taken {
    /// It is held until this is dropped.
    Held(Lease),
    /// Another runner has it.
    ByOther(Option<Holder>),
}

/// A lease that this process holds. Its file goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    path: PathBuf,
    holder: Holder,
    stop: Option<Sender<()>>,
    beat: Option<JoinHandle<()>>,
}

impl Lease {
    /// Takes the lease at `path`, whose folder exists, unless another runner has it.
    pub(crate) fn take(path: &Path, this: &Holder) -> Result<Taken, Error> {
        for _ in 0..TRIES {
            regular(path)?;
            let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
            let mut open = LockFile(file.map_err(Error::io(path))?);
            let locked = open.0.try_lock();
            let is_there = open.is_at(path);
            let file = &mut open.0;
            let is_locked = match locked {
                Err(TryLockError::WouldBlock) => return Ok(Taken::ByOther(read(file))),
                // The holder has removed it in between.
                Ok(()) if !is_there => continue,
                Ok(()) => true,
                // Without locks, the second rule decides.
                Err(TryLockError::Error(_)) => false,
            };
            let before = read(file);
            let is_other = match &before {
                Some(holder) => holder != this && (!holder.is_on(this) || !is_locked),
                // Nobody has written his name yet, or it is no lease.
                None => file.metadata().is_ok_and(|metadata| metadata.len() > 0),
            };
            if is_other && age(path, file).map_err(Error::io(path))? < STALE {
                return Ok(Taken::ByOther(before));
            }
            file.set_len(0).and_then(|()| write(file, this)).map_err(Error::io(path))?;
            let (stop, stopped) = mpsc::channel();
            let (holder, named) = (this.clone(), path.to_owned());
            let beat = thread::Builder::new().name("lease".to_owned()).spawn(move || {
                while stopped.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) && is_of(&named, &holder) {
                    // A disk that is full or gone stops the runner elsewhere.
                    let _ = write(&mut open.0, &holder);
                }
                // Until the lease is dropped, or if another runner has taken it.
                let _ = stopped.recv();
            });
            let beat = beat.map_err(Error::io(path))?;
            let holder = this.clone();
            return Ok(Taken::Held(Self { path: path.to_owned(), holder, stop: Some(stop), beat: Some(beat) }));
        }
        let problem = io::Error::other("another run keeps removing it");
        Err(Error::Io { path: path.to_owned(), source: problem })
    }

    /// Whether no other runner has taken it, as it may if this one was asleep for long.
    pub(crate) fn is_held(&self) -> bool {
        is_of(&self.path, &self.holder)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.is_held() {
            // Removed while it is locked: whoever locks the removed file sees that it is not there any more.
            let _ = fs::remove_file(&self.path);
        }
        drop(self.stop.take());
        let _ = self.beat.take().map(JoinHandle::join);
    }
}

/// Refuses what is no file at `path`: a pipe would wait for its writer.
fn regular(path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => {
            Err(Error::Io { path: path.to_owned(), source: io::Error::other("not a regular file") })
        }
        _ => Ok(()),
    }
}

/// Whether the lease at `path` names this holder.
fn is_of(path: &Path, holder: &Holder) -> bool {
    File::open(path).ok().and_then(|mut file| read(&mut file)).as_ref() == Some(holder)
}

/// Who holds the lease at `path`, if it is held.
pub(crate) fn holder(path: &Path) -> Option<Holder> {
    regular(path).ok()?;
    let mut open = LockFile(File::open(path).ok()?);
    let file = &mut open.0;
    let holder = read(file)?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(holder),
        Ok(()) if holder.is_on(&Holder::this()) => None,
        _ => (age(path, file).ok()? < STALE).then_some(holder),
    }
}

fn read(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// Writes the name of the holder, over the same one if it is there: readers never find half a name.
fn write(file: &mut File, holder: &Holder) -> io::Result<()> {
    let text = serde_json::to_string(holder)? + "\n";
    file.seek(SeekFrom::Start(0))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// How long ago a file was written, by the clock of its file system: that of a file that is written beside it now.
fn age(path: &Path, file: &File) -> io::Result<Duration> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut probe = tempfile::NamedTempFile::new_in(folder)?;
    probe.write_all(b"now")?;
    probe.as_file().sync_all()?;
    let now: SystemTime = probe.as_file().metadata()?.modified()?;
    // A time to come is as wrong as one long ago.
    Ok(now.duration_since(file.metadata()?.modified()?).unwrap_or_else(|e| e.duration()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elsewhere() -> Holder {
        Holder { host: "elsewhere".into(), boot: "another".into(), pid: 1 }
    }

    #[test]
    fn one_holds_it_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        let this = Holder::this();
        let Taken::Held(lease) = Lease::take(&path, &this).unwrap() else { panic!("nobody had it") };
        assert_eq!(holder(&path), Some(this.clone()));
        let Taken::ByOther(found) = Lease::take(&path, &this).unwrap() else { panic!("taken twice") };
        assert_eq!(found, Some(this.clone()));
        drop(lease);
        assert!(!path.exists() && holder(&path).is_none());
        assert!(matches!(Lease::take(&path, &this).unwrap(), Taken::Held(_)));
    }

    #[test]
    fn a_killed_runner_of_this_machine_loses_it_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        let killed = Holder { pid: 1, ..Holder::this() };
        fs::write(&path, serde_json::to_string(&killed).unwrap()).unwrap();
        assert_eq!(holder(&path), None);
        assert!(matches!(Lease::take(&path, &Holder::this()).unwrap(), Taken::Held(_)));
    }

    #[test]
    fn another_machine_loses_it_when_it_is_stale() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        fs::write(&path, serde_json::to_string(&elsewhere()).unwrap()).unwrap();
        assert_eq!(holder(&path), Some(elsewhere()));
        let Taken::ByOther(found) = Lease::take(&path, &Holder::this()).unwrap() else { panic!("it is not stale") };
        assert_eq!(found, Some(elsewhere()));
        let old = SystemTime::now() - 2 * STALE;
        File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        assert_eq!(holder(&path), None);
        let Taken::Held(_lease) = Lease::take(&path, &Holder::this()).unwrap() else { panic!("it is stale") };
        assert_eq!(holder(&path), Some(Holder::this()));
    }

    #[test]
    fn what_is_no_lease_is_written_over_when_it_is_old() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        for content in ["{}", "half a le"] {
            fs::write(&path, content).unwrap();
            // It may be one of a later version.
            assert!(matches!(Lease::take(&path, &Holder::this()).unwrap(), Taken::ByOther(None)), "{content}");
            File::options().write(true).open(&path).unwrap().set_modified(SystemTime::now() - 2 * STALE).unwrap();
            assert!(matches!(Lease::take(&path, &Holder::this()).unwrap(), Taken::Held(_)), "{content}");
        }
        fs::write(&path, "").unwrap();
        assert!(matches!(Lease::take(&path, &Holder::this()).unwrap(), Taken::Held(_)));
    }

    #[test]
    fn a_lease_that_another_runner_has_taken_is_left_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        let Taken::Held(lease) = Lease::take(&path, &Holder::this()).unwrap() else { panic!("nobody had it") };
        fs::write(&path, serde_json::to_string(&elsewhere()).unwrap()).unwrap();
        assert!(!lease.is_held());
        drop(lease);
        assert_eq!(holder(&path), Some(elsewhere()));
    }
}
