//! `pythia-run eval`: tiny datasets through the shipped model. The numbers themselves are compared with those of
//! lm-evaluation-harness by `tools/lm_eval_native.py`.

use crate::common::{Outcome, gguf, run_model};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Rows of PIQA, LAMBADA, WikiText and gsm8k, made up.
pub(crate) fn datasets(folder: &Path) -> PathBuf {
    let data = folder.join("data");
    fs::create_dir(&data).unwrap();
    let write = |name: &str, rows: Vec<Value>| {
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        fs::write(data.join(name), lines).unwrap();
    };
    let goals = ["open a file", "sort a list", "join two paths", "read a line", "stop a thread", "print a number"];
    let piqa = goals.iter().enumerate().map(|(i, goal)| {
        json!({
            "goal": format!("To {goal} in Python"),
            "sol1": format!("call the function {i} of the module"),
            "sol2": format!("return None \u{e9} {goal}"),
            "label": i % 2,
        })
    });
    write("piqa.jsonl", piqa.collect());
    let lambada =
        goals.iter().map(|goal| json!({ "text": format!("The function returns a list. To {goal}, see the list") }));
    write("lambada_openai.jsonl", lambada.collect());
    let page = |n: usize| json!({ "page": "The interpreter reads a module and runs it. ".repeat(n) });
    write("wikitext.jsonl", vec![page(1), page(200), page(0)]);
    let question = |i: usize| json!({ "question": format!("What is {i} + 1?"), "answer": format!("It is one more.\n#### {}", i + 1) });
    write("gsm8k.jsonl", (0..4).map(question).collect());
    data
}

fn eval(folder: &Path, models: &[&Path], args: &[&str]) -> Outcome {
    let models = models.iter().flat_map(|path| ["-m".to_owned(), path.display().to_string()]);
    let args = args.iter().map(|arg| arg.to_string());
    run_model(folder, ["eval".to_owned(), "-q".to_owned()].into_iter().chain(models).chain(args))
}

/// The only file of a folder whose name begins with `start`, and its content.
fn only(folder: &Path, start: &str) -> String {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(start);
    let found: Vec<PathBuf> = names.filter(is_it).collect();
    assert_eq!(found.len(), 1, "{start}: {found:?}");
    fs::read_to_string(&found[0]).unwrap()
}

