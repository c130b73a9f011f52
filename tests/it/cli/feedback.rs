//! `--quantizer feedback` of `convert`, `quantize` and `compare`, on two windows of calibration.

use crate::common::{self, Outcome, checkpoint, file, gguf, quant};
use pythia_gguf::{Gguf, Metadata};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const PROGRAM: &str = "pythia-quant";

/// A text of a little over two windows.
fn text() -> PathBuf {
    let path = common::scratch().join("two-windows.txt");
    let whole = fs::read_to_string(checkpoint().join("heldout.txt")).unwrap();
    let end = whole.char_indices().map(|(at, _)| at).find(|at| *at >= 4800).unwrap();
    fs::write(&path, &whole[..end]).unwrap();
    path
}

/// The file that the tests share: Q4_0 by feedback, calibrated on the way, with its report.
fn made() -> &'static (PathBuf, Value) {
    static MADE: OnceLock<(PathBuf, Value)> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = common::scratch().join("feedback");
        fs::create_dir(&folder).unwrap();
        let (source, text) = (checkpoint(), text());
        let args = ["convert", source.to_str().unwrap(), "-t", "Q4_0", "-o", "feedback.gguf"];
        let feedback = ["--quantizer", "feedback", "--calibrate", text.to_str().unwrap(), "--report", "report.json"];
        let outcome = quant(&folder, args.iter().chain(&feedback));
        assert!(outcome.stderr.starts_with("pythia-quant: warning: calibrated on 1024 tokens"), "{}", outcome.stderr);
        assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
        let printed = outcome.ok();
        assert!(printed.contains("Q4_0: ") && printed.contains(" of 26 matrices rounded by feedback"), "{printed}");
        assert_eq!(common::names(&folder), ["feedback.gguf", "report.json"]);
        let report = serde_json::from_slice(&fs::read(folder.join("report.json")).unwrap()).unwrap();
        (folder.join("feedback.gguf"), report)
    })
}

fn metadata(path: &Path) -> Metadata {
    Gguf::parse(&fs::read(path).unwrap()).unwrap().metadata
}

/// Name, type and size of every tensor.
fn tensors(path: &Path) -> Vec<(String, String, u64)> {
    let gguf = Gguf::parse(&fs::read(path).unwrap()).unwrap();
    gguf.tensors().iter().map(|t| (t.name.clone(), t.ty.name().to_owned(), t.n_bytes)).collect()
}

#[test]
fn a_file_of_feedback_is_like_a_plain_one_and_nearer_to_its_source() {
    let (made, report) = made();
    let plain = gguf("Q4_0");
    assert_eq!(tensors(made), tensors(&plain));
    let says = metadata(made);
    assert_eq!(says.str("pythia_quant.quantizer").unwrap(), Some("feedback"));
    assert_eq!(says.str("pythia_quant.calibration.sha256").unwrap().unwrap().len(), 64);
    assert_eq!(says.u32("general.file_type").unwrap(), Some(2));
    assert_eq!(metadata(&plain).get("pythia_quant.quantizer"), None);

    assert_eq!(report["quantizer"], "feedback");
    assert_eq!(report["files"][0]["type"], "Q4_0");
    assert_eq!(report["files"][0]["matrices"].as_array().unwrap().len(), 6 * 4 + 2);

    let dir = tempfile::tempdir().unwrap();
    let [base, made, plain] = [gguf("F16"), made.clone(), plain].map(|path| path.to_str().unwrap().to_owned());
    let text = checkpoint().join("heldout.txt");
    let args = ["compare", &base, &plain, &made, "--chunks", "8", "-f", text.to_str().unwrap(), "--cache", "cache"];
    let table = quant(dir.path(), args).ok();
    let report: Value =
        serde_json::from_slice(&fs::read(dir.path().join("pythia-compare/report.json")).unwrap()).unwrap();
    let side_by_side = &report["side_by_side"];
    assert_eq!(side_by_side["series"], serde_json::json!(["plain", "feedback"]));
    // With so little calibration; the README has what it comes to.
    let ratio = side_by_side["levels"][0]["klds"][1]["of_first"].as_f64().unwrap();
    assert!((0.1..0.8).contains(&ratio), "{report}");
    assert!(table.contains("Mean KLD by quantizer:") && table.contains("feedback / plain"), "{table}");
    assert!(table.contains("Q4_0 feedback"), "{table}");
}

#[test]
fn verify_checks_the_errors_of_what_was_rounded_together() {
    let (made, _) = made();
    let dir = tempfile::tempdir().unwrap();
    let source = checkpoint();
    let args = ["verify", made.to_str().unwrap(), "--against", source.to_str().unwrap()];
    let text = quant(dir.path(), args).ok();
    assert!(text.contains("rounded together by the quantizer feedback"), "{text}");
    assert!(text.contains(": sound; "), "{text}");
}

