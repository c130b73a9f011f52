//! A run that is stopped anywhere goes on to the same bytes.

use super::{Case, PROGRAM, files, manifest};
use crate::common::{self, Outcome, PYTHIA_RUN, checkpoint, gguf, names, run_model};
use pythia_inside::export::{Format, Kind};
use pythia_runtime::Text;
use pythia_task::{Cancel, ErrorKind, Progress};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Raises its flag when so many tokens are done.
struct StopAt {
    left: AtomicU64,
    cancel: Cancel,
}

impl Progress for StopAt {
    fn advance(&self, _: &str, tokens: i64) {
        let tokens = tokens as u64;
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(tokens)).is_err() {
            self.cancel.raise();
        }
    }
}

#[test]
fn a_run_that_is_stopped_anywhere_goes_on_to_the_same_bytes() {
    let mut case = Case::q8(&["blocks.*.hook_mlp_out"]);
    (case.options.window, case.options.max_sequences) = (40, Some(30));
    // Five windows of 40 tokens, 6 layers and 256 columns.
    case.options.shard_bytes = 5 * (40 * (6 * 256 * 4 + 8) + 16);
    let dir = tempfile::tempdir().unwrap();
    let text = Text::open(&checkpoint().join("heldout.txt")).unwrap();
    for (format, stops) in [(Format::Safetensors, &[0, 200, 300, 450, 800, 1100][..]), (Format::Npz, &[450])] {
        case.options.format = format;
        let whole = dir.path().join(format.extension());
        assert_eq!(case.run(&text, Kind::Text, &whole).unwrap().shards.len(), 6);
        let wanted = files(&whole);
        assert_eq!(wanted.len(), 7);
        for &tokens in stops {
            let folder = dir.path().join(format!("{tokens}.{}", format.extension()));
            let cancel = Cancel::new();
            let stop = StopAt { left: AtomicU64::new(tokens), cancel: cancel.clone() };
            let error = case.run_with(&text, Kind::Text, &folder, &cancel, &stop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
            // What is there is whole, and the manifest says so.
            let n_whole = if folder.exists() { names(&folder).len().saturating_sub(1) } else { 0 };
            assert!(n_whole as u64 >= tokens.saturating_sub(200) / 200, "{n_whole} after {tokens}");
            if n_whole > 0 {
                let manifest = manifest(&folder);
                assert_eq!(manifest["complete"], false);
                assert_eq!(manifest["shards"].as_array().unwrap().len(), n_whole);
            }
            let summary = case.run(&text, Kind::Text, &folder).unwrap();
            assert_eq!(summary.reused, n_whole);
            assert!(files(&folder) == wanted, "after {tokens} tokens");
            // Nothing is left to do.
            let again = case.run(&text, Kind::Text, &folder).unwrap();
            assert_eq!((again.reused, again.tokens_run, again.shards), (6, 0, summary.shards));
        }
        // Killed when the first shard had its name and the manifest did not list it.
        let mut early = manifest(&whole);
        (early["shards"], early["complete"]) = (json!([]), json!(false));
        fs::write(whole.join("manifest.json"), early.to_string()).unwrap();
        assert_eq!(case.run(&text, Kind::Text, &whole).unwrap().reused, 0);
        assert!(files(&whole) == wanted);
    }
}

/// The beginning of a command line that exports the residual stream after every block.
fn export_of_stream(model: &Path, text: &Path) -> [String; 7] {
    let (model, text) = (model.to_str().unwrap(), text.to_str().unwrap());
    ["activations", "-m", model, "-f", text, "--hooks", "blocks.*.hook_resid_post"].map(str::to_owned)
}

#[test]
fn a_killed_run_goes_on_to_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (model, text) = (gguf("Q8_0"), checkpoint().join("heldout.txt"));
    let args = |folder: &'static str| {
        let more = ["-c", "128", "--chunks", "200", "--shard-size", "8M", "-q", "-o", folder];
        export_of_stream(&model, &text).into_iter().chain(more.map(str::to_owned)).collect::<Vec<_>>()
    };
    run_model(dir.path(), args("whole")).ok();
    let wanted = files(&dir.path().join("whole"));
    assert!(wanted.len() > 10, "{}", wanted.len());
    let folder = dir.path().join("killed");
    let mut kills = 0;
    for shard in [0, 1, 4, 8] {
        let mut command = Command::new(PYTHIA_RUN);
        command.env("PYTHIA_CACHE", common::scratch().join("cache")).args(args("killed")).current_dir(dir.path());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        let begun = |name: &String| name.starts_with(&format!(".activations-{shard:05}"));
        while !(folder.exists() && names(&folder).iter().any(begun)) && child.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < Duration::from_secs(60), "shard {shard} is not begun");
            std::thread::sleep(Duration::from_micros(200));
        }
        child.kill().unwrap();
        kills += usize::from(!child.wait().unwrap().success());
    }
    assert!(kills > 0, "all runs ended before they could be killed");
    run_model(dir.path(), args("killed")).ok();
    assert!(files(&folder) == wanted, "{:?}", names(&folder));
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_says_how_to_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (model, text) = (gguf("Q8_0"), checkpoint().join("heldout.txt"));
    let mut command = Command::new(PYTHIA_RUN);
    command.env("PYTHIA_CACHE", common::scratch().join("cache")).current_dir(dir.path());
    command.args(export_of_stream(&model, &text));
    command.args(["--shard-size", "4M", "-o", "out", "-q"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let start = Instant::now();
    while !dir.path().join("out/manifest.json").exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "no manifest");
        std::thread::sleep(Duration::from_micros(200));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let outcome = Outcome::from(child.wait_with_output().unwrap());
    outcome.stopped(PROGRAM, &["interrupted; the same command goes on after the last whole file"]);
    let left = names(&dir.path().join("out"));
    let manifest = manifest(&dir.path().join("out"));
    assert_eq!(manifest["shards"].as_array().unwrap().len(), left.len() - 1, "{left:?}");
}