#[test]
fn results_and_samples_have_the_keys_of_the_harness_and_agree() {
    let dir = tempfile::tempdir().unwrap();
    datasets(dir.path());
    let model = gguf("F32");
    let args = ["--tasks", "piqa,lambada_openai,wikitext", "--data", "data", "--num-fewshot", "0", "--output", "out"];
    eval(dir.path(), &[&model], &[&args[..], &["--log-samples", "--json"]].concat()).ok();
    let folder = dir.path().join("out/pythia-docs-6m-F32");
    let results: Value = serde_json::from_str(&only(&folder, "results_")).unwrap();
    let keys = [
        "results",
        "group_subtasks",
        "configs",
        "versions",
        "n-shot",
        "higher_is_better",
        "n-samples",
        "config",
        "git_hash",
        "date",
        "task_hashes",
        "model_source",
        "model_name",
        "model_name_sanitized",
        "total_evaluation_time_seconds",
    ];
    for key in keys {
        assert!(results.get(key).is_some(), "{key}");
    }
    assert_eq!(results["pythia"]["level"], "F32");
    assert_eq!(results["pythia"]["complete"], true);
    assert_eq!(results["n-samples"]["piqa"], json!({ "original": 6, "effective": 6 }));
    let piqa = &results["results"]["piqa"];
    for metric in ["acc", "acc_norm"] {
        let lines: Vec<Value> =
            only(&folder, "samples_piqa_").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let values: Vec<f64> = lines.iter().map(|line| line[metric].as_f64().unwrap()).collect();
        let mean = values.iter().sum::<f64>() / 6.0;
        let deviation = (values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 5.0).sqrt();
        assert_eq!(piqa[format!("{metric},none")], json!(mean));
        let stderr = piqa[format!("{metric}_stderr,none")].as_f64().unwrap();
        assert!((stderr - deviation / 6f64.sqrt()).abs() < 1e-15, "{stderr}");
    }
    let line: Value = serde_json::from_str(only(&folder, "samples_piqa_").lines().next().unwrap()).unwrap();
    let keys: Vec<&String> = line.as_object().unwrap().keys().collect();
    let wanted = [
        "doc_id",
        "doc",
        "target",
        "arguments",
        "resps",
        "filtered_resps",
        "filter",
        "metrics",
        "doc_hash",
        "prompt_hash",
        "target_hash",
        "acc",
        "acc_norm",
    ];
    assert_eq!(keys, wanted);
    let asked = &line["arguments"]["gen_args_1"];
    assert_eq!(asked["arg_0"], "Question: To open a file in Python\nAnswer:");
    assert_eq!(asked["arg_1"], " return None \u{e9} open a file");
    assert!(line["resps"][1][0][0].as_str().unwrap().parse::<f64>().unwrap() < 0.0);
    assert!(["True", "False"].contains(&line["resps"][1][0][1].as_str().unwrap()));
    // What Python's hashlib gives for the prompt.
    assert_eq!(line["prompt_hash"], "09bf61ca0f5d9e663c7956561a70ee79fc22ea3ea0dc57e32554c9e155e6bb9c");
    // Perplexities follow from the samples.
    let samples = |task: &str| -> Vec<Value> {
        only(&folder, &format!("samples_{task}_")).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let sums = samples("wikitext").iter().fold((0.0, 0.0), |(a, b), line| {
        (a + line["byte_perplexity"][0].as_f64().unwrap(), b + line["byte_perplexity"][1].as_f64().unwrap())
    });
    let value = results["results"]["wikitext"]["byte_perplexity,none"].as_f64().unwrap();
    assert!((value.ln() + sums.0 / sums.1).abs() < 1e-12, "{value}");
    assert_eq!(results["results"]["wikitext"]["byte_perplexity_stderr,none"], "N/A");
    let lambada = samples("lambada_openai").iter().map(|line| line["perplexity"].as_f64().unwrap()).sum::<f64>() / 6.0;
    let value = results["results"]["lambada_openai"]["perplexity,none"].as_f64().unwrap();
    assert!((value.ln() + lambada).abs() < 1e-12, "{value}");
}

#[test]
fn models_are_compared_on_the_same_documents() {
    let dir = tempfile::tempdir().unwrap();
    datasets(dir.path());
    let (base, level) = (gguf("F32"), gguf("Q4_0"));
    let args = ["--tasks", "piqa,gsm8k", "--data", "data", "--num-fewshot", "0", "--json"];
    let out = eval(dir.path(), &[&base, &level, &base], &args).ok();
    let out: Value = serde_json::from_str(&out).unwrap();
    let models = out["models"].as_array().unwrap();
    let names: Vec<&str> = models.iter().map(|model| model["model_name"].as_str().unwrap()).collect();
    assert_eq!(names, ["pythia-docs-6m-F32", "pythia-docs-6m-Q4_0", "pythia-docs-6m-F32-2"]);
    assert!(models[0]["pythia"].get("paired").is_none());
    let itself = &models[2]["pythia"]["paired"]["tasks"]["piqa"]["acc,none"];
    assert_eq!(*itself, json!({ "difference": 0.0, "stderr": 0.0, "mcnemar_p": 1.0, "gained": [], "lost": [] }));
    let paired = &models[1]["pythia"]["paired"]["tasks"]["piqa"]["acc_norm,none"];
    let value = |model: usize| models[model]["results"]["piqa"]["acc_norm,none"].as_f64().unwrap();
    assert_eq!(paired["difference"].as_f64().unwrap(), value(1) - value(0));
    let n = |key: &str| paired[key].as_array().unwrap().len() as f64;
    assert!(((n("gained") - n("lost")) / 6.0 - paired["difference"].as_f64().unwrap()).abs() < 1e-12);
    for filter in ["strict-match", "flexible-extract"] {
        assert!(models[1]["results"]["gsm8k"][format!("exact_match,{filter}")].is_number());
    }
    let table = eval(dir.path(), &[&base, &level], &args[..6]).ok();
    assert!(table.contains("difference") && table.contains("exact_match, strict-match"), "{table}");
}

#[test]
fn threads_and_activations_are_options() {
    let dir = tempfile::tempdir().unwrap();
    datasets(dir.path());
    let model = gguf("Q4_0");
    let value = |more: &[&str]| {
        let args = [&["--tasks", "lambada_openai", "--data", "data", "--json"], more].concat();
        let out: Value = serde_json::from_str(&eval(dir.path(), &[&model], &args).ok()).unwrap();
        out["models"][0]["results"]["lambada_openai"].clone()
    };
    assert_eq!(value(&["--threads", "1"]), value(&["--threads", "2"]), "the same bits");
    assert_ne!(value(&["--activations", "f32"]), value(&[]));
    assert_eq!(value(&["--limit", "2"])["sample_len"], 2);
}

/// As with lm-evaluation-harness, whose names of options are known too.
#[test]
fn documents_are_chosen_by_number() {
    let dir = tempfile::tempdir().unwrap();
    datasets(dir.path());
    let model = gguf("Q4_0");
    let always = ["--tasks", "piqa,lambada_openai", "--data", "data", "--num_fewshot", "0", "--json"];
    let run = |more: &[&str]| -> Value {
        let out = eval(dir.path(), &[&model], &[&always, more].concat()).ok();
        serde_json::from_str::<Value>(&out).unwrap()["models"][0].take()
    };
    let samples = |output: &str, task: &str| -> Vec<Value> {
        let folder = dir.path().join(output).join("pythia-docs-6m-Q4_0");
        only(&folder, &format!("samples_{task}_")).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    run(&["--output", "all", "--log-samples"]);
    let some = run(&["--output_path", "some", "--log_samples", "--samples", "{\"piqa\": [4, 1, 4]}"]);
    assert_eq!(some["n-samples"]["piqa"], json!({ "original": 6, "effective": 2 }));
    assert_eq!(some["n-samples"]["lambada_openai"]["effective"], 6, "a task that is not named keeps its documents");
    assert_eq!(some["pythia"]["samples"], json!({ "piqa": [1, 4] }));
    let all = samples("all", "piqa");
    assert_eq!(samples("some", "piqa"), [all[1].clone(), all[4].clone()]);
    fs::write(dir.path().join("chosen.json"), "{\"piqa\": [1, 4]}").unwrap();
    assert_eq!(run(&["--samples", "chosen.json"])["results"], some["results"]);
}

#[cfg(unix)]
#[test]
fn a_stopped_run_is_resumed_with_the_same_result() {
    use crate::common::Held;
    use std::process::{Command, Stdio};
    let dir = tempfile::tempdir().unwrap();
    datasets(dir.path());
    let model = gguf("F32");
    let cache = dir.path().join("cache");
    // Ends after piqa, while texts are written.
    let args = |more: &[&str]| {
        let mut command = Command::new(crate::common::PYTHIA_RUN);
        command.env("PYTHIA_CACHE", &cache).current_dir(dir.path()).arg("eval").arg("-m").arg(&model);
        command.args(["--tasks", "piqa,wikitext,gsm8k", "--data", "data", "--num-fewshot", "0", "--json"]).args(more);
        command
    };
    let whole = |outcome: Outcome| -> Value {
        let out: Value = serde_json::from_str(&outcome.ok()).unwrap();
        json!([out["models"][0]["results"], out["models"][0]["task_hashes"]])
    };
    let wanted = whole(args(&["-q"]).output().unwrap().into());
    let kept = || crate::common::names(&cache.join("eval")).into_iter().find(|name| name != "digests.json");
    assert_eq!(kept(), None, "no reply is kept of a complete run");
    let mut child = Held::spawn(args(&["-q"]).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let journal = || {
        let files = fs::read_dir(cache.join("eval")).ok()?.flatten();
        let found = files.map(|file| file.path()).find(|path| path.extension().is_some_and(|end| end == "replies"))?;
        found.metadata().ok().map(|data| data.len())
    };
    // A header of 90 bytes, then 12 replies of piqa: what comes after them is interrupted.
    while journal().is_none_or(|bytes| bytes < 90 + 12 * 37) && !child.has_ended() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    // Another run while the first is held up in the middle: it leaves the first one's journal alone.
    let held = child.stop();
    let length = journal();
    let other = args(&[]).output().unwrap();
    if held && length.is_some() {
        let said = String::from_utf8_lossy(&other.stderr);
        assert!(said.contains("another run keeps its replies"), "{said}");
        assert_eq!(journal(), length);
    }
    assert_eq!(whole(other.into()), wanted);
    let killed = child.signal("-INT");
    let stopped = Outcome::from(child.goes_on().wait_with_output().unwrap());
    // A quick machine may have been done by then.
    if stopped.code != Some(0) {
        assert!(killed);
        stopped.stopped("pythia-run", &["--resume"]);
    }
    let resumed = args(&["-q", "--resume"]).output().unwrap().into();
    assert_eq!(whole(resumed), wanted);
    assert_eq!(kept(), None);
}

#[test]
fn wrong_requests_are_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let data = datasets(dir.path());
    let model = gguf("Q4_0");
    let fails = |models: &[&Path], code: i32, args: &[&str], parts: &[&str]| {
        eval(dir.path(), models, args).fails("pythia-run", code, parts);
    };
    let cut = dir.path().join("cut.gguf");
    fs::write(&cut, &fs::read(&model).unwrap()[..1_000_000]).unwrap();
    let output = dir.path().join("none");
    let args = ["--tasks", "piqa", "--data", data.to_str().unwrap(), "--output", output.to_str().unwrap()];
    fails(&[&model, &cut], 65, &args, &["cut.gguf"]);
    assert!(!output.exists(), "found before the first model is evaluated");
    fails(&[&model], 2, &["--tasks", "piqqa"], &["piqqa: no such task", "did you mean 'piqa'?"]);
    fails(&[&model], 2, &["--tasks", "xyzzy"], &["xyzzy: no such task (pythia-run eval --tasks list"]);
    fails(&[], 2, &["--tasks", "piqa"], &["no model is named", "-m MODEL"]);
    fails(&[&model], 2, &[], &["--tasks"]);
    fails(&[&model], 2, &["--tasks", "piqa", "--limit", "0"], &["--limit"]);
    fails(&[&model], 2, &["--tasks", "piqa", "--log-samples"], &["--output"]);
    let chosen = |json: &str, parts: &[&str]| {
        fails(&[&model], 2, &["--tasks", "piqa", "--data", "data", "--samples", json], parts);
    };
    chosen("{\"piqa\": [0, 6]}", &["piqa: no document 6, it has 6"]);
    chosen("{\"piqa\": [0, -1]}", &["samples: ", "wanted numbers of documents by task"]);
    chosen("{\"piqa\": []}", &["samples: no document of piqa"]);
    chosen("{\"sciq\": [0]}", &["samples: sciq is none of the tasks"]);
    fails(&[&model], 2, &["--tasks", "piqa", "--samples", "{}", "--limit", "1"], &["--samples", "--limit"]);
    fails(&[&model], 74, &["--tasks", "piqa", "--samples", "none.json"], &["none.json"]);
    fails(&[Path::new("none.gguf")], 74, &["--tasks", "piqa", "--data", "data"], &["none.gguf"]);
    fails(&[&model], 74, &["--tasks", "own.toml", "--data", "data"], &["own.toml"]);
    // The continuation is part of the context's last token.
    fs::write(data.join("piqa.jsonl"), "{\"goal\": 3}\n").unwrap();
    fails(&[&model], 65, &["--tasks", "piqa", "--data", "data"], &["piqa", "row 0"]);
    let list = run_model(dir.path(), ["eval", "--tasks", "list"]).ok();
    assert!(list.contains("lambada_openai") && list.contains("leaderboard"), "{list}");
}
