//! Files that are damaged or made to do harm: every one ends in a one-line error, in little memory.

#[path = "../common/mod.rs"]
mod common;

mod pickle;

use std::path::Path;
use std::process::Command;

/// One file, or folder of files, and what must be said of it.
pub(crate) struct Case {
    pub(crate) id: &'static str,
    pub(crate) name: &'static str,
    /// Writes it into an empty folder.
    pub(crate) build: fn(&Path),
    /// What is run there.
    pub(crate) command: &'static str,
    /// What the message holds.
    pub(crate) wanted: &'static str,
}

/// Runs every case in 256 MB of address space. All failures are reported at once.
fn run_all(cases: &[Case]) {
    let mut failures = Vec::new();
    for Case { id, name, build, command, wanted } in cases {
        let folder = tempfile::tempdir().expect("a folder");
        build(folder.path());
        let before = common::names(folder.path());
        let program = command.replace("pythia-quant", env!("CARGO_BIN_EXE_pythia-quant"));
        let output = Command::new("sh")
            .args(["-c", &format!("ulimit -v 262144; exec {program}")])
            .current_dir(folder.path())
            .output()
            .expect("a shell");
        let stderr = String::from_utf8_lossy(&output.stderr);
        let says = stderr.lines().count() == 1 && stderr.contains(wanted);
        if output.status.code() != Some(65) || !says || common::names(folder.path()) != before {
            failures.push(format!("{id} {name}: {:?}, wanted '{wanted}'\n    {stderr}", output.status));
        }
    }
    assert!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

#[test]
fn pickles() {
    run_all(pickle::CASES);
}
