//! `pythia-run bench` on the checkpoint in `data/`.

use crate::common;
use serde_json::Value;
use std::path::Path;

/// A folder with a GGUF file, `m.gguf`.
fn model() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(common::gguf("Q4_0"), dir.path().join("m.gguf")).unwrap();
    dir
}

fn bench(folder: &Path, args: &[&str]) -> common::Outcome {
    common::run_model(folder, ["bench", "-m", "m.gguf"].iter().chain(args))
}

#[test]
fn measures_what_was_asked_for() {
    let dir = model();
    let args = ["-p", "16,0,32", "-n", "4", "-r", "2", "-t", "1,2", "-o", "json"];
    let results: Value = serde_json::from_str(&bench(dir.path(), &args).ok()).unwrap();
    let results = results.as_array().unwrap();
    let tests: Vec<(u64, u64, u64)> =
        results.iter().map(|r| ["n_threads", "n_prompt", "n_gen"].map(|key| r[key].as_u64().unwrap()).into()).collect();
    assert_eq!(tests, [(1, 16, 0), (1, 32, 0), (1, 0, 4), (2, 16, 0), (2, 32, 0), (2, 0, 4)]);
    for result in results {
        assert_eq!(result["model_n_params"], 6_836_224);
        assert_eq!(result["model_type"], "gptneox 7M Q4_0");
        let samples: Vec<f64> = result["samples_ts"].as_array().unwrap().iter().map(|s| s.as_f64().unwrap()).collect();
        assert_eq!(samples.len(), 2);
        let mean = result["avg_ts"].as_f64().unwrap();
        assert!((mean - (samples[0] + samples[1]) / 2.0).abs() < 1e-6 * mean, "{result}");
        let (reached, limit) = (result["pythia_reached"].as_f64().unwrap(), result["pythia_limit"].as_f64().unwrap());
        let percent = result["pythia_percent_of_limit"].as_f64().unwrap();
        assert!(reached > 0.0 && limit > 0.0 && (percent - 100.0 * reached / limit).abs() < 1e-9 * percent, "{result}");
    }
}

#[test]
fn prints_a_table_by_default() {
    let dir = model();
    let outcome = bench(dir.path(), &["-p", "8", "-n", "2", "-r", "1"]);
    assert!(outcome.stderr.contains("limits, threads") && outcome.stderr.contains(" GB/s, int8 "), "{outcome:?}");
    let table = outcome.ok();
    assert!(table.contains("| pp8 ") && table.contains("| tg2 "), "{table}");
}

#[test]
fn a_file_needs_no_option_and_json_has_one() {
    let dir = model();
    let common = ["-p", "8", "-n", "0", "-r", "1", "-t", "1"];
    let line = ["bench", "m.gguf", "--json"];
    let results: Value = serde_json::from_str(&common::run_model(dir.path(), line.iter().chain(&common)).ok()).unwrap();
    assert_eq!(results[0]["n_prompt"], 8);
    assert_eq!(results[0]["use_mmap"], true);
    // Tokens of quantized weights are measured from the copy that `generate` would make.
    let copies = cfg!(target_arch = "x86_64");
    for (options, use_mmap) in [(&["--no-mmap"][..], false), (&["-n", "1"], !copies), (&["-n", "1", "--mmap"], true)] {
        let line = ["bench", "m.gguf", "--json", "-p", "8", "-r", "1", "-t", "1"];
        let results = common::run_model(dir.path(), line.iter().chain(options)).ok();
        let results: Value = serde_json::from_str(&results).unwrap();
        assert_eq!(results[0]["use_mmap"], use_mmap, "{options:?}");
    }
    let both = ["bench", "m.gguf", "-m", "m.gguf"];
    common::run_model(dir.path(), both).fails("pythia-run", 2, &["cannot be used with"]);
}

#[test]
fn impossible_tests_are_refused() {
    let dir = model();
    for (args, part) in [
        (&["-p", "0", "-n", "0"][..], "nothing to measure"),
        (&["-r", "0"], "nothing to measure"),
        (&["-p", "513"], "pp513 does not fit the model's context of 512"),
        (&["-p", "x"], "'x'"),
    ] {
        bench(dir.path(), args).fails("pythia-run", 2, &[part]);
    }
    common::run_model(dir.path(), ["bench", "-m", "none.gguf"]).fails("pythia-run", 74, &["none.gguf"]);
}
