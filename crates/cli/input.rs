//! What a command line names: files, checkpoints, texts, numbers of threads.

#[cfg(feature = "hub")]
mod hub;
mod source;
mod wanted;

pub(crate) use source::{Located, SourceOptions};
pub(crate) use wanted::{check_checkpoint, check_gguf};

use crate::exit::Failure;
use pythia_gguf::Gguf;
use std::fmt::Display;
use std::fs;
use std::io::Read;
use std::path::Path;

/// Refuses what is no regular file before it is opened: a pipe would be waited for without end.
///
/// # Errors
/// If there is no such file, or it is a folder, a pipe or a device.
pub(crate) fn check_file(path: &Path) -> Result<(), Failure> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(()),
        Ok(_) => Err(Failure::io(format_args!("{}: not a regular file", path.display()))),
        Err(error) => Err(Failure::at(path, &error)),
    }
}

/// A GGUF model without its weights: a file, or the first of those it is split over.
///
/// # Errors
/// If it cannot be read, or is none.
pub(crate) fn gguf(path: &Path) -> Result<Gguf, Failure> {
    check_gguf(path)?;
    let (gguf, _) = pythia_gguf::open(path).map_err(pythia_convert::Error::from)?;
    Ok(gguf)
}

/// Whether `path` is a GGUF file: by its first bytes, so that a wrong name does not matter. A folder is none.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn is_gguf(path: &Path) -> Result<bool, Failure> {
    if path.is_dir() {
        return Ok(false);
    }
    check_file(path)?;
    let mut magic = Vec::new();
    fs::File::open(path).and_then(|file| file.take(4).read_to_end(&mut magic)).map_err(|e| Failure::at(path, &e))?;
    Ok(magic == b"GGUF")
}

/// The text in a file.
///
/// # Errors
/// If it cannot be read or is not UTF-8.
pub(crate) fn text(path: &Path) -> Result<String, Failure> {
    check_file(path)?;
    utf8(path.display(), fs::read(path).map_err(|e| Failure::at(path, &e))?)
}

/// `bytes` as text; `place` is where they come from.
///
/// # Errors
/// If they are not UTF-8.
pub(crate) fn utf8(place: impl Display, bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Failure::data(format_args!("{place}: not UTF-8 at byte {at}"))
    })
}

/// More threads than any machine has would only cost memory, or be refused by the system.
const MAX_THREADS: usize = 1024;

/// For clap: a number of threads; 0 stands for one per core.
pub(crate) fn parse_threads(text: &str) -> Result<usize, String> {
    let threads = text.parse().ok().filter(|&threads| threads <= MAX_THREADS);
    threads.ok_or_else(|| format!("found '{text}', wanted 0 to {MAX_THREADS}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_utf8_in_regular_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text");
        fs::write(&path, b"abc\xff").unwrap();
        let failure = text(&path).unwrap_err();
        assert_eq!(failure.code(), 65);
        assert!(failure.to_string().ends_with("text: not UTF-8 at byte 3"), "{failure}");
        fs::write(&path, "abc\n\n").unwrap();
        assert_eq!(text(&path).unwrap(), "abc\n\n");
        let folder = text(dir.path()).unwrap_err();
        assert_eq!(folder.code(), 74);
        assert!(folder.to_string().ends_with("not a regular file"), "{folder}");
    }

    #[test]
    fn threads_have_a_limit() {
        assert_eq!((parse_threads("0"), parse_threads("1024")), (Ok(0), Ok(1024)));
        for text in ["1025", "-1", "x", "99999999999999999999"] {
            assert!(parse_threads(text).unwrap_err().contains(text));
        }
    }
}
