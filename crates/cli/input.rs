//! Inputs that a command line names: files, checkpoints, texts, sizes, numbers of threads.

#[cfg(feature = "hub")]
mod hub;
mod size;
mod source;
mod tasks;
mod text;
mod wanted;

#[cfg(feature = "hub")]
pub(crate) use hub::downloads;
pub(crate) use size::{parse_file_size, parse_memory_size};
pub(crate) use source::{Located, SourceOptions};
pub(crate) use tasks::TaskOptions;
pub(crate) use text::{TextOptions, files};
pub(crate) use wanted::{check_checkpoint, check_gguf};

use crate::exit::Failure;
use pythia_gguf::Gguf;
use pythia_text::ReadError;
use std::fs;
use std::io::Read;
use std::path::Path;

/// Checks that `path` is a regular file before it is opened, because opening a pipe can block for ever.
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

/// Reads a short text file, such as a list that the user wrote.
///
/// # Errors
/// If it cannot be read, is not a regular file, has more than `max_bytes`, or is not UTF-8.
pub(crate) fn read_text(path: &Path, max_bytes: u64) -> Result<String, Failure> {
    pythia_text::read_text(path, max_bytes).map_err(|error| match error {
        ReadError::Io(error) => Failure::at(path, &error),
        ReadError::Refused(reason) => Failure::data(format_args!("{}: {reason}", pythia_text::path(path))),
    })
}

/// Reads a GGUF model without its weights, from its only or its first file.
///
/// # Errors
/// If it cannot be read, or is not GGUF.
pub(crate) fn gguf(path: &Path) -> Result<Gguf, Failure> {
    check_gguf(path)?;
    let (gguf, _) = pythia_gguf::open(path).map_err(pythia_convert::Error::from)?;
    Ok(gguf)
}

/// Whether `path` is a GGUF file, by its first bytes and not by its name. False for a folder.
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

/// An upper limit for threads. More than any machine has would waste memory or be refused by the system.
const MAX_THREADS: usize = 1024;

/// For clap: a number of threads; 0 stands for one per core.
pub(crate) fn parse_threads(text: &str) -> Result<usize, String> {
    let threads = text.parse().ok().filter(|&threads| threads <= MAX_THREADS);
    threads.ok_or_else(|| format!("found '{text}', wanted a number from 0 to {MAX_THREADS}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let folder = check_file(dir.path()).unwrap_err();
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
