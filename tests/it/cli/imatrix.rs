//! `pythia-quant imatrix` as users and scripts meet it, on the checkpoint in `data/`.

use crate::common::{self, Outcome, PYTHIA_QUANT, names, quant};
use pythia_gguf::{Gguf, Imatrix};
use serde_json::Value;
use std::fs;
use std::path::Path;

const PROGRAM: &str = "pythia-quant";

/// `imatrix` of a model on the held-out text, with more arguments.
fn imatrix(folder: &Path, model: &Path, more: &[&str]) -> Outcome {
    let text = common::checkpoint().join("heldout.txt");
    let args = ["imatrix", model.to_str().unwrap(), "-f", text.to_str().unwrap()];
    quant(folder, args.iter().chain(more))
}

#[test]
fn a_file_and_a_table_are_made() {
    let dir = tempfile::tempdir().unwrap();
    let outcome = imatrix(dir.path(), &common::gguf("F32"), &["--chunks", "2"]);
    assert_eq!(outcome.stderr, "", "no progress bar where there is no terminal");
    let text = outcome.ok();
    assert_eq!(names(dir.path()), ["imatrix.gguf"]);
    let imatrix = Imatrix::parse(&fs::read(dir.path().join("imatrix.gguf")).unwrap()).unwrap();
    assert_eq!((imatrix.entries.len(), imatrix.chunk_count, imatrix.chunk_size), (25, 2, 512));
    assert_eq!(imatrix.datasets, ["heldout.txt"]);

    let rows: Vec<&str> = text.lines().skip(2).map(|line| line.split_whitespace().next().unwrap_or("")).collect();
    assert_eq!(rows[..6], ["attn_qkv", "attn_output", "ffn_up", "ffn_down", "output", "(not"], "{text}");
    assert!(text.contains("(not shown at this width: of column, in; --json has them)"), "{text}");
    assert!(text.contains("1024 of 86110 tokens, 2 chunks of 512\nimatrix.gguf: 25 tensors"), "{text}");
    // It is a GGUF file like any other.
    let listed = quant(dir.path(), ["inspect", "imatrix.gguf", "--tensors"]).ok();
    assert!(listed.contains("heldout.txt") && listed.contains("output.weight.in_sum2"), "{listed}");
}

#[test]
fn json_holds_every_matrix() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--chunks", "3", "-c", "64", "-b", "20", "--threads", "2", "--gelu", "tanh", "-o", "x.gguf", "--json"];
    let report: Value = serde_json::from_str(&imatrix(dir.path(), &common::gguf("F32"), &args).ok()).unwrap();
    let file = fs::read(dir.path().join("x.gguf")).unwrap();
    let imatrix = Imatrix::parse(&file).unwrap();
    for (key, value) in [("chunks", 3), ("chunk_size", 64), ("tokens", 192), ("text_tokens", 86_110), ("threads", 2)] {
        assert_eq!(report[key], value, "{key}");
    }
    assert_eq!((&report["path"], &report["bytes"]), (&"x.gguf".into(), &file.len().into()));
    assert_eq!(report["arithmetic"]["gelu"], "tanh");
    let tensors = report["tensors"].as_array().unwrap();
    assert_eq!(tensors.len(), 25);
    for (tensor, entry) in tensors.iter().zip(&imatrix.entries) {
        assert_eq!(tensor["tensor"], entry.name());
        let importance = imatrix.importance(entry.name(), entry.cols()).unwrap().unwrap();
        let column = tensor["max_column"].as_u64().unwrap() as usize;
        assert!(importance.iter().all(|&x| x <= importance[column]), "{tensor}");
        let close = |key: &str, want: f64| {
            let got = tensor[key].as_f64().unwrap();
            assert!((got / want - 1.0).abs() < 1e-6, "{key} of {}: {got}, wanted {want}", entry.name());
        };
        let total: f64 = importance.iter().map(|&x| f64::from(x)).sum();
        close("max", importance[column].into());
        close("mean", total / entry.cols() as f64);
        let mut largest: Vec<f64> = importance.iter().map(|&x| x.into()).collect();
        largest.sort_by(|a, b| b.total_cmp(a));
        // 1 % of 256 columns are 3, of 1024 they are 11.
        let top = if entry.cols() == 256 { 3 } else { 11 };
        close("top_percent_share", largest[..top].iter().sum::<f64>() / total);
    }
    // GELU is told apart where it was applied, and nowhere before.
    let args = ["--chunks", "3", "-c", "64", "-o", "erf.gguf", "-q"];
    assert_eq!(self::imatrix(dir.path(), &common::gguf("F32"), &args).ok(), "");
    let erf = Imatrix::parse(&fs::read(dir.path().join("erf.gguf")).unwrap()).unwrap();
    assert_eq!(erf.entry("blk.0.ffn_up.weight"), imatrix.entry("blk.0.ffn_up.weight"));
    assert_ne!(erf.entry("blk.0.ffn_down.weight"), imatrix.entry("blk.0.ffn_down.weight"));
}

