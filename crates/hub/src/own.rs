//! Opens files of the cache for writing, but never through a link, which could lead anywhere.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// Options to open or create a file of the cache for reading and writing. They refuse a symbolic link.
pub(crate) fn options() -> OpenOptions {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        // Do not wait for the other end of a pipe.
        options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
    }
    options
}

/// Opens or creates the file at `path`. `None` if it must not be written to: a link, a pipe, or a file with a second
/// hard link.
pub(crate) fn open(path: &Path) -> io::Result<Option<File>> {
    let file = match options().open(path) {
        Ok(file) => file,
        // The error for a link depends on the system.
        Err(_) if path.is_symlink() => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    #[cfg(unix)]
    let is_alone = std::os::unix::fs::MetadataExt::nlink(&metadata) == 1;
    #[cfg(not(unix))]
    let is_alone = true;
    Ok((metadata.is_file() && is_alone).then_some(file))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn nothing_is_written_through_links() {
        let dir = tempfile::tempdir().unwrap();
        let [theirs, link, dangling, hard, plain] =
            ["theirs", "link", "dangling", "hard", "plain"].map(|name| dir.path().join(name));
        fs::write(&theirs, "theirs").unwrap();
        std::os::unix::fs::symlink(&theirs, &link).unwrap();
        std::os::unix::fs::symlink(dir.path().join("new"), &dangling).unwrap();
        fs::hard_link(&theirs, &hard).unwrap();
        for path in [&link, &dangling, &hard] {
            assert!(open(path).unwrap().is_none(), "{}", path.display());
        }
        assert!(open(&plain).unwrap().is_some() && plain.is_file());
        assert!(!dir.path().join("new").exists());
        assert_eq!(fs::read(&theirs).unwrap(), b"theirs");
    }
}
