//! `pythia-run lens`, `pythia-run attention` and `pythia-quant diff --activations`.

use crate::common::file::build;
use crate::common::{data, gguf, quant, run_model, scratch};
use pythia_gguf::Gguf;
use serde_json::Value;
use std::fs;
use std::path::Path;

const TEXT: &str = "fn main() { let mut borrow = String::new(); }";

fn lens(args: &[&str]) -> crate::common::Outcome {
    let model = gguf("Q4_0");
    run_model(scratch(), ["lens", "-m", model.to_str().unwrap()].iter().chain(args))
}

fn attention(args: &[&str]) -> crate::common::Outcome {
    let model = gguf("Q4_0");
    run_model(scratch(), ["attention", "-m", model.to_str().unwrap()].iter().chain(args))
}

fn diff(a: &Path, b: &Path, args: &[&str]) -> crate::common::Outcome {
    let text = data("pythia-docs-6m/heldout.txt");
    let common = ["diff", "--activations", a.to_str().unwrap(), b.to_str().unwrap(), "-f", text.to_str().unwrap()];
    quant(scratch(), common.iter().chain(args))
}

/// A copy of a level whose tensor is full of bytes that are NaN as f16.
fn damaged(level: &str, tensor: &str) -> std::path::PathBuf {
    let bytes = fs::read(gguf(level)).unwrap();
    let header = Gguf::parse(&bytes).unwrap();
    let tensors = crate::common::file::tensors(&header, &bytes);
    let damage = |(entry, data): ((String, _, _), Vec<u8>)| match entry.0 == tensor {
        true => (entry, vec![0x7f; data.len()]),
        false => (entry, data),
    };
    let path = scratch().join(format!("inside-{level}-{tensor}.gguf"));
    fs::write(&path, build(&header.metadata, tensors.into_iter().map(damage))).unwrap();
    path
}

#[test]
fn the_lens_has_a_table_of_means_and_one_per_position() {
    let means = lens(&["-p", TEXT]).ok();
    assert!(means.starts_with("13 tokens of --prompt; no token is added."), "{means}");
    let last = means.lines().find(|line| line.trim_start().starts_with("5 ")).unwrap();
    assert!(last.contains("100.0 %") && last.contains("0.0000"), "{last}");
    let at = lens(&["-p", TEXT, "--positions", "1,last", "--layers", "embed,4-5", "-k", "2"]).ok();
    assert!(at.contains("token 1 \" main\", next \"()\"") && at.contains("no token follows"), "{at}");
    assert_eq!(at.lines().filter(|line| line.trim_start().starts_with("embed")).count(), 2, "{at}");
}

#[test]
fn the_lens_speaks_to_programs() {
    let lines = lens(&["-p", TEXT, "--format", "jsonl"]).ok();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 7 * 13);
    assert!(lines.iter().all(|line| line["top"].as_array().unwrap().len() == 5));
    let csv = lens(&["-p", TEXT, "--format", "csv", "-k", "1"]).ok();
    assert_eq!(csv.lines().count(), 1 + lines.len());
    let page = scratch().join("lens.html");
    let page = page.to_str().unwrap();
    lens(&["-p", TEXT, "--html", page, "--force"]).ok();
    lens(&["-p", TEXT, "--html", page]).fails("pythia-run", 2, &["lens.html", "--force"]);
    let html = fs::read_to_string(page).unwrap();
    assert!(html.contains("\u{b7}main") && !html.contains("http"), "one file, no network");
}

#[test]
fn what_has_no_inside_is_refused() {
    let heldout = data("pythia-docs-6m/heldout.txt");
    let heldout = heldout.to_str().unwrap();
    for run in [lens, attention] {
        run(&["-p", ""]).fails("pythia-run", 2, &["--prompt: the prompt is empty"]);
        run(&["-f", heldout]).fails("pythia-run", 2, &["more than the 512", "--tokens 512"]);
        run(&["-f", heldout, "--tokens", "20", "-q"]).ok();
    }
    lens(&["-p", "x", "--layers", "9"]).fails("pythia-run", 2, &["layers: found '9'", "0 to 5"]);
    lens(&["-p", "x", "--positions", "1"]).fails("pythia-run", 2, &["positions: found '1'"]);
    lens(&["-p", "x", "-k", "4097"]).fails("pythia-run", 2, &["top: found 4097, wanted 1 to 4096"]);
    for format in ["jsonl", "csv"] {
        let args = ["-p", "x", "--positions", "0", "--format", format];
        lens(&args).fails("pythia-run", 2, &["--positions: is of the table; jsonl and csv have all"]);
    }
    for n in ["3", "513", "1000000"] {
        let wanted = format!("tokens: found {n}, wanted 4 to 512 for a sequence that repeats");
        attention(&["--induction", "--tokens", n]).fails("pythia-run", 2, &[&wanted]);
    }
    attention(&["-p", "x", "--heads", "0.99"]).fails("pythia-run", 2, &["heads: found '0.99'"]);
    attention(&["-p", "x", "--induction"]).fails("pythia-run", 2, &["--induction"]);
    let nan = damaged("F16", "blk.3.ffn_down.weight");
    let nan = nan.to_str().unwrap();
    let outcome = run_model(scratch(), ["lens", "-m", nan, "-p", "x y"]);
    outcome.fails("pythia-run", 65, &["inside-F16-blk.3.ffn_down.weight.gguf", "not finite at token 0"]);
    let outcome = run_model(scratch(), ["attention", "-m", nan, "-p", "x y"]);
    outcome.fails("pythia-run", 65, &["blocks.4.attn.hook_pattern is not finite at token 0"]);
}

