//! The two programs, and Python.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

pub(crate) const PYTHIA_QUANT: &str = env!("CARGO_BIN_EXE_pythia-quant");
pub(crate) const PYTHIA_RUN: &str = env!("CARGO_BIN_EXE_pythia-run");

/// What a program said and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
        }
    }
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
    run(Command::new(PYTHIA_QUANT).env_remove("COLUMNS"), folder, args)
}

/// Runs `pythia-run` in `folder`.
pub(crate) fn run_model<S: AsRef<OsStr>>(folder: &Path, args: impl IntoIterator<Item = S>) -> Outcome {
    run(Command::new(PYTHIA_RUN).env_remove("COLUMNS"), folder, args)
}

/// Runs `pythia-quant` or `pythia-run` in `folder`, as at a terminal of so many columns.
pub(crate) fn run_at<S: AsRef<OsStr>>(
    columns: usize,
    program: &str,
    folder: &Path,
    args: impl IntoIterator<Item = S>,
) -> Outcome {
    let path = if program == "pythia-quant" { PYTHIA_QUANT } else { PYTHIA_RUN };
    run(Command::new(path).env("COLUMNS", columns.to_string()), folder, args)
}

/// With a cache that is not the user's; all runs share it, so that kernels of a GPU are compiled once.
fn run<S: AsRef<OsStr>>(command: &mut Command, folder: &Path, args: impl IntoIterator<Item = S>) -> Outcome {
    command.env("PYTHIA_CACHE", super::scratch().join("cache"));
    command.args(args).current_dir(folder).output().expect("the program starts").into()
}

/// A Python that has these modules: the one that `PYTHIA_PYTHON` names, else `python3`. `None`, and a line on stderr,
/// if it lacks any.
pub(crate) fn python(modules: &[&str]) -> Option<Command> {
    const HAS_ALL: &str = "import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, sys.argv[1:])))";
    let python = std::env::var_os("PYTHIA_PYTHON").unwrap_or_else(|| "python3".into());
    let asked = Command::new(&python).args(["-c", HAS_ALL]).args(modules).output();
    if asked.is_ok_and(|output| output.status.success()) {
        return Some(Command::new(python));
    }
    eprintln!("SKIPPED: {} needed; PYTHIA_PYTHON names a Python that has it", modules.join(" and "));
    None
}

/// What a Python program prints. It must end well.
pub(crate) fn printed(command: &mut Command) -> String {
    let output = command.output().expect("Python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("stdout is UTF-8")
}

/// A program that a test holds up. One that is still held when the test fails is killed.
#[cfg(unix)]
pub(crate) struct Held(Option<std::process::Child>);

#[cfg(unix)]
impl Held {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self(Some(command.spawn().expect("the program")))
    }

    fn child(&mut self) -> &mut std::process::Child {
        self.0.as_mut().expect("it goes on once")
    }

    /// What it prints, if that is a pipe which nobody has taken.
    pub(crate) fn stdout(&mut self) -> std::process::ChildStdout {
        self.child().stdout.take().expect("a pipe")
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child().try_wait().expect("its state").is_some()
    }

    /// Sends a signal. Returns whether there was somebody to take it.
    pub(crate) fn signal(&mut self, signal: &str) -> bool {
        let id = self.child().id().to_string();
        !self.has_ended() && Command::new("kill").args([signal, &id]).status().expect("kill").success()
    }

    /// Holds it up. Returns whether it was not done by then.
    pub(crate) fn stop(&mut self) -> bool {
        let signalled = self.signal("-STOP");
        let stat = format!("/proc/{}/stat", self.child().id());
        // Its other threads may still be on their way.
        while let Ok(state) = std::fs::read_to_string(&stat)
            && !state.rsplit(") ").next().is_some_and(|state| state.starts_with(['T', 'Z']))
        {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        signalled && !self.has_ended()
    }

    /// Lets it go on.
    pub(crate) fn goes_on(mut self) -> std::process::Child {
        self.signal("-CONT");
        self.0.take().expect("it goes on once")
    }
}

#[cfg(unix)]
impl Drop for Held {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
