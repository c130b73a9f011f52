//! A text that is not read to its end is not exported as if it were.

use super::{Case, manifest};
use crate::common::checkpoint;
use pythia_inside::export::Kind;
use pythia_runtime::Text;
use pythia_task::{Cancel, ErrorKind, Progress};
use std::fs::{self, File};
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};

/// More than what is read at once, and less than what is written.
const BYTES: usize = 100_000;

/// An input of each kind, longer than [`BYTES`].
fn inputs() -> [(Kind, Vec<u8>); 3] {
    let text = fs::read(checkpoint().join("heldout.txt")).unwrap();
    let jsonl = b"{\"text\": \"A trait is a collection of methods.\"}\n".repeat(4000);
    [(Kind::Text, text), (Kind::JsonLines { field: "text".to_owned() }, jsonl), (Kind::Ids, b"5 6 7\n".repeat(30_000))]
}

/// One token of each sequence is run, some dozens are in a shard.
fn case() -> Case {
    let mut case = Case::q8(&["blocks.0.hook_mlp_out"]);
    case.options.positions = "0".parse().unwrap();
    case.options.shard_bytes = 30_000;
    case
}

/// Cuts a file when the first tokens are done.
struct CutAt(File, AtomicBool);

impl Progress for CutAt {
    fn advance(&self, _: &str, _: i64) {
        if !self.1.swap(true, Ordering::Relaxed) {
            self.0.set_len(BYTES as u64).unwrap();
        }
    }
}

#[test]
fn a_file_that_is_cut_while_it_is_read_is_refused() {
    let case = case();
    for (kind, bytes) in inputs() {
        let dir = tempfile::tempdir().unwrap();
        let (path, folder) = (dir.path().join("text"), dir.path().join("out"));
        fs::write(&path, &bytes).unwrap();
        let cut = CutAt(File::options().write(true).open(&path).unwrap(), AtomicBool::new(false));
        let text = Text::open(&path).unwrap();
        let error = case.run_with(&text, kind.clone(), &folder, &Cancel::new(), &cut).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        // A text is read ahead, so more of it may have been there.
        let (error, wanted) = (error.to_string(), format!(" of its {} bytes: it was cut", bytes.len()));
        assert!(error.contains("ended after ") && error.contains(&wanted), "{kind:?}: {error}");
        assert_eq!(manifest(&folder)["complete"], false, "{kind:?}");
    }
}

/// Fails after so many bytes.
struct Failing(io::Cursor<Vec<u8>>);

impl Read for Failing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::other("the other end is gone")),
            n => Ok(n),
        }
    }
}

#[test]
fn a_pipe_that_fails_is_no_end() {
    let case = case();
    for (kind, mut bytes) in inputs() {
        let dir = tempfile::tempdir().unwrap();
        bytes.truncate(BYTES);
        let text = Text::stream(Failing(io::Cursor::new(bytes)), "pipe");
        let error = case.run(&text, kind.clone(), dir.path()).unwrap_err().to_string();
        assert!(error.contains("the other end is gone"), "{kind:?}: {error}");
        assert_eq!(manifest(dir.path())["complete"], false, "{kind:?}");
    }
}
