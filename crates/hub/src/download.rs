//! Downloads a file to a checked blob, from the start or from where an earlier run stopped.

use crate::api::{self, RemoteFile};
use crate::blob::Hasher;
use crate::cache::RepoCache;
use crate::client::{Answer, Client};
use crate::id::Repo;
use crate::lock::Lock;
use crate::own;
use crate::retry::Fault;
use crate::{Error, url};
use pythia_task::Progress;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use ureq::http::header;

const BUFFER_BYTES: usize = 1 << 18;
/// A connection that delivered this many bytes before it broke counts as progress.
const PROGRESS_BYTES: u64 = 8 << 20;
/// Time to wait for another program's lock before the user is told.
const SILENT_WAIT: Duration = Duration::from_secs(5);

/// The shared state of the downloads of one checkpoint.
pub(crate) struct Job<'a> {
    pub(crate) client: &'a Client,
    pub(crate) cache: &'a RepoCache,
    pub(crate) id: &'a Repo,
    pub(crate) commit: &'a str,
    pub(crate) progress: &'a dyn Progress,
}

impl Job<'_> {
    /// Downloads `file` to a blob of the cache, if it is not there yet. Whether it was not.
    pub(crate) fn download(&self, file: &RemoteFile) -> Result<bool, Error> {
        let what = format!("{}: {}", self.id, file.name);
        let start = Instant::now();
        let mut is_told = false;
        let lock = Lock::acquire(&self.cache.lock(&file.blob), || {
            if !is_told && start.elapsed() > SILENT_WAIT {
                is_told = true;
                self.progress.note(&format!("{what}: waiting for another program that downloads it"));
            }
            self.client.check_stop()
        })?;
        if self.cache.has_blob(file) {
            self.progress.advance(&file.name, file.size_bytes as i64);
            return Ok(false);
        }
        let mut partial = if lock.is_held() {
            Partial::open(self.cache.incomplete(file, self.id.revision()), file)?
        } else {
            let (new, path) = self.cache.unshared()?;
            Partial::unshared(new, path, file)
        };
        self.progress.advance(&file.name, partial.done as i64);
        let mut was_resumed = partial.done > 0;
        let mut backoff = self.client.backoff();
        // Most bytes reached by any attempt. Only going well beyond it resets the retry limit, so endless restarts
        // still fail.
        let mut mark = partial.done;
        loop {
            match self.receive(&what, file, &mut partial) {
                Ok(()) => {}
                Err(fault) => {
                    if partial.done >= mark + PROGRESS_BYTES {
                        backoff.reset();
                    }
                    mark = mark.max(partial.done);
                    self.client.pause(&mut backoff, fault)?;
                    continue;
                }
            }
            let found = partial.take_hasher(file).finish();
            if found == file.blob {
                return partial.keep_as(&self.cache.blob(&file.blob)).map(|()| true);
            }
            self.restart(&mut partial, file)?;
            if !was_resumed {
                return Err(Error::data(what, format!("the download has {found}, wanted {}", file.blob)));
            }
            // The part of the earlier run may be damaged: after a power failure, sizes are right but not always
            // contents.
            self.progress
                .note(&format!("{what}: the part from an earlier run was damaged; downloading from the start"));
            was_resumed = false;
            mark = 0;
        }
    }

    fn restart(&self, partial: &mut Partial, file: &RemoteFile) -> Result<(), Error> {
        let lost = partial.done;
        partial.restart(file)?;
        self.progress.advance(&file.name, -(lost as i64));
        Ok(())
    }

    /// Requests the missing bytes and writes them as they arrive.
    fn receive(&self, what: &str, file: &RemoteFile, partial: &mut Partial) -> Result<(), Fault> {
        if partial.done == file.size_bytes {
            return Ok(());
        }
        let name: Vec<String> = file.name.split('/').map(url::segment).collect();
        let path = format!("/{}/resolve/{}/{}", self.id.path(), self.commit, name.join("/"));
        let mut answer = self.client.file(what, &path, partial.done)?;
        if answer.status == 416 {
            // The bytes on disk are not the start of the server's file.
            self.restart(partial, file)?;
            return Err(Fault::passing(Error::network(what, "the server cannot resume")));
        }
        api::check(self.client, self.id, Some(&file.name), &answer)?;
        if let Some(found) = answer.blob.as_ref().filter(|&found| *found != file.blob) {
            let reason = format!("the server now has {found}, its list of files said {}", file.blob);
            self.restart(partial, file)?;
            return Err(Error::data(what, reason).into());
        }
        if answer.status == 200 && partial.done > 0 {
            self.restart(partial, file)?;
        }
        if let Err(reason) = check_extent(&answer, partial.done, file.size_bytes) {
            self.restart(partial, file)?;
            return Err(Error::data(what, reason).into());
        }
        let mut body = answer.body.as_reader();
        let mut pace = self.client.pace();
        let mut buffer = vec![0; BUFFER_BYTES];
        while partial.done < file.size_bytes {
            self.client.check_stop()?;
            // A body that is too long is cut here. Its digest will not match.
            let room = (file.size_bytes - partial.done).min(BUFFER_BYTES as u64) as usize;
            let n = match body.read(&mut buffer[..room]) {
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(self.client.broken(what, &cut(partial.done, file.size_bytes, &error.to_string())));
                }
            };
            if n == 0 {
                return Err(self.client.broken(what, &cut(partial.done, file.size_bytes, "the connection ended")));
            }
            partial.write(&buffer[..n])?;
            self.progress.advance(&file.name, n as i64);
            if let Err(reason) = pace.advance(n as u64) {
                return Err(self.client.broken(what, &cut(partial.done, file.size_bytes, &reason)));
            }
        }
        Ok(())
    }
}

