//! `pythia-quant calibrate` as users and scripts meet it, on the checkpoint in `data/`.

use crate::common::{self, Outcome, names, quant};
use pythia_calibrate::Calibration;
use pythia_calibrate::calibration::{Collector, Request, windows};
use pythia_calibrate::network::Network;
use pythia_convert::CheckpointSource;
use pythia_gguf::Gguf;
use pythia_kernels::Cpu;
use pythia_runtime::{TokenStream, Tokenizer};
use pythia_schema::{Kind, TensorId};
use pythia_task::{Cancel, Progress};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

const PROGRAM: &str = "pythia-quant";
/// Small enough to take no time.
const SMALL: [&str; 4] = ["-c", "64", "--windows", "3"];

/// `calibrate` of a model on the held-out text, with more arguments.
fn calibrate(folder: &Path, model: &Path, more: &[&str]) -> Outcome {
    let text = common::checkpoint().join("heldout.txt");
    let args = ["calibrate", model.to_str().unwrap(), "-f", text.to_str().unwrap()];
    quant(folder, args.iter().chain(&SMALL).chain(more))
}

/// The bytes of all tensors.
fn tensors(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    gguf.tensors().iter().flat_map(|tensor| gguf.data(&bytes, tensor)).copied().collect()
}

#[test]
fn a_file_and_a_table_are_made() {
    let dir = tempfile::tempdir().unwrap();
    let outcome = calibrate(dir.path(), &common::checkpoint(), &[]);
    assert_eq!(outcome.stderr, "", "no progress bar where there is no terminal");
    let text = outcome.ok();
    assert_eq!(names(dir.path()), ["calibration.gguf"]);
    let rows: Vec<&str> = text.lines().skip(2).map(|line| line.split_whitespace().next().unwrap_or("")).collect();
    assert_eq!(rows[..5], ["token_embd", "attn_qkv", "attn_output", "ffn_up", "ffn_down"], "{text}");
    assert!(text.contains("192 of 86110 tokens, 3 windows of 64\ncalibration.gguf: "), "{text}");

    let file = Calibration::open(&dir.path().join("calibration.gguf")).unwrap();
    assert_eq!((file.n_ctx(), file.tokens().len()), (64, 192));
    let provenance = file.provenance();
    assert_eq!((&*provenance.model, &*provenance.text), ("pythia-docs-6m", "heldout.txt"));
    assert_eq!(provenance.program, format!("pythia-quant {}", env!("CARGO_PKG_VERSION")));
    let metric = file.output_metric(TensorId::weight(Kind::FfnUp, Some(5))).unwrap();
    assert_eq!((metric.len(), metric[0].rows), (1, 1024));
    assert_eq!(file.input_moment(TensorId::weight(Kind::FfnUp, Some(5))).unwrap(), None);

    // An F32 file of the F16 checkpoint holds the same weights.
    let more = ["-o", "f32.gguf", "-q", "-t", "1"];
    assert_eq!(calibrate(dir.path(), &common::gguf("F32"), &more).ok(), "");
    assert!(tensors(&dir.path().join("f32.gguf")) == tensors(&dir.path().join("calibration.gguf")));
}

#[test]
fn json_holds_every_matrix() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--inputs", "--seed", "5", "--gelu", "tanh", "--threads", "2", "-o", "x.gguf", "--json"];
    let report: Value = serde_json::from_str(&calibrate(dir.path(), &common::checkpoint(), &args).ok()).unwrap();
    let path = dir.path().join("x.gguf");
    let file = Calibration::open(&path).unwrap();
    for (key, value) in [("windows", 3), ("window_size", 64), ("tokens", 192), ("text_tokens", 86_110), ("seed", 5)] {
        assert_eq!(report[key], value, "{key}");
    }
    assert_eq!((&report["threads"], &report["inputs"]), (&2.into(), &true.into()));
    assert_eq!((&report["path"], &report["bytes"]), (&"x.gguf".into(), &fs::metadata(&path).unwrap().len().into()));
    assert_eq!(report["model_fingerprint"], file.provenance().fingerprint);
    let listed = report["tensors"].as_array().unwrap();
    assert_eq!((listed.len(), &listed[0]["tensor"]), (25, &"token_embd.weight".into()));
    for row in &listed[1..] {
        let id = TensorId::from_gguf(row["tensor"].as_str().unwrap()).unwrap();
        let blocks = file.output_metric(id).unwrap();
        let trace: f64 =
            blocks.iter().map(|b| (0..b.rows).map(|i| f64::from(b.values[i * (b.rows + 1)])).sum::<f64>()).sum();
        let reported = row["trace"].as_f64().unwrap();
        assert!((reported / trace - 1.0).abs() < 1e-5, "{id}: {reported}, the file has {trace}");
        assert_eq!(file.input_moment(id).unwrap().unwrap().len(), blocks_cols(id).pow(2));
    }
    // Another seed draws other labels.
    calibrate(dir.path(), &common::checkpoint(), &["--gelu", "tanh", "--inputs", "-o", "y.gguf", "-q"]).ok();
    assert!(tensors(&path) != tensors(&dir.path().join("y.gguf")));
}

