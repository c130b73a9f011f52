//! Compiled kernels on disk, by the hash of what went in.
//!
//! A file is the image with its SHA-256 after it. One that does not match was cut off or is something else: it is
//! compiled again and replaced. Whatever else is wrong with the folder means that there is no cache, not that
//! something failed: compiling takes a second.

use pythia_tensor::user_cache;
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{fs, io, process};

/// Nobody takes as long to write a file.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Bytes of the checksum.
const CHECKSUM: usize = 32;

/// A folder of images.
pub(super) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// That of this user; none if no variable of the environment tells where to keep things.
    pub(super) fn of(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<Self> {
        Some(Self { folder: user_cache(variable)?.join("kernels") })
    }

    /// The image of this name, if there is a whole one.
    pub(super) fn read(&self, name: &str) -> Option<Vec<u8>> {
        let mut image = fs::read(self.folder.join(name)).ok()?;
        let checksum = image.split_off(image.len().checked_sub(CHECKSUM)?);
        (Sha256::digest(&image)[..] == checksum[..]).then_some(image)
    }

    /// Keeps an image, if that is possible. Another process may do the same: each renames a whole file of its own.
    pub(super) fn write(&self, name: &str, image: &[u8]) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let own = format!(".{}.{}.{name}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let temporary = self.folder.join(own);
        let written = self
            .make_folder()
            .and_then(|()| fs::write(&temporary, [image, &Sha256::digest(image)].concat()))
            .and_then(|()| fs::rename(&temporary, self.folder.join(name)));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
    }

    /// A folder that only this user writes to: what lies in it is run. What killed runs left there goes.
    fn make_folder(&self) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(&self.folder)?;
        for entry in fs::read_dir(&self.folder)?.flatten() {
            let is_temporary = entry.file_name().as_encoded_bytes().starts_with(b".");
            let age = entry.metadata().and_then(|data| data.modified()).map(|time| time.elapsed().unwrap_or_default());
            if is_temporary && age.is_ok_and(|age| age > ABANDONED) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::thread;

    fn cache(folder: &Path) -> Cache {
        Cache::of(|name| (name == "PYTHIA_CACHE").then(|| folder.to_owned())).unwrap()
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        assert_eq!(cache.read("a.cubin"), None);
        cache.write("a.cubin", b"image");
        assert_eq!(cache.read("a.cubin").unwrap(), b"image");
        cache.write("a.cubin", b"another");
        assert_eq!(cache.read("a.cubin").unwrap(), b"another");
        cache.write("empty.cubin", b"");
        assert_eq!(cache.read("empty.cubin").unwrap(), b"");
        let left: Vec<_> =
            fs::read_dir(folder.path().join("kernels")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "no temporary files: {left:?}");
    }

    #[test]
    fn what_killed_runs_left_goes() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        cache.write("a.cubin", b"image");
        let [old, new] = [".1.0.b.cubin", ".1.1.b.cubin"].map(|name| folder.path().join("kernels").join(name));
        for path in [&old, &new] {
            fs::write(path, "half").unwrap();
        }
        let long_ago = std::time::SystemTime::now() - 2 * ABANDONED;
        fs::File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();
        cache.write("b.cubin", b"image");
        assert!(!old.exists() && new.exists() && cache.read("a.cubin").is_some());
    }

    #[test]
    fn damaged_files_are_no_images() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        cache.write("a.cubin", b"image");
        let file = folder.path().join("kernels/a.cubin");
        let whole = fs::read(&file).unwrap();
        for length in 0..whole.len() {
            fs::write(&file, &whole[..length]).unwrap();
            assert_eq!(cache.read("a.cubin"), None, "{length} bytes");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&file, damaged).unwrap();
            assert_eq!(cache.read("a.cubin"), None, "byte {at}");
        }
    }

    #[test]
    fn no_folder_is_no_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let cache = cache(file.path());
        cache.write("a.cubin", b"image");
        assert_eq!(cache.read("a.cubin"), None);
        assert!(Cache::of(|_| None).is_none());
    }

    #[test]
    fn several_write_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        let image = vec![7; 100_000];
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        cache.write("a.cubin", &image);
                        assert!(cache.read("a.cubin").is_some_and(|read| read == image));
                    }
                });
            }
        });
    }
}