fn cut(done: u64, size: u64, reason: &str) -> String {
    format!("{reason} after {done} of {size} bytes")
}

/// Checks that a response contains the file of `size` bytes, starting at byte `from`.
fn check_extent(answer: &Answer, from: u64, size: u64) -> Result<(), String> {
    let text = |name| answer.headers.get(name).and_then(|value| value.to_str().ok());
    if answer.status == 206 {
        let wanted = format!("bytes {from}-{}/{size}", size - 1);
        let found = text(header::CONTENT_RANGE).unwrap_or_default();
        if found != wanted {
            return Err(format!("the server sends {}, wanted {wanted:?}", crate::error::excerpt(found)));
        }
    }
    match answer.body.content_length() {
        Some(length) if length != size - from => {
            Err(format!("the server sends {length} bytes, wanted {}: its list of files said {size}", size - from))
        }
        _ => Ok(()),
    }
}

/// An incomplete file. The bytes on disk are always its start, so a download can stop at any time.
struct Partial {
    path: PathBuf,
    file: File,
    hasher: Hasher,
    done: u64,
    /// Whether the next run can find it.
    is_resumable: bool,
}

impl Partial {
    /// Opens the file of an earlier run, or a new file. The caller must hold the lock.
    fn open(path: PathBuf, wanted: &RemoteFile) -> Result<Self, Error> {
        let open = || {
            let mut hasher = wanted.blob.hasher(wanted.size_bytes);
            let mut file = match own::open(&path)? {
                Some(file) if file.metadata()?.len() <= wanted.size_bytes => file,
                _ => replace(&path)?,
            };
            let mut done = 0;
            let mut buffer = vec![0; BUFFER_BYTES];
            loop {
                match file.read(&mut buffer)? {
                    0 => break,
                    n => {
                        hasher.update(&buffer[..n]);
                        done += n as u64;
                    }
                }
            }
            Ok((file, hasher, done))
        };
        let (file, hasher, done) = open().map_err(Error::io(&path))?;
        Ok(Self { path, file, hasher, done, is_resumable: true })
    }

