//! Inputs that a command line names: files, checkpoints, texts, sizes, numbers of threads.

#[cfg(feature = "hub")]
mod hub;
mod size;
mod source;
mod tasks;
mod text;

#[cfg(feature = "hub")]
pub(crate) use hub::downloads;
pub(crate) use pythia_convert::{check_checkpoint, check_file, check_gguf, is_gguf};
pub(crate) use size::{parse_file_size, parse_memory_size};
pub(crate) use source::{Located, SourceOptions};
pub(crate) use tasks::TaskOptions;
pub(crate) use text::{TextOptions, files};

use crate::exit::Failure;
use pythia_gguf::Gguf;
use pythia_runtime::machine::MAX_THREADS;
use pythia_text::ReadError;
use std::path::Path;

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

/// For clap: a number of threads; 0 stands for one per core.
pub(crate) fn parse_threads(text: &str) -> Result<usize, String> {
    let threads = text.parse().ok().filter(|&threads| threads <= MAX_THREADS);
    threads.ok_or_else(|| format!("found '{text}', wanted a number from 0 to {MAX_THREADS}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_have_a_limit() {
        assert_eq!((parse_threads("0"), parse_threads("1024")), (Ok(0), Ok(1024)));
        for text in ["1025", "-1", "x", "99999999999999999999"] {
            assert!(parse_threads(text).unwrap_err().contains(text));
        }
    }
}
