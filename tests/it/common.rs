//! What the integration tests share: the checkpoint in `tests/data` and a way to run the programs.

pub(crate) mod torch;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A file or folder under `tests/data`.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The checkpoint of the tests.
pub(crate) fn checkpoint() -> PathBuf {
    data("pythia-docs-6m")
}

/// The checkpoint as a GGUF file of this type: `F32`, `Q8_0` or `Q4_0`. Converted once per test program.
pub(crate) fn gguf(level: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gguf");
        std::fs::create_dir_all(&folder).expect("a folder for models");
        let (source, output) = (checkpoint(), folder.clone());
        let types = ["-t".as_ref(), "F32,Q8_0,Q4_0".as_ref(), "--force".as_ref(), "-o".as_ref(), output.as_os_str()];
        quant(&folder, ["convert".as_ref(), source.as_os_str()].into_iter().chain(types)).ok();
        folder
    });
    folder.join(format!("pythia-docs-6m-{level}.gguf"))
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

/// What a program said and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Its stdout, if it ended well.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// Asserts that it failed with `code` and one line on stderr that holds every one of `parts`.
    pub(crate) fn fails(&self, program: &str, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stderr.starts_with(&format!("{program}: error: ")), "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        for part in parts {
            assert!(self.stderr.contains(part), "no '{part}' in {self:?}");
        }
    }
}

impl Outcome {
    /// Asserts that it was told to stop, said so, and that its last line holds every one of `parts`.
    pub(crate) fn stopped(&self, program: &str, parts: &[&str]) {
        assert_eq!(self.code, Some(130), "{self:?}");
        assert!(self.stderr.lines().any(|line| line == format!("{program}: stopping")), "{self:?}");
        let last = self.stderr.lines().last().unwrap_or_default();
        assert!(parts.iter().all(|part| last.contains(part)), "{self:?}");
    }
}

/// Runs `pythia-quant` in `folder`.
pub(crate) fn quant<S: AsRef<OsStr>>(folder: &Path, args: impl IntoIterator<Item = S>) -> Outcome {
    run(env!("CARGO_BIN_EXE_pythia-quant"), folder, args)
}

/// Runs `pythia-run` in `folder`.
pub(crate) fn run_model<S: AsRef<OsStr>>(folder: &Path, args: impl IntoIterator<Item = S>) -> Outcome {
    run(env!("CARGO_BIN_EXE_pythia-run"), folder, args)
}

/// Runs `pythia-quant` or `pythia-run` in `folder`, as at a terminal of so many columns.
pub(crate) fn run_at<S: AsRef<OsStr>>(
    columns: usize,
    program: &str,
    folder: &Path,
    args: impl IntoIterator<Item = S>,
) -> Outcome {
    let path = match program {
        "pythia-quant" => env!("CARGO_BIN_EXE_pythia-quant"),
        _ => env!("CARGO_BIN_EXE_pythia-run"),
    };
    outcome(Command::new(path).env("COLUMNS", columns.to_string()).args(args).current_dir(folder))
}

/// A folder for caches that is empty when a test program begins: nobody's own is written to.
pub(crate) fn caches() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let program = std::env::current_exe().expect("a name");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("caches").join(program.file_stem().expect("a name"));
        let _ = std::fs::remove_dir_all(&folder);
        folder
    })
}

fn run<S: AsRef<OsStr>>(program: &str, folder: &Path, args: impl IntoIterator<Item = S>) -> Outcome {
    outcome(Command::new(program).env_remove("COLUMNS").args(args).current_dir(folder))
}

fn outcome(command: &mut Command) -> Outcome {
    let output = command.env("XDG_CACHE_HOME", caches()).output().expect("the program starts");
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
    }
}

/// The names in a folder, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into()).collect();
    names.sort();
    names
}
