//! Opens files of unknown origin: only regular files, text up to a size limit, failed downloads recognised.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Why a file is not read.
#[derive(Debug)]
pub enum ReadError {
    /// The operating system refused it.
    Io(io::Error),
    /// It is no regular file, too long, not UTF-8, or what a failed download left behind: what was found and wanted.
    Refused(String),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(e) => write!(f, "{e}"),
            Self::Refused(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(e) => Some(e),
            Self::Refused(_) => None,
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// Bytes from the start of a file that tell what it is: what a failed download left behind, or an archive. The mark of
/// a tar archive is at byte 257.
pub const SNIFFED_BYTES: u64 = 512;

/// Opens `path` for reading if it is a regular file, and says how long it is. Symbolic links are followed.
///
/// Asked before opening: opening a FIFO would block for ever.
///
/// # Errors
/// If it is something else, or cannot be opened.
pub fn open_regular(path: &Path) -> Result<(File, u64), ReadError> {
    if !fs::metadata(path)?.is_file() {
        return Err(ReadError::Refused("not a regular file".to_owned()));
    }
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    Ok((file, len))
}

/// Reads a UTF-8 file of at most `limit_bytes`.
///
/// # Errors
/// If it is no such file, or cannot be read.
pub fn read_text(path: &Path, limit_bytes: u64) -> Result<String, ReadError> {
    String::from_utf8(read_bytes(path, limit_bytes)?)
        .map_err(|e| ReadError::Refused(format!("not UTF-8 at byte {}", e.utf8_error().valid_up_to())))
}

/// Reads a file of at most `limit_bytes`.
///
/// # Errors
/// If it is no regular file, too long, what a failed download left behind, or cannot be read.
pub fn read_bytes(path: &Path, limit_bytes: u64) -> Result<Vec<u8>, ReadError> {
    let (file, len) = open_regular(path)?;
    let too_long = |len| ReadError::Refused(format!("{len} bytes long, at most {limit_bytes} are read"));
    if len > limit_bytes {
        return Err(too_long(len));
    }
    let mut bytes = Vec::with_capacity(len as usize);
    // The cap again: the file may grow while it is read.
    file.take(limit_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit_bytes {
        return Err(too_long(bytes.len() as u64));
    }
    if let Some(reason) = placeholder(&bytes) {
        return Err(ReadError::Refused(reason.to_owned()));
    }
    Ok(bytes)
}

/// What `start` is, if the file is not the real one but what a failed download left in its place.
pub fn placeholder(start: &[u8]) -> Option<&'static str> {
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
        assert_eq!(read_bytes(&path, 4).unwrap(), b"ab\xffc");
        assert!(read_bytes(&path, 3).unwrap_err().to_string().contains("4 bytes long"));
        assert!(read_text(dir.path(), 9).unwrap_err().to_string().ends_with("not a regular file"));
        assert!(matches!(read_text(&dir.path().join("absent"), 9), Err(ReadError::Io(_))));
    }
}
