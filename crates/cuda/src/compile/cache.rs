//! Compiled kernels on disk, by a hash of their inputs.
//!
//! A file is the image followed by its SHA-256. If they do not match, the kernel is compiled again and the file
//! replaced. Any other problem with the folder is treated as if there were no cache, because compiling takes only a
//! second.
//!
//! Images are executed, so the checksum is not enough: folder and file must belong to this user and must not be
//! writable by anyone else. Links are not followed.

use pythia_task::user_cache;
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{fs, io, process};

/// Age of a temporary file that is certainly a leftover.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Bytes of the checksum.
const CHECKSUM: usize = 32;

/// Maximum size of an image.
const MAX_BYTES: u64 = 256 << 20;

/// A folder of images.
pub(super) struct ImageCache {
    folder: PathBuf,
}

impl ImageCache {
    /// The cache of this user. `None` if no environment variable gives a place.
    pub(super) fn of(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<Self> {
        Some(Self { folder: user_cache(variable)?.join("kernels") })
    }

    /// The image of this name, if it is complete.
    pub(super) fn read(&self, name: &str) -> Option<Vec<u8>> {
        check(&self.folder.symlink_metadata().ok()?).ok()?;
        let file = open(File::options().read(true), &self.folder.join(name)).ok()?;
        let mut image = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut image).ok()?;
        let checksum = image.split_off(image.len().checked_sub(CHECKSUM)?);
        (Sha256::digest(&image)[..] == checksum[..]).then_some(image)
    }

    /// Keeps an image, if possible. Several processes can do this at once: each renames its own complete file.
    pub(super) fn write(&self, name: &str, image: &[u8]) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let own = format!(".{}.{}.{name}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let temporary = self.folder.join(own);
        let written = self
            .make_folder()
            .and_then(|()| open(File::options().write(true).create_new(true), &temporary))
            .and_then(|mut file| file.write_all(&[image, &Sha256::digest(image)].concat()))
            .and_then(|()| fs::rename(&temporary, self.folder.join(name)));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
    }

    /// A folder that only this user can write to, because its contents are executed. Leftovers of killed runs are
    /// removed if they are plain files with such names; anything else is not ours.
    fn make_folder(&self) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(&self.folder)?;
        check(&self.folder.symlink_metadata()?)?;
        for entry in fs::read_dir(&self.folder)?.flatten() {
            // Metadata of the entry itself, not of a link's target.
            let Ok(metadata) = entry.metadata() else { continue };
            let age = metadata.modified().map(|time| time.elapsed().unwrap_or_default());
            let is_ours = is_temporary(&entry.file_name()) && metadata.is_file() && check(&metadata).is_ok();
            if is_ours && age.is_ok_and(|age| age > ABANDONED) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }
}

/// Whether `name` is a temporary name of [`ImageCache::write`]: `.PROCESS.NUMBER.DIGEST.EXTENSION`.
fn is_temporary(name: &OsStr) -> bool {
    let parts: Vec<&str> = name.to_str().unwrap_or_default().split('.').collect();
    let ["", process, number, digest, extension] = parts[..] else { return false };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_number(process) && is_number(number) && is_digest && !extension.is_empty()
}

/// Opens a file of the cache that only this user can write to. A new file is created that way.
fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        // Do not wait if it is a pipe.
        options.mode(0o600).custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
    }
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    check(&metadata)?;
    if metadata.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// Whether it is a file or folder that belongs to this user and that no one else can write to.
#[cfg(unix)]
fn check(metadata: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let is_own = metadata.uid() == rustix::process::geteuid().as_raw();
    let is_private = metadata.mode() & 0o022 == 0 && !metadata.is_symlink();
    if is_own && is_private { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

/// On other systems, a user's folders are private.
#[cfg(not(unix))]
fn check(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_symlink() { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::thread;

    fn cache(folder: &Path) -> ImageCache {
        ImageCache::of(|name| (name == "PYTHIA_CACHE").then(|| folder.to_owned())).unwrap()
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
        let digest = "0a".repeat(32);
        let (ours, young) = (format!(".1.0.{digest}.cubin"), format!(".1.1.{digest}.cubin"));
        // Names that are nearly ours are somebody's.
        let theirs =
            [".1.0.b.cubin", ".hidden", ".1.x.cubin", &format!("1.0.{digest}.cubin"), &format!(".1.0.{digest}")];
        let path = |name: &str| folder.path().join("kernels").join(name);
        let long_ago = std::time::SystemTime::now() - 2 * ABANDONED;
        for name in theirs.into_iter().chain([&*ours]) {
            open(File::options().write(true).create_new(true), &path(name)).unwrap().set_modified(long_ago).unwrap();
        }
        fs::write(path(&young), "half").unwrap();
        cache.write("b.cubin", b"image");
        assert!(!path(&ours).exists() && path(&young).exists() && cache.read("a.cubin").is_some());
        assert!(theirs.iter().all(|name| path(name).exists()));
    }

    /// An image runs on the GPU as this user, so nobody else may write one.
    #[cfg(unix)]
    #[test]
    fn what_others_can_write_is_no_image() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        cache.write("a.cubin", b"image");
        let (kernels, file) = (folder.path().join("kernels"), folder.path().join("kernels/a.cubin"));
        let permit = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        for (path, own) in [(&file, 0o600), (&kernels, 0o700)] {
            for open_to_others in [0o020, 0o002] {
                permit(path, own | open_to_others);
                assert_eq!(cache.read("a.cubin"), None, "{}", path.display());
                permit(path, own);
                assert!(cache.read("a.cubin").is_some());
            }
        }
        permit(&kernels, 0o777);
        cache.write("b.cubin", b"image");
        assert!(!kernels.join("b.cubin").exists(), "nothing is put there");
        permit(&kernels, 0o700);
        // Links, to a good image and to a good folder.
        symlink(&file, kernels.join("link.cubin")).unwrap();
        assert_eq!(cache.read("link.cubin"), None);
        let linked = folder.path().join("linked");
        fs::create_dir(&linked).unwrap();
        symlink(&kernels, linked.join("kernels")).unwrap();
        let linked = self::cache(&linked);
        assert_eq!(linked.read("a.cubin"), None);
        linked.write("c.cubin", b"image");
        assert!(!kernels.join("c.cubin").exists());
        // Another user's, where this one may make such a thing.
        if std::os::unix::fs::chown(&file, Some(65_534), None).is_ok() {
            assert_eq!(cache.read("a.cubin"), None);
        }
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
        assert!(ImageCache::of(|_| None).is_none());
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
