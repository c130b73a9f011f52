//! Hostile files given to the programs themselves, each in an empty folder.

mod split;

use std::path::Path;
use std::process::Command;

/// One malformed input.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// Its number on the list; several cases may share one.
    pub(crate) id: &'static str,
    /// What is wrong.
    pub(crate) name: &'static str,
    /// Writes the files into an empty folder.
    pub(crate) build: fn(&Path),
    /// The program and its arguments, run in that folder.
    pub(crate) command: &'static str,
    /// What the line on stderr must hold.
    pub(crate) wanted: &'static str,
}

fn check(case: &Case, code: i32) {
    let Case { id, name, build, command, wanted } = *case;
    let dir = tempfile::tempdir().expect("a folder");
    build(dir.path());
    let program = match command.split_once(' ').expect("a program and arguments").0 {
        "pythia-quant" => env!("CARGO_BIN_EXE_pythia-quant"),
        _ => env!("CARGO_BIN_EXE_pythia-run"),
    };
    let script = r#"ulimit -v 262144 && exec timeout 60 "$@""#;
    let mut limited = Command::new("sh");
    limited.args(["-c", script, "sh", program]).args(command.split(' ').skip(1));
    let output = limited.env("MALLOC_ARENA_MAX", "1").env("RAYON_NUM_THREADS", "2").current_dir(dir.path()).output();
    let output = output.expect("the program starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    let context = format!("{id} {name}: {:?}: {stderr}", output.status);
    assert_eq!(output.status.code(), Some(code), "{context}");
    if code != 0 {
        assert_eq!(stderr.lines().count(), 1, "{context}");
        assert!(stderr.contains(wanted), "{context}\nwanted {wanted}");
    }
}

#[test]
fn split_models() {
    split::CASES.iter().for_each(|case| check(case, 65));
}

/// Valid neighbours of the cases, so that a case cannot pass because its builder is broken.
#[test]
fn what_the_cases_are_made_from_is_accepted() {
    split::VALID.iter().for_each(|case| check(case, 0));
}
