//! `pythia-run eval plot` on results that are written here.

use crate::common;
use std::path::Path;

fn results(model: &str, acc: f64) -> String {
    format!(
        r#"{{"results": {{"piqa": {{"acc,none": {acc}, "acc_stderr,none": 0.0115}}}}, "n-shot": {{"piqa": 0}},
            "config": {{"model_args": "pretrained={model},revision=step3000"}}, "model_name": "{model}"}}"#
    )
}

fn plot(folder: &Path, args: &[&str]) -> common::Outcome {
    common::run_model(folder, ["eval", "plot"].iter().chain(args))
}

#[test]
fn draws_the_results_of_files_and_folders() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    std::fs::create_dir_all(path.join("runs/EleutherAI__pythia-70m")).unwrap();
    let nested = path.join("runs/EleutherAI__pythia-70m/results_2026-11-29T00-00-00.json");
    std::fs::write(nested, results("EleutherAI/pythia-70m", 0.58)).unwrap();
    std::fs::write(path.join("own.json"), results("own", 0.55)).unwrap();
    let said = plot(path, &["runs", "own.json", "--params", "70m", "-o", "p.html"]).ok();
    assert_eq!(said, "p.html: 2 results\n");
    let page = std::fs::read_to_string(path.join("p.html")).unwrap();
    assert!(page.contains("pythia-70m step3000") && page.contains("own step3000"));
    // The published pythia-70m at step 3000 has 1065 of 1838.
    assert!(page.contains("<td>0.5794 &#177; 0.0115</td><td>+0.0006</td>"));
    plot(path, &["own.json", "-o", "p.html"]).fails("pythia-run", 2, &["p.html", "--force"]);
    plot(path, &["own.json", "-o", "p.html", "--force"]).ok();
}

#[test]
fn says_what_is_wrong_with_an_input() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    std::fs::create_dir(path.join("empty")).unwrap();
    std::fs::write(path.join("other.json"), "{\"a\": 1}").unwrap();
    std::fs::write(path.join("own.json"), results("own", 0.55)).unwrap();
    plot(path, &["empty"]).fails("pythia-run", 65, &["empty", "no results_*.json"]);
    plot(path, &["other.json"]).fails("pythia-run", 65, &["other.json", "'results'"]);
    plot(path, &["missing.json"]).fails("pythia-run", 74, &["missing.json"]);
    plot(path, &["own.json", "own.json", "own.json", "--params", "1m", "--params", "2m"]).fails(
        "pythia-run",
        2,
        &["2 times --params for 3 files"],
    );
    plot(path, &["own.json", "-o", "own.json", "--force"]).fails("pythia-run", 2, &["own.json"]);
    assert!(!path.join("plot.html").exists());
}
