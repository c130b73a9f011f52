//! What the modules share: the checkpoint in `tests/data`, files made from it, a way to run the programs and Python.

pub(crate) mod file;
mod program;
pub(crate) mod tiny;
pub(crate) mod torch;
pub(crate) mod toy;

#[cfg(unix)]
pub(crate) use program::Held;
pub(crate) use program::{Outcome, PYTHIA_QUANT, PYTHIA_RUN, printed, python, quant, run_at, run_model};

use pythia_task::{Cancel, Progress};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Cancels what reports to it, as soon as anything is done.
pub(crate) struct Impatient<'a>(pub(crate) &'a Cancel);

impl Progress for Impatient<'_> {
    fn advance(&self, _item: &str, _units: i64) {
        self.0.raise();
    }
}

/// A file or folder under `tests/data`.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The checkpoint of the tests.
pub(crate) fn checkpoint() -> PathBuf {
    data("pythia-docs-6m")
}

/// The checkpoint as a GGUF file of this level, not to be changed. Each level is converted once per run of the tests.
pub(crate) fn gguf(level: &str) -> PathBuf {
    static CONVERTING: Mutex<()> = Mutex::new(());
    let path = scratch().join(format!("pythia-docs-6m-{level}.gguf"));
    let _one_at_a_time = CONVERTING.lock().unwrap_or_else(PoisonError::into_inner);
    if !path.exists() {
        let args = ["-t".as_ref(), level.as_ref(), "-q".as_ref(), "--force".as_ref(), "-o".as_ref(), path.as_os_str()];
        quant(scratch(), ["convert".as_ref(), checkpoint().as_os_str()].into_iter().chain(args)).ok();
    }
    path
}

/// A folder for what tests make for each other. What earlier runs have left there goes when a run begins, unless the
/// tests of another process use it at that moment; those of another build of the programs have a folder of their own.
pub(crate) fn scratch() -> &'static Path {
    static SCRATCH: OnceLock<(PathBuf, File)> = OnceLock::new();
    let (folder, _lock) = SCRATCH.get_or_init(|| {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("it");
        let lock = File::create(all.with_extension("lock")).expect("a lock file");
        if lock.try_lock().is_ok() {
            let _ = fs::remove_dir_all(&all);
        }
        lock.lock_shared().expect("a shared lock");
        let built = fs::metadata(PYTHIA_QUANT).and_then(|program| program.modified()).expect("a time");
        let built = built.duration_since(std::time::UNIX_EPOCH).expect("a time after 1970");
        let folder = all.join(built.as_nanos().to_string());
        fs::create_dir_all(&folder).expect("a folder");
        (folder, lock)
    });
    folder
}

/// A file of the references that are too large or not free to be in the repository: `PYTHIA_GOLDENS` names the folder
/// that holds `models/` and `goldens/`. `None`, and a line on stderr, where it does not.
pub(crate) fn shared(name: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("PYTHIA_GOLDENS") else {
        eprintln!("SKIPPED: {name} is needed; PYTHIA_GOLDENS names the folder that it lies in");
        return None;
    };
    let path = Path::new(&folder).join(name);
    // A wrong name must not look like a test that passed.
    assert!(path.exists(), "PYTHIA_GOLDENS: {} is not there", path.display());
    Some(path)
}

/// The names in a folder, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into()).collect();
    names.sort();
    names
}