/// The F16 file with nothing but its first block, and a calibration of it.
fn one_block(folder: &Path) {
    let bytes = fs::read(gguf("F16")).unwrap();
    let whole = Gguf::parse(&bytes).unwrap();
    let mut metadata = Metadata::new();
    for (key, value) in whole.metadata.iter() {
        metadata.insert(key, value.clone());
    }
    metadata.insert("gptneox.block_count", 1u32);
    let in_first = |name: &str| !name.starts_with("blk.") || name.starts_with("blk.0.");
    let tensors = file::tensors(&whole, &bytes).into_iter().filter(|((name, ..), _)| in_first(name));
    fs::write(folder.join("one.gguf"), file::build(&metadata, tensors)).unwrap();
    let text = checkpoint().join("heldout.txt");
    let args = ["calibrate", "one.gguf", "-f", text.to_str().unwrap(), "-c", "64", "--windows", "16", "-q"];
    quant(folder, args).ok();
}

#[test]
fn types_are_chosen_within_a_budget() {
    let dir = tempfile::tempdir().unwrap();
    one_block(dir.path());
    let quantize = |more: &[&str]| quant(dir.path(), ["quantize", "one.gguf"].iter().chain(more));
    let feedback = ["--quantizer", "feedback", "--calibration", "calibration.gguf"];
    let within = ["--budget", "same-as:Q4_0", "--keep", "attn_output", "--max-type", "Q5_K"];
    let options = [&["a.gguf", "Q4_0", "--tensor-type", "ffn_up=Q5_0", "--json"], &feedback[..], &within].concat();
    let report: Value = serde_json::from_str(&quantize(&options).ok()).unwrap();
    quantize(&["plain.gguf", "Q4_0", "-q"]).ok();
    let bytes = |name: &str| fs::metadata(dir.path().join(name)).unwrap().len();
    // What feedback says of itself is a few hundred bytes.
    assert!(bytes("a.gguf") <= bytes("plain.gguf") + 1000, "{} {}", bytes("a.gguf"), bytes("plain.gguf"));
    let allocation = &report["allocation"];
    assert_eq!(allocation["budget"], "same-as:Q4_0");
    assert_eq!(allocation["bytes"], bytes("a.gguf"));
    let rules: Vec<&str> = allocation["rules"].as_array().unwrap().iter().map(|rule| rule.as_str().unwrap()).collect();
    assert!(!rules.is_empty(), "{allocation}");
    let found = tensors(&dir.path().join("a.gguf"));
    let ty = |name: &str| found.iter().find(|(other, ..)| other == name).unwrap().1.as_str();
    assert_eq!(ty("blk.0.attn_output.weight"), "Q4_0");
    assert_eq!(ty("blk.0.ffn_up.weight"), "Q5_0");
    assert!(!found.iter().any(|(_, ty, _)| ["Q6_K", "Q8_0"].contains(&ty.as_str())), "{found:?}");

    // The rules that were printed give the same types, also plainly.
    fs::write(dir.path().join("rules"), rules.join("\n")).unwrap();
    let again = ["b.gguf", "Q4_0", "--tensor-type", "ffn_up=Q5_0", "--tensor-type-file", "rules", "-q"];
    quantize(&again).ok();
    assert_eq!(tensors(&dir.path().join("b.gguf")), found);

    let refused = |options: &[&str], code, parts: &[&str]| {
        quantize(&[&["c.gguf"], options].concat()).fails(PROGRAM, code, parts);
    };
    refused(&["Q4_0", "--budget", "4MB"], 2, &["--budget is for --quantizer feedback"]);
    refused(&[&["Q4_0", "--budget", "4XB"], &feedback[..]].concat(), 2, &["4XB", "wanted a size such as 4.8MB"]);
    refused(&[&["Q4_0", "--max-type", "Q6_K"], &feedback[..]].concat(), 2, &["--budget"]);
    let keep = ["Q4_0", "--budget", "4MB", "--keep", "("];
    refused(&[&keep, &feedback[..]].concat(), 2, &["unclosed group"]);
    let small = ["Q4_0", "--budget", "600kB"];
    refused(&[&small, &feedback[..]].concat(), 2, &["tensors may take"]);
    let two =
        quant(dir.path(), [&["quantize", "one.gguf", "d/", "Q4_0,Q8_0", "--budget", "4MB"], &feedback[..]].concat());
    two.fails(PROGRAM, 2, &["--budget is for one TYPE"]);
}

/// Without the options, files are what they have always been; the tests against llama.cpp hold for them.
#[test]
fn plain_is_the_default() {
    let dir = tempfile::tempdir().unwrap();
    let args =
        ["quantize", gguf("F16").to_str().unwrap(), "a.gguf", "Q4_0", "--quantizer", "plain", "-q"].map(str::to_owned);
    quant(dir.path(), &args).ok();
    assert!(fs::read(dir.path().join("a.gguf")).unwrap() == fs::read(gguf("Q4_0")).unwrap());
}

