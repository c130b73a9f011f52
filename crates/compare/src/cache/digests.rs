//! SHA-256 of files, each read once: the digests are kept with what tells whether a file has changed since.

use super::folder::{DIGESTS, read_json, write_json};
use crate::Error;
use crate::report::FileDigest;
use pythia_convert::provenance::sha256_file;
use pythia_task::Cancel;
use serde::{Deserialize, Serialize};
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const FORMAT: &str = "pythia-digests/1";

/// Digests known by now.
///
/// ```
/// use pythia_compare::cache::Digests;
///
/// let folder = tempfile::tempdir()?;
/// let file = folder.path().join("model.gguf");
/// std::fs::write(&file, "abc")?;
/// let mut digests = Digests::open(Some(folder.path()));
/// assert!(digests.of(&file, &pythia_task::Cancel::new())?.sha256.starts_with("ba7816bf"));
/// digests.keep(); // so that the next program need not read the file, unless it was written just now
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Digests {
    /// Where they are kept, if anywhere.
    path: Option<PathBuf>,
    kept: Kept,
    has_new: bool,
    /// How long after a write a file may be changed without a later time.
    settles: Duration,
}

/// Some file systems count in twos of seconds.
const SETTLES: Duration = Duration::from_secs(3);

#[derive(Deserialize, Serialize)]
struct Kept {
    format: String,
    files: Vec<Entry>,
}

impl Kept {
    fn is_sound(&self) -> bool {
        let is_digest =
            |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        self.format == FORMAT && self.files.iter().all(|entry| is_digest(&entry.sha256))
    }
}

#[derive(Deserialize, Serialize)]
struct Entry {
    #[serde(flatten)]
    identity: Identity,
    sha256: String,
}

/// What changes with the content of a file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
struct Identity {
    path: PathBuf,
    bytes: u64,
    /// When it was written, nanoseconds since 1970.
    modified: u64,
    /// When anything about it was changed, which cannot be set; 0 where the system does not tell.
    changed: u64,
}

impl Digests {
    /// Those that are kept in `folder`; none are kept without one.
    pub fn open(folder: Option<&Path>) -> Self {
        let path = folder.map(|folder| folder.join(DIGESTS));
        let kept = path.as_deref().and_then(read_json::<Kept>).filter(Kept::is_sound);
        let kept = kept.unwrap_or_else(|| Kept { format: FORMAT.to_owned(), files: Vec::new() });
        Self { path, kept, has_new: false, settles: SETTLES }
    }

    /// The digest of a file, which is read if it is not known.
    ///
    /// # Errors
    /// If it cannot be read, or `cancel` is raised.
    pub fn of(&mut self, path: &Path, cancel: &Cancel) -> Result<FileDigest, Error> {
        let (begun, identity) = (SystemTime::now(), Identity::of(path)?);
        let known = self.kept.files.iter().find(|entry| entry.identity == identity);
        let sha256 = match known {
            Some(entry) => entry.sha256.clone(),
            None => {
                let sha256 = sha256_file(path, cancel)?;
                self.kept.files.retain(|entry| entry.identity.path != identity.path);
                // A file that changes while it is read has no digest that is worth keeping, nor has one that was written
                // a moment ago: another write within the same tick of the file system's clock would not be seen.
                if identity.is_older_than(self.settles, begun) && Identity::of(path)? == identity {
                    self.kept.files.push(Entry { identity: identity.clone(), sha256: sha256.clone() });
                    self.has_new = true;
                }
                sha256
            }
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(FileDigest { name, bytes: identity.bytes, sha256 })
    }

    /// Keeps what is new. That this fails is no reason to fail: the files are read again the next time.
    pub fn keep(&mut self) {
        if let Some(path) = self.path.as_ref().filter(|_| self.has_new) {
            self.kept.files.retain(|entry| entry.identity.path.exists());
            let _ = write_json(path, &self.kept);
        }
    }
}

impl Identity {
    fn of(path: &Path) -> Result<Self, Error> {
        let at = |source| Error::Io { path: path.to_owned(), source };
        let metadata = fs::metadata(path).map_err(at)?;
        let modified = metadata.modified().map_err(at)?;
        Ok(Self {
            path: path.canonicalize().map_err(at)?,
            bytes: metadata.len(),
            modified: nanoseconds(modified),
            changed: changed(&metadata),
        })
    }

    fn is_older_than(&self, age: Duration, now: SystemTime) -> bool {
        let newest = Duration::from_nanos(self.modified.max(self.changed));
        UNIX_EPOCH.checked_add(newest + age).is_some_and(|settled| settled <= now)
    }
}

/// Since 1970.
fn nanoseconds(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(unix)]
fn changed(metadata: &Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    (metadata.ctime() as u64).wrapping_mul(1_000_000_000).wrapping_add(metadata.ctime_nsec() as u64)
}

#[cfg(not(unix))]
fn changed(_metadata: &Metadata) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_of_files_that_may_still_be_written_are_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        fs::write(&file, "abc").unwrap();
        let mut digests = Digests::open(Some(dir.path()));
        assert!(digests.of(&file, &Cancel::new()).unwrap().sha256.starts_with("ba7816bf"));
        assert!(!digests.has_new);
        let (identity, second) = (Identity::of(&file).unwrap(), Duration::from_secs(1));
        let written = UNIX_EPOCH + Duration::from_nanos(identity.modified.max(identity.changed));
        assert!(!identity.is_older_than(SETTLES, written + SETTLES - second));
        assert!(identity.is_older_than(SETTLES, written + SETTLES + second));
    }

    #[test]
    fn digests_are_kept_until_the_file_changes() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        let never = Cancel::new();
        fs::write(&file, "abc").unwrap();
        let digest = |sha256: &str| {
            let mut digests = Digests { settles: Duration::ZERO, ..Digests::open(Some(dir.path())) };
            let found = digests.of(&file, &never).unwrap();
            digests.keep();
            assert_eq!((found.name.as_str(), found.sha256.starts_with(sha256)), ("x", true), "{found:?}");
            digests.has_new
        };
        assert!(digest("ba7816bf"));
        assert!(!digest("ba7816bf"), "known");
        let kept = dir.path().join(DIGESTS);
        let damaged = fs::read_to_string(&kept).unwrap().replace("ba7816bf", "../../..");
        fs::write(&kept, damaged).unwrap();
        assert!(digest("ba7816bf"), "no digest is kept there");
        let time = fs::metadata(&file).unwrap().modified().unwrap();
        fs::write(&file, "abd").unwrap();
        fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        if cfg!(unix) {
            assert!(digest("a52d159f"), "the time of a change cannot be set back");
        }
        // What is gone is forgotten.
        let other = dir.path().join("y");
        fs::write(&other, "abc").unwrap();
        fs::remove_file(&file).unwrap();
        let mut digests = Digests { settles: Duration::ZERO, ..Digests::open(Some(dir.path())) };
        digests.of(&other, &never).unwrap();
        digests.keep();
        assert_eq!(digests.kept.files.len(), 1);
    }
}