    /// Creates a new file, which is removed if it is not completed.
    fn unshared(file: File, path: PathBuf, wanted: &RemoteFile) -> Self {
        Self { path, file, hasher: wanted.blob.hasher(wanted.size_bytes), done: 0, is_resumable: false }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(Error::io(&self.path))?;
        self.hasher.update(bytes);
        self.done += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self, wanted: &RemoteFile) -> Result<(), Error> {
        self.file = replace(&self.path).map_err(Error::io(&self.path))?;
        self.hasher = wanted.blob.hasher(wanted.size_bytes);
        self.done = 0;
        Ok(())
    }

    fn take_hasher(&mut self, wanted: &RemoteFile) -> Hasher {
        std::mem::replace(&mut self.hasher, wanted.blob.hasher(wanted.size_bytes))
    }

    /// Syncs the complete and checked file, and renames it to its blob.
    fn keep_as(self, blob: &Path) -> Result<(), Error> {
        self.file.sync_all().map_err(Error::io(&self.path))?;
        fs::rename(&self.path, blob).map_err(Error::io(blob))?;
        // Sync the name too. Not every system can.
        if let Some(Ok(folder)) = blob.parent().map(File::open) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

impl Drop for Partial {
    /// Removes the file if it is empty or cannot be found again. The lock, if any, is still held.
    fn drop(&mut self) {
        if self.done == 0 || !self.is_resumable {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Replaces the file at `path` by an empty one. It is not truncated, because a program that ignores locks may have
/// renamed it to a blob.
fn replace(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => File::options().read(true).write(true).create_new(true).open(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::BlobId;
    use crate::id::ModelId;

    const CONTENT: &[u8] = b"abc";

    /// A file of [`CONTENT`]; its digest as `printf abc | git hash-object --stdin` prints it.
    fn wanted() -> RemoteFile {
        let blob = BlobId::git_sha1("f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f").unwrap();
        RemoteFile { name: "f".into(), size_bytes: CONTENT.len() as u64, blob }
    }

    #[test]
    fn starting_over_leaves_what_has_been_published_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, blob) = (dir.path().join("x.incomplete"), dir.path().join("x"));
        let mut partial = Partial::open(path.clone(), &wanted()).unwrap();
        partial.write(CONTENT).unwrap();
        // What a program without a lock would do.
        fs::rename(&path, &blob).unwrap();
        partial.restart(&wanted()).unwrap();
        partial.write(b"?").unwrap();
        assert_eq!(fs::read(&blob).unwrap(), CONTENT);
        assert_eq!(fs::read(&path).unwrap(), b"?");
        drop(partial);
        fs::hard_link(&blob, dir.path().join("y")).unwrap();
        let shorter = RemoteFile { size_bytes: 2, ..wanted() };
        assert_eq!(Partial::open(dir.path().join("y"), &shorter).unwrap().done, 0);
        assert_eq!(fs::read(&blob).unwrap(), CONTENT);
    }

    #[test]
    fn without_a_lock_every_program_has_a_file_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let cache = RepoCache::new(dir.path(), ModelId::parse("a/b").unwrap().unwrap().as_repo());
        cache.prepare().unwrap();
        let open = || {
            let (file, path) = cache.unshared().unwrap();
            Partial::unshared(file, path, &wanted())
        };
        let (mut first, mut second) = (open(), open());
        assert_ne!(first.path, second.path);
        first.write(CONTENT).unwrap();
        second.write(b"?").unwrap();
        let (left, blob) = (second.path.clone(), cache.blob(&wanted().blob));
        assert_eq!(first.take_hasher(&wanted()).finish(), wanted().blob);
        first.keep_as(&blob).unwrap();
        second.restart(&wanted()).unwrap();
        second.write(b"?").unwrap();
        drop(second);
        assert!(!left.exists(), "nobody would find it");
        assert_eq!(fs::read(&blob).unwrap(), CONTENT);
    }
}
