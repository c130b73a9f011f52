//! `pythia-quant compare --tasks`: the values are those of `pythia-run eval`, and they are in every form of the report.

use crate::common::{self, quant, run_model};
use crate::eval::datasets;
use serde_json::Value;
use std::fs;
use std::path::Path;

const TASKS: &str = "piqa,lambada_openai,wikitext,town.toml";

fn prepare(folder: &Path) {
    datasets(folder);
    fs::write(folder.join("town.toml"), "name = \"town\"\nkind = \"generate_until\"\nmax_tokens = 3\n").unwrap();
    let row = |text: &str| format!("{{\"context\": \"The function\", \"answers\": [\"{text}\"]}}\n");
    fs::write(folder.join("town.jsonl"), row("a") + &row("b")).unwrap();
}

fn compare(folder: &Path, output: &str, more: &[&str]) -> common::Outcome {
    let (source, text) = (common::checkpoint(), common::checkpoint().join("heldout.txt"));
    let [source, text] = [&source, &text].map(|path| path.to_str().unwrap());
    let always = ["compare", source, "-t", "Q8_0,Q2_K", "-f", text, "--chunks", "2", "--cache", "cache", "-o", output];
    quant(folder, always.iter().chain(more))
}

fn report(folder: &Path, output: &str) -> Value {
    serde_json::from_slice(&fs::read(folder.join(output).join("report.json")).unwrap()).unwrap()
}

#[test]
fn tasks_are_in_the_report_with_the_values_of_eval() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    prepare(folder);
    let options = ["--tasks", TASKS, "--data", "data", "--num-fewshot", "0", "--limit", "4"];
    let printed = compare(folder, "out", &options).ok();
    let report = report(folder, "out");
    let levels = report["tasks"]["levels"].as_array().unwrap();
    let names: Vec<&str> = levels.iter().map(|level| level["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["F16", "Q8_0", "Q2_K"]);

    // Every value and every difference is the one of eval, bit for bit.
    let cache = folder.join("cache").join(&common::names(&folder.join("cache"))[0]);
    let file = |level: &Value| cache.join(level["file"].as_str().unwrap()).display().to_string();
    let files: Vec<String> = report["levels"].as_array().unwrap().iter().map(file).collect();
    let models = files.iter().flat_map(|file| ["-m", file.as_str()]);
    let eval = run_model(folder, ["eval", "-q", "--json"].into_iter().chain(models).chain(options)).ok();
    let eval: Value = serde_json::from_str(&eval).unwrap();
    for (i, level) in levels.iter().enumerate() {
        let values = level["values"].as_array().unwrap();
        assert_eq!(values.len(), 2 + 2 + 3 + 1);
        for value in values {
            let task = value["task"].as_str().unwrap();
            let key = format!("{},{}", value["metric"].as_str().unwrap(), value["filter"].as_str().unwrap());
            let theirs = &eval["models"][i];
            assert_eq!(value["value"], theirs["results"][task][&key], "{task} {key}");
            assert_eq!(value["against_base"], theirs["pythia"]["paired"]["tasks"][task][&key], "{task} {key}");
            assert_eq!(value["documents"], theirs["n-samples"][task]["effective"], "{task}");
        }
    }

    let text = |name: &str| fs::read_to_string(folder.join("out").join(name)).unwrap();
    assert!(printed.contains("piqa acc") && printed.contains("- base"), "{printed}");
    let (html, markdown, csv) = (text("report.html"), text("report.md"), text("report.csv"));
    assert!(html.contains("Accuracy lost against size") && html.contains("piqa acc_norm"));
    assert!(markdown.contains("| piqa acc |") && markdown.contains("town exact_match"));
    let heads: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    let column =
        |name: &str| heads.iter().position(|head| *head == name).unwrap_or_else(|| panic!("{name}: {heads:?}"));
    let of_base: Vec<&str> = csv.lines().nth(1).unwrap().split(',').collect();
    assert_eq!(of_base[column("wikitext_word_perplexity_delta")], "", "the base has no difference");
    let value: f64 = of_base[column("wikitext_word_perplexity")].parse().unwrap();
    assert_eq!(value, levels[0]["values"][4]["value"].as_f64().unwrap());

    // Replies are kept: a run with other documents asks only for those.
    compare(folder, "again", &options).ok();
    assert_eq!(self::report(folder, "again")["tasks"], report["tasks"]);
    let chosen = ["--tasks", "piqa", "--data", "data", "--samples", "{\"piqa\": [5]}"];
    compare(folder, "chosen", &chosen).ok();
    assert_eq!(self::report(folder, "chosen")["tasks"]["levels"][2]["values"][0]["documents"], 1);
}

#[test]
fn wrong_tasks_are_refused_before_anything_is_converted() {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path());
    for (options, code, part) in [
        (&["--tasks", "piqqa"][..], 2, "did you mean 'piqa'"),
        (&["--limit", "3"], 2, "--tasks"),
        (&["--tasks", "sciq", "--data", "data"], 65, "no rows of sciq"),
        (&["--tasks", "piqa", "--data", "none"], 74, "none"),
        (&["--tasks", "piqa", "--data", "data", "--samples", "{\"piqa\": [9]}"], 2, "no document 9"),
    ] {
        compare(dir.path(), "out", options).fails("pythia-quant", code, &[part]);
    }
    assert!(!dir.path().join("cache").exists() && !dir.path().join("out").exists());
}