#[test]
fn attention_has_scores_patterns_and_a_page() {
    let [file, page] = ["patterns.safetensors", "attention.html"].map(|name| scratch().join(name));
    let outputs = ["-o", file.to_str().unwrap(), "--html", page.to_str().unwrap(), "--force"];
    let table = attention(&[&["--induction", "--tokens", "64", "--heads", "2.*,5.1"][..], &outputs].concat()).ok();
    assert!(table.contains("random sequence (seed 0)") && table.contains("Highest: previous"), "{table}");
    let bytes = fs::read(file).unwrap();
    let names = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(names.tensor("blocks.5.attn.hook_pattern").unwrap().shape(), [1, 64, 64]);
    assert!(fs::read_to_string(page).unwrap().contains("Head 5.1"));
    let lines = attention(&["--induction", "--tokens", "64", "--seed", "3", "--format", "jsonl"]).ok();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().all(|line| line["induction"].is_f64() && line["entropy"].is_f64()));
    let csv = attention(&["-p", TEXT, "--format", "csv"]).ok();
    assert_eq!(csv.lines().count(), 1 + lines.len());
    let page = scratch().join("attention-long.html");
    let args = ["--induction", "--tokens", "512", "--html", page.to_str().unwrap(), "--force"];
    attention(&args).ok();
    assert!(fs::read_to_string(page).unwrap().contains("a cell stands for 2 by 2 tokens"));
}

#[test]
fn damage_is_found_where_it_is() {
    let (f16, q4) = (gguf("F16"), gguf("Q4_0"));
    let [csv, page] = ["damage.csv", "damage.html"].map(|name| scratch().join(name));
    let files = ["--csv", csv.to_str().unwrap(), "--html", page.to_str().unwrap(), "--force", "--chunks", "1"];
    let outcome = diff(&f16, &q4, &files);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(
        outcome.stdout.contains("512 tokens of") && outcome.stdout.contains("Most new error: block"),
        "{outcome:?}"
    );
    let outcome = diff(&f16, &q4, &["--chunks", "1", "--json"]);
    let json: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let csv = fs::read_to_string(csv).unwrap();
    let rows = json["rows"].as_array().unwrap();
    assert_eq!(csv.lines().count(), 1 + rows.len());
    for (line, row) in csv.lines().skip(1).zip(rows) {
        let cells: Vec<&str> = line.split(',').collect();
        assert_eq!(cells[0], row["hook"]);
        assert_eq!(cells[5].parse().ok(), row["relative_error"].as_f64(), "{line}");
    }
    assert!(fs::read_to_string(page).unwrap().contains("<polyline"));
    // One matrix is another: only its block has error of its own.
    let one = scratch().join("one.gguf");
    let args = ["quantize", f16.to_str().unwrap(), one.to_str().unwrap(), "F16", "--force", "-q"];
    let mixed = quant(scratch(), args.iter().chain(&["--tensor-type", "blk.2.ffn_down=Q4_0"]));
    assert_eq!(mixed.code, Some(0), "{mixed:?}");
    let json: Value = serde_json::from_str(&diff(&f16, &one, &["--chunks", "1", "--json"]).stdout).unwrap();
    for (layer, block) in json["blocks"].as_array().unwrap().iter().enumerate() {
        let of = |name: &str| block[name].as_f64().unwrap();
        assert_eq!(of("own") > 0.0, layer == 2, "{block}");
        assert_eq!(of("own_mlp") > 0.0, layer == 2, "{block}");
        assert_eq!((of("own_attention"), of("stream") > 0.0), (0.0, layer >= 2), "{block}");
    }
}

#[test]
fn a_file_is_not_different_from_itself_and_strangers_are_refused() {
    let q4 = gguf("Q4_0");
    let same = diff(&q4, &q4, &["--chunks", "1", "-c", "64"]);
    assert!(same.code == Some(0) && same.stdout.contains("Nothing is different."), "{same:?}");
    let [a, b] = ["F16", "Q4_0"].map(gguf);
    diff(&a, &b, &["-c", "9999"]).fails("pythia-quant", 2, &["window: found 9999"]);
    diff(&a, &b, &["--all"]).fails("pythia-quant", 2, &["--all"]);
    quant(scratch(), ["diff", a.to_str().unwrap(), b.to_str().unwrap(), "--activations"]).fails(
        "pythia-quant",
        2,
        &["--file"],
    );
    let empty = scratch().join("empty.txt");
    fs::write(&empty, "").unwrap();
    let args = ["diff", "--activations", a.to_str().unwrap(), b.to_str().unwrap(), "-f", empty.to_str().unwrap()];
    quant(scratch(), args).fails("pythia-quant", 2, &["empty.txt", "empty"]);
    let nan = damaged("F16", "blk.3.ffn_down.weight");
    diff(&a, &nan, &["--chunks", "1"]).fails("pythia-quant", 65, &["blocks.3.hook_mlp_out is not finite at token 0"]);
    let other = scratch().join("inside-vocabulary.gguf");
    let bytes = fs::read(&b).unwrap();
    let changed = crate::common::file::with_metadata(&bytes, |metadata| {
        metadata.remove("tokenizer.huggingface.json");
        let key = "tokenizer.ggml.tokens";
        let Some(pythia_gguf::Value::Array(pythia_gguf::Array::String(tokens))) = metadata.get(key).cloned() else {
            panic!("a list of tokens")
        };
        let mut tokens = tokens;
        tokens.swap(40, 41);
        metadata.insert(key, pythia_gguf::Value::Array(pythia_gguf::Array::String(tokens)));
    });
    fs::write(&other, changed).unwrap();
    diff(&a, &other, &["--chunks", "1"]).fails("pythia-quant", 65, &["token: \"", "cannot be compared"]);
}
