//! Checkpoints from the Hub, against a server on this machine that plays it: what is downloaded, what is asked, and what
//! happens when anything goes wrong.

pub(crate) mod cli;
mod dataset;
mod evict;
mod faults;
mod flow;
mod hostile;
mod python;
pub(crate) mod server;
mod survey;

use crate::common;
use pythia_hub::{Error, ModelId, Settings, Snapshot};
use pythia_task::{Cancel, Progress};
use server::{FakeHub, Files, Repo, git_sha1, sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

/// The repository that most tests ask for.
const ID: &str = "someone/tiny";

/// Files of these names and contents.
fn files<const N: usize>(list: [(&str, &[u8]); N]) -> Files {
    list.into_iter().map(|(name, bytes)| (name.to_owned(), Arc::new(bytes.to_vec()))).collect()
}

/// Bytes that are like no others.
fn noise(seed: u32, len: usize) -> Vec<u8> {
    let next = |state: &mut u32| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some((*state >> 24) as u8)
    };
    std::iter::repeat(()).scan(seed, |state, ()| next(state)).take(len).collect()
}

const WEIGHTS_BYTES: usize = 1_000_000;

/// A checkpoint as far as a download can tell.
fn tiny() -> Files {
    let mut files = files([
        ("config.json", b"{}"),
        ("tokenizer.json", b"{\"tokens\": 1}"),
        ("tokenizer_config.json", b"{ }"),
        ("special_tokens_map.json", b"{\"nobody\": \"reads it\"}"),
        (".gitattributes", b"*.bin lfs"),
        ("optimizer.pt", b"not wanted"),
    ]);
    files.insert("model.safetensors".to_owned(), noise(1, WEIGHTS_BYTES).into());
    files
}

fn hub_with(files: Files) -> FakeHub {
    FakeHub::start(vec![Repo::new(ID, files)])
}

/// What a download said.
#[derive(Debug, Default)]
struct Log {
    notes: Mutex<Vec<String>>,
    total: AtomicI64,
    done: AtomicI64,
}

impl Progress for Log {
    fn expect(&self, total_bytes: Option<u64>) {
        self.total.store(total_bytes.unwrap() as i64, Ordering::Relaxed);
    }

    fn advance(&self, _file: &str, bytes: i64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    fn note(&self, line: &str) {
        self.notes.lock().unwrap().push(line.to_owned());
    }
}

impl Log {
    fn notes(&self) -> String {
        self.notes.lock().unwrap().join("\n")
    }
}

/// A cache of its own and the way to download into it.
struct Client {
    dir: tempfile::TempDir,
    variables: Vec<(&'static str, String)>,
    log: Arc<Log>,
    cancel: Cancel,
}

impl Client {
    fn new(hub: &FakeHub) -> Self {
        Self::at(&hub.endpoint())
    }

    fn at(endpoint: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap().to_owned();
        let variables = vec![
            ("HF_ENDPOINT", endpoint.to_owned()),
            ("HF_HOME", home),
            ("PYTHIA_HUB_RETRY_MS", "5".to_owned()),
            ("HF_HUB_DOWNLOAD_TIMEOUT", "1".to_owned()),
        ];
        Self { dir, variables, log: Arc::default(), cancel: Cancel::new() }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.variables.insert(0, (name, value.to_owned()));
        self
    }

    fn settings(&self) -> Settings {
        let find = |name: &str| self.variables.iter().find(|(other, _)| *other == name).map(|(_, value)| value.into());
        Settings::from_env(find).unwrap()
    }

    fn fetch(&self, id: &str) -> Result<Snapshot, Error> {
        let id = ModelId::parse(id).unwrap().unwrap();
        pythia_hub::fetch(&self.settings(), &id, &self.cancel, Arc::clone(&self.log) as Arc<dyn Progress>)
    }

    /// Fetches `id` in vain; the message.
    fn fails(&self, id: &str, kind: pythia_task::ErrorKind) -> String {
        let error = self.fetch(id).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let message = error.to_string();
        assert!(!message.contains('\n') && !message.contains("secret"), "{message}");
        self.check_cache();
        message
    }

    /// The folder of the repository [`ID`].
    fn repo(&self) -> PathBuf {
        self.dir.path().join("hub/models--someone--tiny")
    }

    /// Names in `blobs/`.
    fn blobs(&self) -> Vec<String> {
        let blobs = self.repo().join("blobs");
        if blobs.is_dir() { common::names(&blobs) } else { Vec::new() }
    }

    /// Names of unfinished weights in `blobs/`: small files may be unfinished too where another file failed first.
    fn incomplete(&self) -> Vec<String> {
        let is_weights = |name: &String| name.ends_with(".incomplete") && name.find('.') == Some(64);
        self.blobs().into_iter().filter(is_weights).collect()
    }

    fn check_cache(&self) {
        check_cache(&self.dir.path().join("hub"));
    }
}

/// What must hold of a cache at any time: content under its final name is right, and links lead somewhere.
fn check_cache(root: &Path) {
    let list = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    for repo in list(root.to_owned()) {
        for blob in list(repo.join("blobs")) {
            let (name, bytes) = (blob.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&blob).unwrap());
            if name.contains('.') {
                continue;
            }
            let wrong = (name.len() == 64 && sha256(&bytes) != name) || (name.len() == 40 && git_sha1(&bytes) != name);
            assert!(!wrong, "{} has other content", blob.display());
        }
        for link in list(repo.join("snapshots")).flat_map(list) {
            assert!(link.exists(), "{} leads nowhere", link.display());
        }
    }
}
