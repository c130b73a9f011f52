//! `pythia-quant diff`: what differs, by how much, and the exit code of diff(1).

use crate::common::{Outcome, file, gguf, quant};
use pythia_gguf::{Gguf, Metadata};
use pythia_tensor::TensorType;
use serde_json::Value;
use std::fs;
use std::path::Path;

const PROGRAM: &str = "pythia-quant";

fn diff(folder: &Path, a: impl AsRef<Path>, b: impl AsRef<Path>, more: &[&str]) -> Outcome {
    let [a, b] = [a.as_ref(), b.as_ref()].map(|path| path.to_str().unwrap().to_owned());
    let args = ["diff", &a, &b].map(str::to_owned);
    quant(folder, args.into_iter().chain(more.iter().map(|arg| (*arg).to_owned())))
}

/// The JSON of a comparison that ended with `code`.
fn json(outcome: Outcome, code: i32) -> Value {
    assert_eq!(outcome.code, Some(code), "{outcome:?}");
    assert_eq!(outcome.stderr, "");
    serde_json::from_str(&outcome.stdout).unwrap()
}

/// A file of f32 tensors and a few keys.
fn write(path: &Path, keys: &[(&str, u32)], tensors: &[(&str, &[u64], &[f32])]) {
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", "other");
    keys.iter().for_each(|(key, value)| metadata.insert(*key, *value));
    let entry = |(name, dims, values): &(&str, &[u64], &[f32])| {
        let data = values.iter().flat_map(|value| value.to_le_bytes());
        (((*name).to_owned(), TensorType::F32, dims.to_vec()), data.collect())
    };
    fs::write(path, file::build(&metadata, tensors.iter().map(entry))).unwrap();
}

#[test]
fn the_same_content_is_code_0_and_one_flipped_bit_is_code_1() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy.gguf");
    fs::copy(gguf("Q4_0"), &copy).unwrap();
    let same = diff(dir.path(), gguf("Q4_0"), &copy, &[]).ok();
    assert!(same.starts_with("the same: ") && same.ends_with(" 76 tensors\n") && !same.contains("blk."), "{same}");
    assert_eq!(diff(dir.path(), gguf("Q4_0"), &copy, &["-q"]).ok(), "");
    assert!(diff(dir.path(), gguf("Q4_0"), &copy, &["--all"]).ok().contains("blk.3.ffn_up.bias"));

    let mut bytes = fs::read(&copy).unwrap();
    let tensor = Gguf::parse(&bytes).unwrap().tensor("blk.2.ffn_up.weight").unwrap().clone();
    // The sign of one weight's code: its value moves by eight times the scale of its block.
    bytes[tensor.offset as usize + 18 * 1000 + 2] ^= 0x08;
    fs::write(&copy, &bytes).unwrap();
    let report = json(diff(dir.path(), gguf("Q4_0"), &copy, &["--json"]), 1);
    assert_eq!((report["same"].as_bool(), report["tensors_different"].as_u64()), (Some(false), Some(1)));
    let row = &report["tensors"][0];
    assert_eq!(row["name"], "blk.2.ffn_up.weight");
    let scale =
        half::f16::from_le_bytes([bytes[tensor.offset as usize + 18_000], bytes[tensor.offset as usize + 18_001]]);
    let moved = f64::from(scale.to_f32().abs()) * 8.0;
    let rms = moved / (tensor.n_elems() as f64).sqrt();
    assert!((row["max_abs"].as_f64().unwrap() - moved).abs() < 1e-9, "{row}");
    assert!((row["rms"].as_f64().unwrap() - rms).abs() < 1e-9, "{row}");
    assert_eq!(diff(dir.path(), gguf("Q4_0"), &copy, &["-q"]).code, Some(1));
}

#[test]
fn levels_differ_in_the_matrices_by_what_rounding_costs() {
    let dir = tempfile::tempdir().unwrap();
    let report = json(diff(dir.path(), gguf("F32"), gguf("Q8_0"), &["--json"]), 1);
    // 24 matrices of the blocks and two of the vocabulary; norms and biases are F32 in both.
    assert_eq!((report["tensors_different"].as_u64(), report["tensors_total"].as_u64()), (Some(26), Some(76)));
    for row in report["tensors"].as_array().unwrap() {
        assert_eq!((&row["a"]["type"], &row["b"]["type"]), (&"F32".into(), &"Q8_0".into()));
        let relative = row["relative_rms"].as_f64().unwrap();
        assert!((0.002..0.01).contains(&relative), "{row}");
    }
    let keys: Vec<&str> = report["metadata"].as_array().unwrap().iter().map(|k| k["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["general.file_type", "general.quantization_version"]);
    let one = json(diff(dir.path(), gguf("F32"), gguf("Q8_0"), &["--json", "--threads", "1"]), 1);
    assert_eq!(one, report, "sums do not depend on threads");
    let tensors_only = json(diff(dir.path(), gguf("F32"), gguf("Q8_0"), &["--json", "--no-metadata"]), 1);
    assert_eq!((&tensors_only["keys_total"], &tensors_only["metadata"]), (&0.into(), &serde_json::json!([])));
}

#[test]
fn what_only_one_file_has_and_other_shapes_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b] = ["a.gguf", "b.gguf"].map(|name| dir.path().join(name));
    let nan = f32::NAN;
    write(&a, &[("n", 1), ("gone", 2)], &[("w", &[2, 3], &[0.0; 6]), ("x", &[2], &[1.0, nan]), ("old", &[1], &[1.0])]);
    write(&b, &[("n", 7), ("new", 2)], &[("new", &[1], &[1.0]), ("w", &[3, 2], &[0.0; 6]), ("x", &[2], &[3.0, 0.0])]);
    let outcome = diff(dir.path(), "a.gguf", "b.gguf", &[]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(1), ""));
    for part in [
        "shape 3 x 2 in A, 2 x 3 in B",
        "only in A",
        "only in B",
        "1 not finite, left out",
        "different: 3 of 4 metadata keys, 4 of 4 tensors",
    ] {
        assert!(outcome.stdout.contains(part), "no '{part}' in {}", outcome.stdout);
    }
    let report = json(diff(dir.path(), &a, &b, &["--json"]), 1);
    let key = |name: &str| {
        let keys = report["metadata"].as_array().unwrap();
        keys.iter().find(|key| key["key"] == name).map(|key| [key["a"]["value"].clone(), key["b"]["value"].clone()])
    };
    assert_eq!(key("n"), Some([1.into(), 7.into()]));
    assert_eq!(key("gone"), Some([2.into(), Value::Null]));
    assert_eq!(key("new"), Some([Value::Null, 2.into()]));
    assert_eq!(key("general.architecture"), None);
    let x = report["tensors"].as_array().unwrap().iter().find(|row| row["name"] == "x").unwrap();
    assert_eq!((&x["max_abs"], &x["not_finite"]), (&2.0.into(), &1.into()));
    assert_eq!(diff(dir.path(), &a, &a, &["-q"]).code, Some(0), "a NaN is itself");
}

#[test]
fn files_that_cannot_be_compared_are_errors_with_other_codes() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("text"), "not a model").unwrap();
    diff(dir.path(), gguf("Q4_0"), "absent.gguf", &[]).fails(PROGRAM, 74, &["absent.gguf"]);
    diff(dir.path(), "text", gguf("Q4_0"), &[]).fails(PROGRAM, 65, &["text", "GGUF"]);
    quant(dir.path(), ["diff", "one.gguf"]).fails(PROGRAM, 2, &["B.gguf"]);
}
