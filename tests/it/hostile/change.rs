//! Files that change while they are in use, and files that may not be read.

use crate::common::{self, PYTHIA_RUN};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const RUN: &str = PYTHIA_RUN;

/// F6: a model is cut off while it is mapped and running.
#[test]
fn a_model_that_shrinks_in_use_ends_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(common::gguf("F32"), dir.path().join("m.gguf")).unwrap();
    cut_in_use(dir.path(), "m.gguf", "m.gguf");
}

/// The same of the last of many files: each has a map of its own.
#[test]
fn so_does_the_last_file_of_many() {
    let dir = tempfile::tempdir().unwrap();
    let source = common::checkpoint();
    let split = ["-t", "F32", "-o", "m.gguf", "--split-max-tensors", "1", "-q"];
    common::quant(dir.path(), ["convert", source.to_str().unwrap()].into_iter().chain(split)).ok();
    let names = common::names(dir.path());
    assert!(names.len() > 64, "{names:?}");
    cut_in_use(dir.path(), &names[0], &names[names.len() - 1]);
}

/// Runs `model`, and cuts off `file` of it once that is mapped.
fn cut_in_use(folder: &Path, model: &str, file: &str) {
    let text = common::checkpoint().join("heldout.txt");
    let child = Command::new(RUN)
        .args(["perplexity", model, "--protocol", "llama", "-f"])
        .arg(text)
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Once it has the map, the next touch of a page beyond the cut is the fault.
    let started = Instant::now();
    let mapped = || fs::read_to_string(format!("/proc/{}/maps", child.id())).is_ok_and(|maps| maps.contains(file));
    while !mapped() {
        assert!(started.elapsed() < Duration::from_secs(60), "the model is never mapped");
        sleep(Duration::from_millis(1));
    }
    sleep(Duration::from_millis(50));
    File::options().write(true).open(folder.join(file)).unwrap().set_len(4096).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(74), "{:?} {stderr}", output.status);
    let line = format!("pythia-run: error: {file}: was cut off while it was in use, or cannot be read any more\n");
    assert_eq!(stderr, line);
}

/// F5: a model that the user may not read.
#[test]
fn a_model_without_permission_is_an_error_of_the_system() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("m.gguf");
    fs::write(&model, super::model::Model::tiny().bytes()).unwrap();
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