#[test]
fn existing_files_are_kept_unless_forced_and_inputs_always() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model.gguf");
    fs::copy(common::gguf("Q8_0"), &model).unwrap();
    fs::write(dir.path().join("imatrix.gguf"), "precious").unwrap();
    let refused = imatrix(dir.path(), &model, &["--chunks", "1"]);
    refused.fails(PROGRAM, 2, &["imatrix.gguf", "already exists", "--force"]);
    assert_eq!(fs::read(dir.path().join("imatrix.gguf")).unwrap(), b"precious");
    imatrix(dir.path(), &model, &["--chunks", "1", "--force", "-q"]).ok();
    assert!(Imatrix::parse(&fs::read(dir.path().join("imatrix.gguf")).unwrap()).is_ok());

    let before = fs::read(&model).unwrap();
    let replacing = imatrix(dir.path(), &model, &["--chunks", "1", "--force", "-o", "./model.gguf"]);
    replacing.fails(PROGRAM, 2, &["would replace the input"]);
    assert!(before == fs::read(&model).unwrap());
    let lost = imatrix(dir.path(), &model, &["--chunks", "1", "-o", "absent/x.gguf"]);
    lost.fails(PROGRAM, 74, &["absent", "cannot create"]);
    assert_eq!(names(dir.path()), ["imatrix.gguf", "model.gguf"], "nothing is left behind");
}

#[test]
fn wrong_requests_are_one_line_each() {
    let dir = tempfile::tempdir().unwrap();
    let model = common::gguf("Q8_0");
    let fails = |args: &[&str], code: i32, parts: &[&str]| {
        imatrix(dir.path(), &model, args).fails(PROGRAM, code, parts);
        assert_eq!(names(dir.path()), ["short.txt"], "{args:?}");
    };
    fs::write(dir.path().join("short.txt"), "too short\n").unwrap();
    fails(&["-c", "513"], 2, &["ctx", "513", "512"]);
    fails(&["-b", "0"], 2, &["batch", "found 0"]);
    fails(&["--chunks", "0"], 2, &["--chunks"]);
    fails(&["--gelu", "relu"], 2, &["relu", "erf or tanh"]);
    fails(&["--frobnicate"], 2, &["--frobnicate"]);
    let run = |args: &[&str]| quant(dir.path(), ["imatrix"].iter().chain(args));
    let model = model.to_str().unwrap();
    run(&[model]).fails(PROGRAM, 2, &["--file"]);
    run(&[model, "-f", "absent.txt"]).fails(PROGRAM, 74, &["absent.txt"]);
    run(&[model, "-f", "short.txt"]).fails(PROGRAM, 65, &["short.txt: the text has", "at least 512"]);
    run(&["absent.gguf", "-f", "short.txt"]).fails(PROGRAM, 74, &["absent.gguf"]);
    run(&["short.txt", "-f", "short.txt"]).fails(PROGRAM, 65, &["short.txt", "GGUF"]);
    assert_eq!(names(dir.path()), ["short.txt"]);
}

#[test]
fn activations_that_are_not_finite_are_named_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = fs::read(common::gguf("F32")).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    let start = gguf.tensor("blk.2.ffn_up.bias").unwrap().offset as usize;
    bytes[start..start + 4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    let model = dir.path().join("model.gguf");
    fs::write(&model, bytes).unwrap();
    let outcome = imatrix(dir.path(), &model, &["--chunks", "2"]);
    outcome.fails(PROGRAM, 65, &["model.gguf: tensor 'blk.2.ffn_down.weight'", "sum inf at 0"]);
    assert_eq!(names(dir.path()), ["model.gguf"]);
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_leaves_nothing() {
    use std::process::Command;
    let dir = tempfile::tempdir().unwrap();
    let text = common::checkpoint().join("heldout.txt");
    let mut program = Command::new(PYTHIA_QUANT)
        .args(["imatrix".as_ref(), common::gguf("F32").as_os_str(), "-f".as_ref(), text.as_os_str()])
        // One thread of scalar code: the whole text would take long.
        .args(["--threads", "1"])
        .env("PYTHIA_ISA", "scalar")
        .current_dir(dir.path())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // Its temporary file shows that the work, and so the handler, has begun.
    while names(dir.path()).is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-INT", &program.id().to_string()]).status().unwrap().success());
    assert_eq!(program.wait().unwrap().code(), Some(130));
    assert_eq!(names(dir.path()), [""; 0]);
}
