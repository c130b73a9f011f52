//! Small machines: what fits, limits of memory, and the processors that a process may use.

use crate::common::{Outcome, PYTHIA_RUN, checkpoint, gguf, run_model};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

fn run(args: &[&str]) -> Outcome {
    run_model(Path::new("."), args)
}

fn json(outcome: Outcome) -> Value {
    serde_json::from_str(&outcome.ok()).unwrap()
}

#[test]
fn fit_estimates_every_size_from_what_it_measured() {
    let fit = json(run(&["info", "--fit", "--json"]));
    let limit = |name: &str| fit["limits"][name].as_f64().unwrap();
    let bandwidth = limit("gigabytes_per_second");
    // What docs/edge.md says of floats and of quantized weights.
    let [floats, quantized] = [0.2 * limit("f32_gigaops_per_second"), 0.038 * limit("int8_gigaops_per_second")];
    let estimates = fit["estimates"].as_array().unwrap();
    assert!(bandwidth > 0.0 && fit["memory_bytes"].as_u64() > Some(0));
    assert_eq!(estimates.len(), 40);
    for e in estimates.iter().filter(|e| e["fits"] == "yes") {
        // No weight is read more than once per token, and all but the embedding table are read.
        let (rate, file) = (e["generated_tokens_per_second"].as_f64().unwrap(), e["file_bytes"].as_f64().unwrap());
        let multiplied = if e["level"] == "F16" { floats } else { quantized };
        let passes = rate * file / 1e9 * (1.0 / bandwidth + 1.0 / multiplied);
        assert!(e["model"] == "14m" || e["model"] == "31m" || (1.0..2.3).contains(&passes), "{e}");
        assert!(e["prompt_tokens_per_second"].as_f64() > Some(rate), "{e}");
    }
    assert_eq!((&estimates[8]["model"], &estimates[8]["level"]), (&"70m".into(), &"Q4_0".into()));
}

#[test]
fn fit_of_a_file_and_as_a_table() {
    let model = gguf("Q8_0");
    let model = model.to_str().unwrap();
    let fit = json(run(&["info", model, "--fit", "--json", "-t", "1"]));
    let [estimate] = &fit["estimates"].as_array().unwrap()[..] else { panic!("{fit}") };
    assert_eq!((&estimate["level"], &estimate["context_tokens"]), (&"Q8_0".into(), &512.into()));
    assert_eq!((&estimate["model"], &fit["machine"]["threads"]), (&model.into(), &1.into()));
    let bytes = std::fs::metadata(model).unwrap().len();
    assert_eq!(estimate["file_bytes"], bytes);
    let text = run(&["info", "-m", model, "--fit", "-t", "1"]).ok();
    assert!(text.contains("Speeds are estimates") && text.contains("memory "), "{text}");
    run(&["info"]).fails("pythia-run", 2, &["MODEL"]);
    run(&["info", "--fit", "--activations", "f32"]).fails("pythia-run", 2, &["--fit", "--activations"]);
    run(&["info", "--fit", "--no-mmap"]).fails("pythia-run", 2, &["--no-mmap", "info runs nothing"]);
    run(&["info", model, "--max-memory", "1G"]).fails("pythia-run", 2, &["--max-memory", "info runs nothing"]);
}

/// The cache of the shipped model takes 6144 bytes per token.
#[test]
fn a_limit_of_memory_is_kept_before_anything_is_allocated() {
    let model = gguf("Q8_0");
    let model = model.to_str().unwrap();
    let heldout = checkpoint().join("heldout.txt");
    let heldout = heldout.to_str().unwrap();
    let generate = ["generate", model, "-p", "The borrow checker", "-n", "8", "-q", "--max-memory"];
    let free = run(&generate[..7]).ok();
    assert_eq!(run(&[&generate[..], &["4M"]].concat()).ok(), free);
    let refused = run(&[&generate[..], &["50k"]].concat());
    refused.fails("pythia-run", 2, &["1 x 12 positions", "batches of 4 tokens", "wanted at most 50.0 kB"]);
    let perplexity = ["perplexity", model, "-f", heldout, "-c", "256", "--chunks", "1", "-q", "--max-memory"];
    run(&[&perplexity[..], &["1.5M"]].concat()).fails("pythia-run", 2, &["256 positions", "wanted at most 1.5 MB"]);
    run(&[&perplexity[..], &["64MiB"]].concat()).ok();
    let copied = run(&[&generate[..], &["64M", "--no-mmap"]].concat());
    assert_eq!(copied.ok(), free, "the same text from a copy");
    let refused = run(&[&generate[..], &["4M", "--no-mmap"]].concat());
    refused.fails("pythia-run", 2, &["a copy of the weights takes ", "wanted at most 4.0 MB"]);
    run(&[&generate[..], &["lots"]].concat()).fails("pythia-run", 2, &["--max-memory", "'lots'", "such as 4G"]);
}

/// Only where many tokens are generated, and nothing forbids it.
#[test]
fn generate_says_where_the_weights_are() {
    let model = gguf("Q8_0");
    let weights = |options: &[&str]| {
        let line = [&["generate", model.to_str().unwrap(), "-p", "The", "--json"], options].concat();
        json(run(&line))["run"]["weights"].as_str().unwrap().to_owned()
    };
    let copied = if cfg!(all(target_arch = "x86_64", target_os = "linux")) { "copied" } else { "mapped" };
    for (options, wanted) in [
        (&["-n", "63"][..], "mapped"),
        (&["-n", "64"], copied),
        (&["-n", "64", "-c", "40"], "mapped"),
        (&["-n", "64", "--mmap"], "mapped"),
        (&["-n", "64", "--max-memory", "64M"], "mapped"),
        (&["-n", "64", "--activations", "f32"], "mapped"),
        (&["-n", "1", "--no-mmap"], "copied"),
        (&["-n", "1", "--mmap", "--no-mmap"], "copied"),
        (&["-n", "64", "--no-mmap", "--mmap", "--mmap"], "mapped"),
    ] {
        let found = weights(options);
        assert_eq!(found, wanted, "{options:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn threads_are_as_many_as_the_affinity_allows() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
    let first = list.split([',', '-']).next().unwrap();
    let model = gguf("Q8_0");
    let info = Command::new("taskset").args(["-c", first, PYTHIA_RUN, "info", "--json"]).arg(&model).output().unwrap();
    let info = json(info.into());
    assert_eq!((&info["threads"], &info["processors"], &info["cores"]), (&1.into(), &1.into(), &1.into()));
}
