//! `pythia-quant compare` from checkpoint to report, on the checkpoint in `data/`.

use crate::common::{self, Outcome, PYTHIA_QUANT};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Where the runs keep what they make.
const CACHE: &str = ".pythia-cache";

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
        let always = ["--chunks", "2", "-f", text.to_str().unwrap(), "--cache", CACHE];
        common::quant(self.dir.path(), ["compare", source.to_str().unwrap()].iter().chain(args).chain(&always))
    }

    /// Makes the levels once and returns the folder that they are in.
    fn made(&self, levels: &str) -> PathBuf {
        self.compare(&common::checkpoint(), &["-t", levels, "-o", "made"]).ok();
        self.cache()
    }

    /// The folder of converted files.
    fn cache(&self) -> PathBuf {
        let cache = self.path(CACHE);
        let names = common::names(&cache);
        assert_eq!(names.len(), 1, "{names:?}");
        cache.join(&names[0])
    }

    fn report(&self, folder: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.path(folder).join("report.json")).unwrap()).unwrap()
    }
}

fn sha256(path: &Path) -> String {
    use sha2::{Digest, Sha256};
    pythia_text::hex(&Sha256::digest(std::fs::read(path).unwrap()))
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
    let rows: Vec<&str> = table.lines().skip_while(|line| !line.starts_with("---")).skip(1).take(3).collect();
    let names: Vec<&str> = rows.iter().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(names, ["F16", "Q8_0", "Q4_0"], "{table}");
    assert!(rows[0].starts_with("F16 (base)"), "{table}");

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
fn the_answer_is_on_top_and_in_the_report() {
    let run = Run::new();
    let args = ["-t", "Q8_0,Q6_K,Q4_0,Q2_K", "--fit", "38M,1GiB,1k"];
    let text = run.compare(&common::checkpoint(), &args).ok();
    let answer = &run.report("pythia-compare")["answer"];
    let sentences: Vec<&str> = answer["sentences"].as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect();
    assert!(text.starts_with(&format!("{}\n\nlevel", sentences.join("\n"))), "{text}");
    for (file, table) in [("report.html", "<table"), ("report.md", "| level")] {
        let page = std::fs::read_to_string(run.path("pythia-compare").join(file)).unwrap();
        let fit = sentences.last().unwrap();
        assert!(page.find(fit).unwrap() < page.find(table).unwrap(), "'{fit}' is not on top of {file}");
    }
    // Q2_K is far above the others, of which each surely is within a percent or may be.
    let good = answer["good_enough"]["level"].as_str().unwrap();
    assert!(["Q8_0", "Q6_K", "Q4_0"].contains(&good), "{answer}");
    let fits = answer["fits"].as_array().unwrap();
    let levels: Vec<&Value> = fits.iter().map(|fit| &fit["level"]).collect();
    assert_eq!(levels[1..], [&Value::from("F16"), &Value::Null], "{answer}");
    // What is computed beforehand is near what is measured: file pages, cache and buffers of 512 tokens.
    for level in run.report("pythia-compare")["levels"].as_array().unwrap() {
        let computed = number(&level["file_bytes"]) + number(&level["memory"]["context_bytes"]) + 20e6;
        let measured = number(&level["peak_rss_bytes"]);
        assert!((0.5..2.0).contains(&(computed / measured)), "{computed} {measured} {level}");
    }
    run.compare(&common::checkpoint(), &["--fit", "4Q"]).fails("pythia-quant", 2, &["4Q", "4GiB"]);
}

/// Every command that prints a table, at a terminal of 80 columns.
#[test]
fn tables_fit_80_columns() {
    let run = Run::new();
    let long = format!("{}-Q4_0.gguf", "a-model-with-a-name-that-is-long".repeat(4));
    std::fs::copy(common::gguf("Q4_0"), run.path(&long)).unwrap();
    let (source, base) = (common::checkpoint(), common::gguf("F32"));
    let text = source.join("heldout.txt");
    let [source, base, text] = [&source, &base, &text].map(|path| path.to_str().unwrap());
    let commands: [(&str, &[&str], &str); 13] = [
        ("pythia-quant", &["compare", source, &long, "-t", "Q8_0", "--chunks", "2", "-f", text], "mean KLD"),
        ("pythia-quant", &["cache", "list"], "unused for"),
        ("pythia-quant", &["convert", source, "-t", "Q8_0,Q5_K_M,Q4_K_M,Q3_K_M,Q2_K", "--dry-run"], "token_embd"),
        (
            "pythia-quant",
            &[
                "convert",
                source,
                "-t",
                "Q8_0",
                "-v",
                "-o",
                "a-name-that-is-nearly-as-long-as-a-terminal-of-eighty-columns-is-wide.gguf",
            ],
            "bytes",
        ),
        ("pythia-quant", &["quantize", base, "q.gguf", "Q4_0", "-v"], "token_embd"),
        (
            "pythia-quant",
            &["dequantize", &long, "a-folder-whose-name-is-nearly-as-long-as-a-terminal-of-eighty-columns-is-wide"],
            "F32",
        ),
        ("pythia-quant", &["inspect", &long, "--tensors"], "blk.5.attn_output.weight"),
        ("pythia-quant", &["diff", base, &long, "--all"], "max |B-A|"),
        ("pythia-quant", &["verify", &long, "--against", source, "--tensors"], "relative"),
        ("pythia-quant", &["imatrix", base, "-f", text, "--chunks", "2", "-o", "i.gguf"], "top 1 % hold"),
        ("pythia-run", &["info", &long], "feed-forward"),
        ("pythia-run", &["perplexity", &long, "-f", text, "--chunks", "2"], "PPL"),
        ("pythia-run", &["bench", "-m", &long, "-p", "8", "-n", "2", "-r", "1"], "of limit"),
    ];
    for (program, args, part) in commands {
        let outcome = common::run_at(80, program, run.dir.path(), args);
        assert!(matches!(outcome.code, Some(0 | 1)), "{outcome:?}");
        assert!(outcome.stdout.contains(part), "{args:?}: no '{part}' in {}", outcome.stdout);
        let longest = outcome.stdout.lines().max_by_key(|line| line.chars().count()).unwrap();
        assert!(longest.chars().count() <= 80, "{args:?}: {longest}");
    }
    // In a pipe columns are chosen as at 80, but nothing is shortened; what is asked for in full is given in full.
    let piped = common::run_model(run.dir.path(), ["info", &long]).ok();
    assert!(piped.contains(&long), "{piped}");
    let bench = ["bench", "-m", &long, "-p", "8", "-n", "0", "-r", "1"];
    let some = common::run_model(run.dir.path(), bench).ok();
    assert!(!some.contains("median t/s |") && some.contains("`-o md` has them"), "{some}");
    let all = common::run_model(run.dir.path(), bench.iter().chain(&["-o", "md"])).ok();
    assert!(all.contains("median t/s |"), "{all}");
}

#[test]
fn results_depend_on_neither_threads_nor_cache_nor_companions() {
    let run = Run::new();
    run.compare(&common::checkpoint(), &["-t", "Q8_0,Q5_1", "-o", "a", "--threads", "1"]).ok();
    let again = run.compare(&common::checkpoint(), &["-t", "Q8_0,Q5_1", "-o", "b", "--threads", "3", "--fresh"]);
    assert!(again.stderr.contains("3 of 3 files are there"), "{again:?}");
    again.ok();
    run.compare(&common::checkpoint(), &["-t", "Q5_1", "-o", "c", "--fresh"]).ok();
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
    // By size: the copy stands behind the base.
    assert_eq!([&a[0], &a[1]], [&b[0], &b[2]], "the same files, the same numbers");
    // A second file of a level goes by its own name; the same weights are exactly as good.
    assert_eq!(b[1]["name"], "copy");
    assert_eq!(b[1]["against_base"]["kld_max"], 0.0);
    assert_eq!(b[1]["against_base"]["same_top"]["value"], 1.0);
}

/// Compared with `convert --imatrix`, whose bytes are tested against llama.cpp.
#[test]
fn levels_are_made_with_an_importance_matrix() {
    let run = Run::new();
    let f32 = common::gguf("F32");
    let text = common::checkpoint().join("heldout.txt");
    let collect = ["imatrix", f32.to_str().unwrap(), "-f", text.to_str().unwrap(), "--chunks", "2"];
    common::quant(run.dir.path(), collect).ok();
    run.compare(&common::checkpoint(), &["-t", "Q8_0,Q4_0,Q2_K", "-o", "plain"]).ok();
    let with = ["-t", "Q8_0,Q4_0,IQ2_S", "--imatrix", "imatrix.gguf", "-o", "with"];
    let table = run.compare(&common::checkpoint(), &with).ok();
    assert!(table.contains("Q4_0 imatrix") && !table.contains("Q8_0 imatrix"), "{table}");

    let report = run.report("with");
    let level = |name: &str| {
        let levels = report["levels"].as_array().unwrap();
        levels.iter().find(|level| level["name"] == name).unwrap_or_else(|| panic!("{name} in {report}")).clone()
    };
    assert!(level("Q8_0")["imatrix"].is_null());
    let digest = sha256(&run.path("imatrix.gguf"));
    assert_eq!(level("IQ2_S imatrix")["imatrix"]["sha256"], digest);
    assert_eq!(level("Q4_0 imatrix")["imatrix"]["dataset"], "heldout.txt");

    let convert = ["-t", "Q4_0", "--imatrix", "imatrix.gguf", "-o", "converted.gguf"];
    let source = common::checkpoint();
    common::quant(run.dir.path(), ["convert", source.to_str().unwrap()].iter().chain(&convert)).ok();
    let made = run.cache().join(format!("pythia-docs-6m-Q4_0-imatrix-{}.gguf", &digest[..8]));
    assert!(std::fs::read(&made).unwrap() == std::fs::read(run.path("converted.gguf")).unwrap());
    let plain = run.report("plain")["levels"][2].clone();
    assert_eq!(plain["name"], "Q4_0");
    let kld = |level: &Value| number(&level["against_base"]["kld_mean"]["value"]);
    assert!(kld(&level("Q4_0 imatrix")) < kld(&plain), "importance helps on the text it was collected on");
}

#[test]
fn levels_are_made_from_a_gguf_file() {
    let run = Run::new();
    let made = run.made("Q8_0,Q4_0");
    let base = run.path("base-F16.gguf");
    std::fs::copy(made.join("pythia-docs-6m-F16.gguf"), &base).unwrap();
    run.compare(&base, &["-t", "F16,Q8_0,Q4_0", "-o", "gguf"]).ok();
    let [from_checkpoint, from_file] = ["made", "gguf"].map(|folder| {
        let levels = quality(&run.report(folder)).into_iter();
        levels.map(|level| (level["perplexity"].clone(), level["against_base"].clone())).collect::<Vec<_>>()
    });
    assert_eq!(from_checkpoint, from_file);
    let names = common::names(&run.path(CACHE));
    let own = names.iter().find(|name| name.starts_with("base-")).expect("a folder for the file");
    let [a, b] = [made.join("pythia-docs-6m-Q4_0.gguf"), run.path(CACHE).join(own).join("base-Q4_0.gguf")];
    common::quant(run.dir.path(), ["diff".as_ref(), a.as_os_str(), b.as_os_str()]).ok();

    let quantized = made.join("pythia-docs-6m-Q8_0.gguf");
    let refused = run.compare(&quantized, &["-t", "Q4_0", "-o", "no"]);
    refused.fails("pythia-quant", 2, &["quantized already", "--allow-requantize"]);
    run.compare(&quantized, &["-o", "no"]).fails("pythia-quant", 2, &["only the base"]);
    run.compare(&quantized, &["-t", "Q4_0", "-o", "twice", "--allow-requantize"]).ok();
    assert_eq!(run.report("twice")["levels"][1]["requantized"][0], "Q8_0");
    assert_eq!(run.report("twice")["base"], "Q8_0");
}

#[test]
fn a_log_says_what_is_done_unless_quiet() {
    let run = Run::new();
    let loud = run.compare(&common::checkpoint(), &["-t", "Q8_0", "-o", "a"]);
    for line in ["level 1 of 2: F16", "level 2 of 2: Q8_0", "files, ", "report: a/report.json"] {
        assert!(loud.stderr.contains(line), "no '{line}' in {loud:?}");
    }
    let quiet = run.compare(&common::checkpoint(), &["-t", "Q8_0", "-o", "b", "-q"]);
    assert_eq!(quiet.stderr, "");
    assert!(quiet.ok().contains("Q8_0"));
}

/// Whether a run has converted the files or found them there.
#[test]
fn peak_memory_does_not_depend_on_what_the_run_did_before() {
    let run = Run::new();
    let levels = ["-t", "Q8_0,Q4_0", "--threads", "2"];
    for folder in ["a", "b"] {
        run.compare(&common::checkpoint(), &[&levels[..], &["-o", folder]].concat()).ok();
    }
    let [a, b] = ["a", "b"].map(|folder| run.report(folder));
    assert_eq!(a["process_per_level"], true);
    for (a, b) in a["levels"].as_array().unwrap().iter().zip(b["levels"].as_array().unwrap()) {
        let ratio = number(&a["peak_rss_bytes"]) / number(&b["peak_rss_bytes"]);
        assert!((0.95..1.05).contains(&ratio), "{a} {b}");
    }
}

#[test]
fn reports_say_what_they_were_made_from() {
    let run = Run::new();
    let text = common::checkpoint().join("heldout.txt");
    run.compare(&common::checkpoint(), &["-t", "Q8_0"]).ok();
    let report = run.report("pythia-compare");
    assert_eq!(report["format"], "pythia-compare/2");
    assert_eq!(report["protocol"]["text_sha256"], sha256(&text));
    let provenance = &report["provenance"];
    assert!(provenance["program"].as_str().unwrap().starts_with("pythia-quant "), "{provenance}");
    assert_eq!(provenance["origin"]["name"], "pythia-docs-6m");
    assert_eq!(provenance["command"][1], "compare");
    for level in report["levels"].as_array().unwrap() {
        let file = run.cache().join(level["file"].as_str().unwrap());
        assert_eq!(level["files"][0]["sha256"], sha256(&file));
    }
    // The date is the only thing that depends on time.
    let mut command = std::process::Command::new(PYTHIA_QUANT);
    command.args(["compare", common::checkpoint().to_str().unwrap(), "-f", text.to_str().unwrap(), "-t", "Q8_0"]);
    command.args(["--chunks", "2", "-o", "dated", "--cache", CACHE, "-q"]).current_dir(run.dir.path());
    assert!(command.env("SOURCE_DATE_EPOCH", "86400").output().unwrap().status.success());
    assert_eq!(run.report("dated")["provenance"]["date"], "1970-01-02T00:00:00Z");
}

#[test]
fn the_cache_is_listed_and_cleared() {
    let run = Run::new();
    run.made("Q8_0");
    let cache = |args: &[&str]| common::quant(run.dir.path(), ["cache"].iter().chain(args).chain(&["--cache", CACHE]));
    let list = cache(&["list"]).ok();
    assert!(list.contains("pythia-docs-6m-") && list.contains(": 1 model, "), "{list}");
    let listed: Value = serde_json::from_str(&cache(&["list", "--json"]).ok()).unwrap();
    let bytes: u64 =
        common::names(&run.cache()).iter().map(|name| std::fs::metadata(run.cache().join(name)).unwrap().len()).sum();
    assert_eq!(listed["bytes"], bytes);

    cache(&["clear", "other"]).fails("pythia-quant", 2, &["other", "no such model"]);
    assert!(cache(&["clear", "--older-than", "1"]).ok().contains("removed 0 B in all"));
    let before = common::names(&run.cache());
    assert!(cache(&["clear", "--dry-run"]).ok().contains("would remove"));
    assert_eq!(common::names(&run.cache()), before);
    assert!(cache(&["clear", "pythia-docs-6m"]).ok().contains("removed"));
    assert_eq!(common::names(&run.path(CACHE)), [""; 0]);
    assert!(cache(&["list"]).ok().contains("0 models"));
}

#[test]
fn what_was_scored_is_not_scored_again() {
    let run = Run::new();
    run.made("Q8_0,Q4_0");
    // The model's context is the default.
    let again = run.compare(&common::checkpoint(), &["-t", "Q8_0,Q4_0", "-o", "again", "-c", "0"]);
    assert!(again.stderr.contains("chunks 1 to 2 were scored by an earlier run"), "{again:?}");
    again.ok();
    assert_eq!(quality(&run.report("made")), quality(&run.report("again")));
    let other = run.compare(&common::checkpoint(), &["-t", "Q8_0,Q4_0", "-o", "other", "--gelu", "tanh"]);
    assert!(!other.stderr.contains("earlier run"), "{other:?}");
    other.ok();
    assert_ne!(quality(&run.report("made")), quality(&run.report("other")));
}

/// Stopped while it scores, then run again: the report is that of a run which nothing has stopped.
#[cfg(unix)]
#[test]
fn a_stopped_comparison_goes_on_where_it_was() {
    use std::process::{Command, Stdio};
    let run = Run::new();
    let (source, text) = (common::checkpoint(), common::checkpoint().join("heldout.txt"));
    let command = |folder: &str, cache: &str| {
        let mut command = Command::new(PYTHIA_QUANT);
        command.args(["compare", source.to_str().unwrap(), "-f", text.to_str().unwrap(), "-t", "Q8_0,Q4_0"]);
        command.args(["--chunks", "40", "-c", "256", "-o", folder, "--cache", cache]).current_dir(run.dir.path());
        // One thread, so that it is slow enough to be caught in the middle also where there are many.
        command.args(["--threads", "1"]);
        command.stdout(Stdio::null());
        command
    };
    let mut child = command("stopped", CACHE).stderr(Stdio::null()).spawn().unwrap();
    let scored = || {
        let names = common::names(&run.cache());
        let journals = names.iter().filter(|name| name.ends_with(".rows"));
        journals.map(|name| std::fs::metadata(run.cache().join(name)).map_or(0, |file| file.len())).max().unwrap_or(0)
    };
    // Three windows of 127 scores.
    while !run.path(CACHE).exists() || common::names(&run.path(CACHE)).is_empty() || scored() < 3 * 127 * 17 {
        assert!(child.try_wait().unwrap().is_none(), "it should be stopped before it ends");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let interrupt = Command::new("kill").arg("-INT").arg(child.id().to_string()).status();
    assert!(interrupt.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!run.path("stopped").exists(), "no report of half a run");

    let resumed = command("resumed", CACHE).output().unwrap();
    let said = String::from_utf8_lossy(&resumed.stderr);
    assert!(resumed.status.success() && said.contains("were scored by an earlier run"), "{said}");
    assert!(said.contains("level 3 of 3: Q4_0: measured by an earlier run"), "{said}");
    assert!(said.contains("speeds of 3 of 3 files were measured by an earlier run that was stopped"), "{said}");
    assert!(command("whole", "other-cache").stderr(Stdio::null()).status().unwrap().success());
    assert_eq!(quality(&run.report("resumed")), quality(&run.report("whole")));
    assert_eq!(run.report("resumed")["protocol"], run.report("whole")["protocol"]);
}

/// While one comparison is held up in the middle of its scores, another of the same files runs.
#[cfg(unix)]
#[test]
fn of_two_comparisons_at_once_the_first_keeps_its_scores() {
    use std::process::{Command, Stdio};
    const WINDOW: u64 = 127 * 17;
    const WINDOWS: u64 = 30;
    let run = Run::new();
    let (source, text) = (common::checkpoint(), common::checkpoint().join("heldout.txt"));
    let scored = || {
        if !run.path(CACHE).exists() || common::names(&run.path(CACHE)).is_empty() {
            return 0;
        }
        let cache = run.cache();
        let names = common::names(&cache);
        let journals = names.iter().filter(|name| name.ends_with(".rows"));
        journals.map(|name| std::fs::metadata(cache.join(name)).map_or(0, |file| file.len())).max().unwrap_or(0)
    };
    let command = |folder: &str| {
        let mut command = Command::new(PYTHIA_QUANT);
        command.args(["compare", source.to_str().unwrap(), "-f", text.to_str().unwrap(), "-t", "Q4_0"]);
        command.args(["--chunks", &WINDOWS.to_string(), "-c", "256", "-o", folder, "--cache", CACHE, "--threads", "1"]);
        command.current_dir(run.dir.path()).stdout(Stdio::null());
        command
    };
    // A quick machine may be done with all scores before it is held up.
    let held_up = || {
        let _ = std::fs::remove_dir_all(run.path(CACHE));
        let mut first = common::Held::spawn(command("first").stderr(Stdio::null()));
        while scored() < 3 * WINDOW && !first.has_ended() {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let kept = if first.stop() { scored() } else { u64::MAX };
        (kept < WINDOWS * WINDOW).then_some((first, kept))
    };
    let (first, kept) = (0..20).find_map(|_| held_up()).expect("one that is held up in the middle");
    let second = command("second").output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(second.status.success() && said.contains("another run keeps the scores"), "{said}");
    assert_eq!(scored(), kept, "nobody else writes there");
    assert!(first.goes_on().wait().unwrap().success());
    assert_eq!(quality(&run.report("first")), quality(&run.report("second")));
    assert!(scored() > kept);
}

#[test]
fn bad_requests_are_one_line_and_leave_nothing() {
    let run = Run::new();
    std::fs::write(run.path("broken.gguf"), "GGUF and then nothing").unwrap();
    let (source, broken) = (common::checkpoint(), Path::new("broken.gguf"));
    let cases: [(&Path, &[&str], i32, &str); 12] = [
        (&source, &["-t", "Q9_9"], 2, "Q9_9"),
        (&source, &["--activations", "f64"], 2, "f64"),
        (&source, &["-t", "F16"], 2, "only the base"),
        (&source, &["-t", "Q8_0", "-c", "3"], 2, "window"),
        (&source, &["-t", "Q8_0", "-c", "513"], 2, "wanted at most 512"),
        (&source, &["-t", "Q8_0", "--threads", "1025"], 2, "1025"),
        (Path::new("nowhere"), &[], 74, "nowhere"),
        (broken, &["broken.gguf"], 65, "broken.gguf"),
        (broken, &["-t", "Q8_0"], 65, "broken.gguf"),
        (&source, &["-t", "IQ2_S"], 2, "--imatrix"),
        (&source, &["-t", "Q8_0", "--imatrix", "broken.gguf"], 65, "broken.gguf"),
        (&source, &["-t", "Q8_0", "--imatrix", "nowhere"], 74, "nowhere"),
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
        let args = ["compare", source, "-t", "Q8_0", "--cache", CACHE, "-f", text];
        common::quant(run.dir.path(), args.iter().chain(more))
    };
    let source = common::checkpoint();
    let source = source.to_str().unwrap();
    std::fs::write(run.path("short.txt"), "too short\n").unwrap();
    compare(source, "short.txt", &[]).fails("pythia-quant", 65, &["short.txt", "needs at least 1024"]);
    compare(source, "short.txt", &["short.txt"]).fails("pythia-quant", 65, &["short.txt", "GGUF"]);
    compare(source, ".", &[]).fails("pythia-quant", 74, &["a folder, wanted a text file"]);

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