#[test]
fn what_feedback_lacks_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let source = checkpoint();
    fs::write(dir.path().join("short.txt"), "too short").unwrap();
    fs::write(dir.path().join("taken"), "").unwrap();
    let convert = |options: &[&str]| -> Outcome {
        let args = ["convert", source.to_str().unwrap(), "-t", "Q4_0", "-o", "a.gguf"];
        quant(dir.path(), args.iter().chain(options))
    };
    let feedback = |options: &[&str]| convert(&[&["--quantizer", "feedback"], options].concat());
    let model = gguf("F16");
    let model = model.to_str().unwrap();
    feedback(&[]).fails(PROGRAM, 2, &["needs a calibration", "--calibrate TEXT", "pythia-quant calibrate MODEL"]);
    feedback(&["--calibration", "absent"]).fails(PROGRAM, 74, &["absent: "]);
    feedback(&["--calibrate", "absent"]).fails(PROGRAM, 74, &["absent: "]);
    feedback(&["--calibration", model]).fails(PROGRAM, 65, &["F16.gguf: ", "found 'model', wanted 'calibration'"]);
    feedback(&["--calibration", "taken"]).fails(PROGRAM, 65, &["taken: "]);
    feedback(&["--calibrate", "short.txt"]).fails(PROGRAM, 65, &["short.txt: the text has 3 tokens", "at least 512"]);
    feedback(&["--calibration", "a", "--calibrate", "b"]).fails(PROGRAM, 2, &["cannot be used with"]);
    feedback(&["--calibrate", "short.txt", "--report", "taken"]).fails(PROGRAM, 2, &["taken: already exists"]);
    let own = ["--calibrate", "short.txt", "--report", "short.txt", "--force"];
    feedback(&own).fails(PROGRAM, 2, &["short.txt: the output would replace the input"]);
    // Nothing that is read, and nothing that is written, is replaced by the report.
    fs::write(dir.path().join("rules"), "ffn_up=Q8_0").unwrap();
    let report = |path: &str| {
        let weights = ["--calibrate", "rules", "--tensor-type-file", "rules", "--report", path, "--force"];
        feedback(&weights).fails(PROGRAM, 2, &["the output would replace the input"]);
    };
    fs::write(dir.path().join("a.gguf"), "").unwrap();
    [source.join("model.safetensors").to_str().unwrap(), "rules", "a.gguf"].into_iter().for_each(report);
    fs::remove_file(dir.path().join("a.gguf")).unwrap();
    let onto_rules = ["convert", source.to_str().unwrap(), "-t", "Q4_0", "-o", "rules", "--force"];
    let outcome = quant(dir.path(), onto_rules.iter().chain(&["--tensor-type-file", "rules"]));
    outcome.fails(PROGRAM, 2, &["the output would replace the input rules"]);
    assert_eq!(fs::read(dir.path().join("rules")).unwrap(), b"ffn_up=Q8_0");
    fs::remove_file(dir.path().join("rules")).unwrap();
    for option in ["--calibration", "--calibrate", "--report"] {
        convert(&[option, "x"]).fails(PROGRAM, 2, &[option, "is for --quantizer feedback"]);
    }
    convert(&["--quantizer", "fedback"]).fails(PROGRAM, 2, &["'fedback'", "did you mean 'feedback'?"]);

    let compare = |options: &[&str]| {
        let text = source.join("heldout.txt");
        let args = ["compare", source.to_str().unwrap(), "-t", "Q4_0", "-f", text.to_str().unwrap()];
        quant(dir.path(), args.iter().chain(&["--chunks", "2", "--cache", "cache"]).chain(options))
    };
    compare(&["--quantizer", "plain,feedback"]).fails(PROGRAM, 2, &["needs a calibration"]);
    compare(&["--calibration", "x"]).fails(PROGRAM, 2, &["--quantizer does not name"]);
    compare(&["--quantizer", "plain,imatrix"]).fails(PROGRAM, 2, &["--imatrix"]);
    compare(&["--quantizer", "plain,plain"]).fails(PROGRAM, 2, &["plain was named twice"]);
    assert_eq!(common::names(dir.path()), ["short.txt", "taken"]);
}

/// A model that the calibration is not one of is refused before anything is rounded.
#[test]
fn texts_need_a_tokenizer() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = fs::read(gguf("F16")).unwrap();
    let keys: Vec<String> = metadata(&gguf("F16")).iter().map(|(key, _)| key.to_owned()).collect();
    let mute = file::with_metadata(&bytes, |metadata| {
        keys.iter().filter(|key| key.starts_with("tokenizer.")).for_each(|key| drop(metadata.remove(key)));
    });
    fs::write(dir.path().join("mute.gguf"), mute).unwrap();
    fs::copy(text(), dir.path().join("text")).unwrap();
    let args = ["quantize", "mute.gguf", "a.gguf", "Q4_0", "--quantizer", "feedback", "--calibrate", "text"];
    quant(dir.path(), args).fails(PROGRAM, 65, &["mute.gguf: no tokenizer"]);
}