fn blocks_cols(id: TensorId) -> usize {
    if id.kind == Kind::FfnDown { 1024 } else { 256 }
}

/// A state as a run leaves it that was stopped after its first window.
#[test]
fn a_stopped_run_is_continued() {
    let dir = tempfile::tempdir().unwrap();
    calibrate(dir.path(), &common::checkpoint(), &["-q", "-o", "whole.gguf"]).ok();

    let source = CheckpointSource::open(&common::checkpoint()).unwrap();
    let network = Network::open(&source, Arc::new(Cpu::new(2, None).unwrap()), None).unwrap();
    let text = fs::read_to_string(common::checkpoint().join("heldout.txt")).unwrap();
    let tokenizer = Tokenizer::from_vocab(&source.tokenizer().unwrap().vocab).unwrap();
    let ids = tokenizer.encode(text.trim_end_matches('\n')).unwrap();
    let cancel = Cancel::new();
    let request = Request {
        n_ctx: 64,
        seed: 0,
        inputs: false,
        model: "pythia-docs-6m".to_owned(),
        text: "heldout.txt".to_owned(),
        program: "tests".to_owned(),
        cancel: cancel.clone(),
    };
    let tokens = windows(&mut TokenStream::of_ids(&ids), 4096, 64, 3).unwrap();
    let mut collector = Collector::new(&network, &request, tokens).unwrap().in_groups_of(1);
    collector.keep_state(dir.path().join("calibration.gguf.partial"), false).unwrap();
    collector.run(&StopAfter { cancel: &cancel, tokens: 64, done: AtomicI64::new(0) }).err().unwrap();

    let partial = dir.path().join("calibration.gguf.partial");
    let state = fs::read(&partial).unwrap();
    calibrate(dir.path(), &common::checkpoint(), &["--seed", "1"]).fails(
        PROGRAM,
        2,
        &["partial", "calibration.seed", "--force"],
    );
    let outcome = calibrate(dir.path(), &common::checkpoint(), &[]);
    assert!(outcome.stderr.contains("calibration.gguf.partial: going on after 1 of 3 windows"), "{}", outcome.stderr);
    outcome.ok();
    let files = ["calibration.gguf", "whole.gguf"];
    assert_eq!(names(dir.path()), files);
    let [one, other] = files.map(|name| fs::read(dir.path().join(name)).unwrap());
    assert!(one == other);

    // Of other settings: begun anew if forced.
    fs::write(&partial, state).unwrap();
    calibrate(dir.path(), &common::checkpoint(), &["--seed", "1", "--force", "-q"]).ok();
    assert_eq!(names(dir.path()), files);
}

/// Cancels when more than some tokens are done.
struct StopAfter<'a> {
    cancel: &'a Cancel,
    tokens: i64,
    done: AtomicI64,
}

impl Progress for StopAfter<'_> {
    fn advance(&self, _item: &str, units: i64) {
        if self.done.fetch_add(units, Ordering::Relaxed) + units > self.tokens {
            self.cancel.raise();
        }
    }
}

#[test]
fn wrong_models_and_texts_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (path, model) = (dir.path(), common::checkpoint());
    fs::write(path.join("short"), "Some text.").unwrap();
    let model = model.to_str().unwrap();
    let run = |args: &[&str]| quant(path, ["calibrate"].iter().chain(args));
    run(&[model, "-f", "short"]).fails(PROGRAM, 65, &["short: the text has", "calibrate needs at least 512"]);
    run(&[model, "-f", "none"]).fails(PROGRAM, 74, &["none: "]);
    run(&["none", "-f", "short"]).fails(PROGRAM, 74, &["none"]);
    run(&[model, "-f", "short", "-c", "513"]).fails(PROGRAM, 2, &["ctx: found 513, wanted 1 to 512"]);
    run(&[model, "-f", "short", "--windows", "0"]).fails(PROGRAM, 2, &["--windows"]);
    run(&[model, "-f", "short", "-o", "short", "--force"]).fails(PROGRAM, 2, &["would replace the input"]);
    assert_eq!(names(path), ["short"], "nothing is left behind");

    calibrate(path, &common::checkpoint(), &["-q"]).ok();
    calibrate(path, &common::checkpoint(), &[]).fails(PROGRAM, 2, &["calibration.gguf: already exists"]);
    // It is a GGUF file like any other, but no model.
    let listed = quant(path, ["inspect", "calibration.gguf", "--tensors"]).ok();
    assert!(listed.contains("blk.5.ffn_down.weight.out_metric.0"), "{listed}");
    run(&["calibration.gguf", "-f", "short", "-o", "x"]).fails(PROGRAM, 65, &["token_embd.weight"]);
}
