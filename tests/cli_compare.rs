//! `pythia-quant compare` from checkpoint to report, on the checkpoint in `data/`.

mod common;

use common::Outcome;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A run in a folder of its own, two chunks long.
struct Run {
    dir: tempfile::TempDir,
}

impl Run {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn compare(&self, source: &Path, args: &[&str]) -> Outcome {
        let text = common::checkpoint().join("heldout.txt");
        let always = ["--chunks", "2", "-f", text.to_str().unwrap()];
        common::quant(self.dir.path(), ["compare", source.to_str().unwrap()].iter().chain(args).chain(&always))
    }

    /// The folder of converted files.
    fn cache(&self) -> PathBuf {
        let cache = self.path(".pythia-cache");
        let names = common::names(&cache);
        assert_eq!(names.len(), 1, "{names:?}");
        cache.join(&names[0])
    }

    fn report(&self, folder: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.path(folder).join("report.json")).unwrap()).unwrap()
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// What does not depend on the clock.
fn quality(report: &Value) -> Vec<Value> {
    let levels = report["levels"].as_array().unwrap().iter().cloned();
    let without_speed = levels.map(|mut level| {
        let fields = level.as_object_mut().unwrap();
        for field in ["prefill_tokens_per_second", "decode_tokens_per_second", "peak_rss_bytes"] {
            assert!(number(&fields.remove(field).unwrap()) > 0.0, "{field}");
        }
        for field in ["prefill_spread", "decode_spread"] {
            let spread = fields.remove(field).unwrap();
            assert!(number(&spread["min"]) <= number(&spread["max"]) && number(&spread["runs"]) >= 2.0, "{spread}");
        }
        fields.remove("contention");
        level
    });
    without_speed.collect()
}

#[test]
fn compares_levels_with_the_checkpoint() {
    let run = Run::new();
    let table = run.compare(&common::checkpoint(), &["-t", "q8_0,Q4_0"]).ok();
    let rows = table.lines().skip(2).take_while(|line| !line.is_empty());
    let rows: Vec<&str> = rows.map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(rows, ["F16", "Q8_0", "Q4_0"], "{table}");
    assert!(table.lines().nth(2).unwrap().starts_with("F16 (base)"), "{table}");

    let report = run.report("pythia-compare");
    assert_eq!(report["base"], "F16");
    assert_eq!(report["protocol"]["tokens_scored"], 2 * 255);
    let levels = report["levels"].as_array().unwrap();
    assert!(levels[0]["against_base"].is_null());
    let kld = |i: usize| number(&levels[i]["against_base"]["kld_mean"]["value"]);
    assert!(0.0 < kld(1) && kld(1) < 0.001 && 10.0 * kld(1) < kld(2) && kld(2) < 0.05, "{} {}", kld(1), kld(2));
    for level in levels {
        let bits = number(&level["bits_per_weight"]);
        let bytes = std::fs::metadata(run.cache().join(level["file"].as_str().unwrap())).unwrap().len();
        assert_eq!(level["file_bytes"], bytes);
        // What is not tensors is metadata: a fraction of a megabyte here.
        let tensor_bytes = bits / 8.0 * 6_836_224.0;
        assert!((0.0..600_000.0).contains(&(bytes as f64 - tensor_bytes)), "{level}");
    }
    for file in ["report.html", "report.md", "report.csv"] {
        let text = std::fs::read_to_string(run.path("pythia-compare").join(file)).unwrap();
        for level in ["F16", "Q8_0", "Q4_0"] {
            assert!(text.contains(level), "{level} is missing in {file}");
        }
    }
}

#[test]
fn results_depend_on_neither_threads_nor_cache_nor_companions() {
    let run = Run::new();
    run.compare(&common::checkpoint(), &["-t", "Q8_0,Q5_1", "-o", "a", "--threads", "1"]).ok();
    let again = run.compare(&common::checkpoint(), &["-t", "Q8_0,Q5_1", "-o", "b", "--threads", "3"]);
    assert!(again.stderr.contains("3 of 3 files are there"), "{again:?}");
    again.ok();
    run.compare(&common::checkpoint(), &["-t", "Q5_1", "-o", "c"]).ok();
    let [a, b, c] = ["a", "b", "c"].map(|folder| quality(&run.report(folder)));
    assert_eq!(a, b);
    assert_eq!([&a[0], &a[2]], [&c[0], &c[1]]);
}

#[test]
fn damaged_cache_files_are_made_again() {
    let run = Run::new();
    run.compare(&common::checkpoint(), &["-t", "Q4_1", "-o", "a"]).ok();
    let folder = run.cache();
    let file = folder.join("pythia-docs-6m-Q4_1.gguf");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let again = run.compare(&common::checkpoint(), &["-t", "Q4_1", "-o", "b"]);
    assert!(again.stderr.contains("1 of 2 files are there"), "{again:?}");
    again.ok();
    assert!(std::fs::read(&file).unwrap() == whole, "the file is whole again");
}

