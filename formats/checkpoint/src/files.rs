//! Opening files from strangers: regular ones only, text with a size cap, failed downloads recognised.

use crate::error::Error;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// Bytes from the start of a file that tell what it is: what a failed download left behind, or an archive. The mark of
/// a tar archive is at byte 257.
pub(crate) const SNIFFED_BYTES: u64 = 512;

/// Opens `path` for reading if it is a regular file, and says how long it is. Symbolic links are followed.
///
/// Asked before opening: opening a FIFO would block for ever.
pub(crate) fn open_regular(path: &Path) -> Result<(File, u64), Error> {
    if !fs::metadata(path).map_err(|e| Error::io(path, e))?.is_file() {
        return Err(Error::layout(path, "not a regular file"));
    }
    let open = || {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok((file, len))
    };
    open().map_err(|e| Error::io(path, e))
}

/// Reads a UTF-8 file of at most `limit_bytes`.
pub(crate) fn read_text(path: &Path, limit_bytes: u64) -> Result<String, Error> {
    let (file, len) = open_regular(path)?;
    if len > limit_bytes {
        return Err(Error::layout(path, format!("{len} bytes long, at most {limit_bytes} are read")));
    }
    let mut bytes = Vec::with_capacity(len as usize);
    // The cap again: the file may grow while it is read.
    file.take(limit_bytes).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    if let Some(reason) = placeholder(&bytes) {
        return Err(Error::layout(path, reason));
    }
    String::from_utf8(bytes)
        .map_err(|e| Error::layout(path, format!("not UTF-8 at byte {}", e.utf8_error().valid_up_to())))
}

/// What `start` is, if the file is not the real one but what a failed download left in its place.
pub(crate) fn placeholder(start: &[u8]) -> Option<&'static str> {
    const LFS: &[u8] = b"version https://git-lfs.github.com/spec/";
    if start.starts_with(LFS) {
        return Some("a Git LFS pointer, not the file itself: run `git lfs pull` or download the file");
    }
    let text = start.trim_ascii_start();
    let opens_with = |tag: &[u8]| text.get(..tag.len()).is_some_and(|t| t.eq_ignore_ascii_case(tag));
    if opens_with(b"<!doctype html") || opens_with(b"<html") {
        return Some("an HTML page, not the file itself: the download went wrong");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_recognised() {
        for start in
            ["version https://git-lfs.github.com/spec/v1\noid sha256:00", "\n <!DOCTYPE HTML>", "<html lang=en>"]
        {
            assert!(placeholder(start.as_bytes()).is_some(), "{start}");
        }
        for start in ["", "{", "<h", "{\"a\": \"<html>\"}"] {
            assert!(placeholder(start.as_bytes()).is_none(), "{start}");
        }
    }

    #[test]
    fn what_is_not_a_small_regular_text_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        std::fs::write(&path, b"12345").unwrap();
        assert_eq!(read_text(&path, 5).unwrap(), "12345");
        assert!(read_text(&path, 4).unwrap_err().to_string().contains("5 bytes long"));
        std::fs::write(&path, b"ab\xffc").unwrap();
        assert!(read_text(&path, 9).unwrap_err().to_string().ends_with("not UTF-8 at byte 2"));
        assert!(read_text(dir.path(), 9).unwrap_err().to_string().ends_with("not a regular file"));
        assert_eq!(read_text(&dir.path().join("absent"), 9).unwrap_err().kind(), pythia_task::ErrorKind::Io);
    }
}
