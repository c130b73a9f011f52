//! Files that change while they are in use, and files that may not be read.

use crate::common;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const RUN: &str = env!("CARGO_BIN_EXE_pythia-run");

/// F6: a model is cut off while it is mapped and running.
#[test]
fn a_model_that_shrinks_in_use_ends_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("m.gguf");
    fs::copy(common::gguf("F32"), &model).unwrap();
    let text = common::checkpoint().join("heldout.txt");
    let child = Command::new(RUN)
        .args(["perplexity", "m.gguf", "--protocol", "llama", "-f"])
        .arg(text)
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Cut again and again: once it has the map, the next touch of a page beyond the cut is the fault.
    let started = Instant::now();
    let mapped = || fs::read_to_string(format!("/proc/{}/maps", child.id())).is_ok_and(|maps| maps.contains("m.gguf"));
    while !mapped() {
        assert!(started.elapsed() < Duration::from_secs(60), "the model is never mapped");
        sleep(Duration::from_millis(1));
    }
    sleep(Duration::from_millis(50));
    File::options().write(true).open(&model).unwrap().set_len(4096).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(74), "{:?} {stderr}", output.status);
    assert_eq!(stderr, "pythia-run: error: m.gguf: was cut off while it was in use, or cannot be read any more\n");
}

/// F5: a model that the user may not read.
#[test]
fn a_model_without_permission_is_an_error_of_the_system() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("m.gguf");
    fs::write(&model, crate::model::Model::tiny().bytes()).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&model, fs::Permissions::from_mode(0o000)).unwrap();
    let output = if File::open(&model).is_err() {
        Command::new(RUN).args(["info", "m.gguf"]).current_dir(dir.path()).output().unwrap()
    } else {
        // Permission bits do not bind root. Another user has to be able to reach the program, so it is copied.
        let program = dir.path().join("pythia-run");
        fs::copy(RUN, &program).unwrap();
        let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
        let command = Command::new("setpriv")
            .args(nobody)
            .arg(&program)
            .args(["info", "m.gguf"])
            .current_dir(dir.path())
            .output();
        match command {
            Ok(output) => output,
            Err(error) => return eprintln!("SKIPPED: running as another user needs setpriv: {error}"),
        }
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(74), "{:?} {stderr}", output.status);
    assert!(
        stderr.starts_with("pythia-run: error: m.gguf: Permission denied") && stderr.lines().count() == 1,
        "{stderr}"
    );
}