#[test]
fn gguf_files_are_levels_too() {
    let run = Run::new();
    run.compare(&common::checkpoint(), &["-t", "Q8_0", "-o", "a"]).ok();
    let folder = run.cache();
    let (base, level) = (folder.join("pythia-docs-6m-F16.gguf"), folder.join("pythia-docs-6m-Q8_0.gguf"));
    let copy = run.path("copy.gguf");
    std::fs::copy(&base, &copy).unwrap();
    let json = run.compare(&base, &[level.to_str().unwrap(), copy.to_str().unwrap(), "-o", "b", "--json"]).ok();
    let printed: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(printed, run.report("b"));
    let (a, b) = (quality(&run.report("a")), quality(&printed));
    assert_eq!(a[..], b[..2], "the same files, the same numbers");
    // A second file of a level goes by its own name; the same weights are exactly as good.
    assert_eq!(b[2]["name"], "copy");
    assert_eq!(b[2]["against_base"]["kld_max"], 0.0);
    assert_eq!(b[2]["against_base"]["same_top"]["value"], 1.0);
}

#[test]
fn bad_requests_are_one_line_and_leave_nothing() {
    let run = Run::new();
    std::fs::write(run.path("broken.gguf"), "GGUF and then nothing").unwrap();
    let (source, broken) = (common::checkpoint(), Path::new("broken.gguf"));
    let cases: [(&Path, &[&str], i32, &str); 9] = [
        (&source, &["-t", "Q9_9"], 2, "Q9_9"),
        (&source, &["--activations", "f64"], 2, "f64"),
        (&source, &["-t", "F16"], 2, "only the base"),
        (&source, &["-t", "Q8_0", "-c", "3"], 2, "window"),
        (&source, &["-t", "Q8_0", "-c", "513"], 2, "wanted at most 512"),
        (&source, &["-t", "Q8_0", "--threads", "1025"], 2, "1025"),
        (Path::new("nowhere"), &[], 74, "nowhere"),
        (broken, &["broken.gguf"], 65, "broken.gguf"),
        (broken, &["-t", "Q8_0"], 2, "--type"),
    ];
    for (source, args, code, part) in cases {
        run.compare(source, args).fails("pythia-quant", code, &[part]);
        assert_eq!(common::names(run.dir.path()), ["broken.gguf"], "{args:?}");
    }
}

/// Before anything is converted.
#[test]
fn unsuitable_inputs_are_found_first() {
    let run = Run::new();
    let compare = |source: &str, text: &str, more: &[&str]| {
        let args = ["compare", source, "-t", "Q8_0", "-f", text];
        common::quant(run.dir.path(), args.iter().chain(more))
    };
    let source = common::checkpoint();
    let source = source.to_str().unwrap();
    std::fs::write(run.path("short.txt"), "too short\n").unwrap();
    compare(source, "short.txt", &[]).fails("pythia-quant", 65, &["short.txt", "needs at least 1024"]);
    compare(source, "short.txt", &["short.txt"]).fails("pythia-quant", 65, &["short.txt", "GGUF"]);
    compare(source, ".", &[]).fails("pythia-quant", 74, &["not a regular file"]);

    std::fs::create_dir(run.path("mute")).unwrap();
    for file in common::names(source.as_ref()) {
        if !file.starts_with("tokenizer") {
            std::fs::copy(Path::new(source).join(&file), run.path("mute").join(file)).unwrap();
        }
    }
    compare("mute", "short.txt", &[]).fails("pythia-quant", 65, &["mute", "no tokenizer.json"]);

    // A report never replaces what it is made from.
    std::fs::create_dir(run.path("out")).unwrap();
    std::fs::rename(run.path("short.txt"), run.path("out/report.md")).unwrap();
    let replacing = compare(source, "out/report.md", &["-o", "out", "--force"]);
    replacing.fails("pythia-quant", 2, &["report.md", "would replace the input"]);
    assert_eq!(common::names(run.dir.path()), ["mute", "out"], "no cache");
}

#[test]
fn a_report_is_replaced_only_on_request() {
    let run = Run::new();
    let args = ["-t", "Q8_0"];
    run.compare(&common::checkpoint(), &args).ok();
    let before = std::fs::read(run.path("pythia-compare/report.json")).unwrap();
    let refused = run.compare(&common::checkpoint(), &args);
    refused.fails("pythia-quant", 2, &["report.json: already exists", "--force"]);
    assert_eq!(std::fs::read(run.path("pythia-compare/report.json")).unwrap(), before);
    run.compare(&common::checkpoint(), &["-t", "Q8_0", "--force"]).ok();
    assert_ne!(std::fs::read(run.path("pythia-compare/report.json")).unwrap(), before, "speeds differ from run to run");
}
