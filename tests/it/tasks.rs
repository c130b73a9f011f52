//! The prompts of all tasks are those of lm-evaluation-harness.
//!
//! `prompts.json` has a digest of every document of `tests/data/eval/rows` as lm-evaluation-harness 0.4.13 asks it, with
//! and without examples (`tools/lm_eval_native.py --prompts` writes it).

use crate::common;
use pythia_eval::{Asks, Data, Doc, Error, Group, Kind, Rows, Task, Which};
use pythia_text::hex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    common::data("eval")
}

/// All texts of a document and its target, each ended by a NUL.
fn digest(doc: &Doc) -> String {
    let mut parts: Vec<&str> = match &doc.asks {
        Asks::Choices { pairs, .. } => pairs.iter().flat_map(|(context, choice)| [&**context, choice]).collect(),
        Asks::LogLikelihood { context, continuation } => vec![context, continuation],
        Asks::Rolling { text, .. } => vec![text],
        Asks::Generate { context, .. } => vec![context],
    };
    parts.push(&doc.target);
    let all: String = parts.into_iter().map(|part| format!("{part}\0")).collect();
    hex(&Sha256::digest(all)[..8])
}

#[test]
fn prompts_are_those_of_the_harness() {
    let text = fs::read_to_string(folder().join("prompts.json")).unwrap();
    let golden: BTreeMap<String, BTreeMap<usize, Vec<String>>> = serde_json::from_str(&text).unwrap();
    let data = Data::local(&folder().join("rows"));
    assert_eq!(golden.len(), 18);
    for (name, by_shots) in golden {
        let task = Task::find(&name).unwrap();
        for (wanted_shots, wanted) in by_shots {
            let shots = task.shots(Some(wanted_shots));
            let docs = task.documents(data.rows(task, shots).unwrap(), shots, &Which::All).unwrap();
            let found: Vec<String> = docs.iter().map(digest).collect();
            let first = found.iter().zip(&wanted).position(|(found, wanted)| found != wanted);
            let shown = first.map(|i| &docs[i].asks);
            assert_eq!(found, wanted, "{name}, {wanted_shots} shots: {shown:#?}");
        }
    }
}

#[test]
fn limits_keep_the_examples_of_the_first_and_choices_do_not() {
    let task = Task::find("arc_easy").unwrap();
    let data = Data::local(&folder().join("rows"));
    let docs = |which| task.documents(data.rows(task, 3).unwrap(), 3, &which).unwrap();
    let all = docs(Which::All);
    assert_eq!(docs(Which::First(4)), all[..4]);
    let these = docs(Which::These(vec![0, 5]));
    assert_eq!((these[0].clone(), these[1].id), (all[0].clone(), 5));
    assert_ne!(these[1].asks, all[5].asks, "the generator was asked once before, not five times");
    let error = task.documents(data.rows(task, 0).unwrap(), 0, &Which::These(vec![12])).unwrap_err();
    assert_eq!(error.to_string(), "arc_easy: no document 12, it has 12 (the first is 0)");
}

#[test]
fn a_row_that_is_not_the_tasks_is_named() {
    let documents = |name: &str, row: Value| -> Result<Vec<Doc>, Error> {
        let rows = Rows { asked: vec![row.as_object().unwrap().clone()], examples: None };
        Task::find(name).unwrap().documents(rows, 0, &Which::All)
    };
    for (name, row, wanted) in [
        ("piqa", json!({ "goal": "a" }), "piqa: row 0: no column sol1, found goal"),
        ("piqa", json!({ "goal": [], "sol1": "a" }), "piqa: row 0: column goal: found [], wanted a text"),
        ("winogrande", json!({ "sentence": "none" }), "column sentence: found \"none\", has no blank (_)"),
        (
            "arc_easy",
            json!({ "question": "q", "choices": { "text": ["a"], "label": ["A"] }, "answerKey": "B" }),
            "column answerKey: found \"B\", wanted one of choices.label",
        ),
        ("mmlu_anatomy", json!({ "question": "q", "choices": ["a"], "answer": 0 }), "wanted four"),
        ("sciq", json!({ "support": "s\n\u{202e}", "question": 3.5, "distractor1": {} }), "column distractor1"),
    ] {
        let message = documents(name, row).unwrap_err().to_string();
        assert!(message.contains(wanted) && !message.contains('\n'), "{message}");
    }
    // A secret answer is never right.
    let docs = documents("piqa", json!({ "goal": "a", "sol1": "b", "sol2": "c", "label": -1 })).unwrap();
    let Asks::Choices { gold, .. } = &docs[0].asks else { panic!() };
    assert!(gold[0] >= 2 && docs[0].target == "-1");
}

#[test]
fn too_few_rows_for_examples_are_refused() {
    let data = Data::local(&folder().join("rows"));
    let task = Task::find("mmlu_anatomy").unwrap();
    let error = task.documents(data.rows(task, 6).unwrap(), 6, &Which::All).unwrap_err().to_string();
    assert_eq!(error, "mmlu_anatomy: the split dev has 5 rows, 6 examples take at least 6");
}

#[test]
fn rows_are_found_by_task_or_by_repository() {
    let dir = tempfile::tempdir().unwrap();
    let task = Task::find("arc_easy").unwrap();
    let rows = |path: &Path, shots| Data::local(path).rows(task, shots).map_err(|e| e.to_string());
    let missing = rows(dir.path(), 0).unwrap_err();
    let wanted =
        "looked for arc_easy, arc_easy.test, allenai/ai2_arc/ARC-Easy/test with the ending .jsonl, .json, .parquet";
    assert!(missing.contains(wanted), "{missing}");
    let source = folder().join("rows/allenai/ai2_arc/ARC-Easy");
    let wanted = Data::local(&folder().join("rows")).rows(task, 0).unwrap().asked;
    fs::copy(source.join("test.jsonl"), dir.path().join("arc_easy.jsonl")).unwrap();
    assert_eq!(rows(dir.path(), 0).unwrap().asked, wanted);
    assert_eq!(rows(&dir.path().join("arc_easy.jsonl"), 0).unwrap().asked, wanted);
    assert!(rows(dir.path(), 1).unwrap_err().contains("split train"));
    fs::copy(source.join("train.jsonl"), dir.path().join("arc_easy.train.jsonl")).unwrap();
    assert_eq!(rows(dir.path(), 1).unwrap().examples.unwrap().len(), 36);
    // An array of objects is read too.
    fs::remove_file(dir.path().join("arc_easy.jsonl")).unwrap();
    fs::write(dir.path().join("arc_easy.json"), serde_json::to_vec(&wanted).unwrap()).unwrap();
    assert_eq!(rows(dir.path(), 0).unwrap().asked, wanted);
    fs::write(dir.path().join("arc_easy.json"), "{\"a\": 1}\n\n{\"a\"\n").unwrap();
    let broken = rows(dir.path(), 0).unwrap_err();
    assert!(
        broken.contains("arc_easy.json: line 3, column") && broken.ends_with("wanted a JSON object on each line"),
        "{broken}"
    );
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_is_read_like_json() {
    for (name, split) in [("arc_easy", "test"), ("drop", "validation")] {
        let task = Task::find(name).unwrap();
        let rows = |below: &str| Data::local(&folder().join(below)).rows(task, 0).unwrap().asked;
        let (json, parquet) = (rows("rows"), rows("hub"));
        assert_eq!(json, parquet, "{name}, {split}");
        let order = |rows: &[pythia_eval::Row]| serde_json::to_string(&rows[0]).unwrap();
        assert_eq!(order(&json), order(&parquet), "columns keep their order");
    }
    let dir = tempfile::tempdir().unwrap();
    let part = "allenai/ai2_arc/ARC-Easy/test-00000-of-00002.parquet";
    let copy = dir.path().join(part);
    fs::create_dir_all(copy.parent().unwrap()).unwrap();
    let bytes = fs::read(folder().join("hub").join(part)).unwrap();
    fs::write(&copy, &bytes).unwrap();
    let rows = || Data::local(dir.path()).rows(Task::find("arc_easy").unwrap(), 0).unwrap_err().to_string();
    assert!(rows().ends_with("test-00001-of-00002.parquet: missing, one of 2 parts"), "{}", rows());
    fs::write(copy.with_file_name("test-00001-of-00002.parquet"), &bytes[..bytes.len() / 2]).unwrap();
    assert!(rows().contains("not read as Parquet"), "{}", rows());
}

/// The example of `docs/tasks.md`.
#[test]
fn an_own_task_is_a_file_of_rows_and_a_description() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let docs = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tasks.md")).unwrap();
    let block = |language: &str| docs.split(&format!("```{language}\n")).nth(1).unwrap().split("```").next().unwrap();
    fs::write(at("town.toml"), block("toml")).unwrap();
    fs::write(at("town.jsonl"), block("jsonl")).unwrap();
    let task = Task::open(&at("town.toml")).unwrap();
    assert_eq!((&*task.name, task.kind, task.shots), ("town", Kind::MultipleChoice, 1));
    let docs = task.documents(Data::default().rows(&task, 1).unwrap(), 1, &Which::All).unwrap();
    let Asks::Choices { pairs, choices, gold } = &docs[0].asks else { panic!() };
    let wanted = "Question: Who mends the nets?\nAnswer: Ada Brink\n\nQuestion: What is ground at the mill?\nAnswer:";
    assert_eq!(pairs[0], (wanted.to_owned(), " rye".to_owned()));
    assert_eq!((choices.len(), gold, &*docs[0].target), (3, &vec![0], "0"));
}

#[test]
fn own_tasks_of_every_kind_are_read_and_wrong_ones_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("own.toml");
    let open = |text: &str| {
        fs::write(&path, text).unwrap();
        Task::open(&path).map_err(|e| e.to_string())
    };
    let docs = |text: &str, row: Value| {
        fs::write(dir.path().join("own.jsonl"), row.to_string()).unwrap();
        let task = open(text)?;
        let rows = Data::default().rows(&task, 0).map_err(|e| e.to_string())?;
        task.documents(rows, 0, &Which::All).map_err(|e| e.to_string())
    };
    let named = |rest: &str| format!("name = \"own\"\n{rest}");
    let row = json!({ "context": "a", "continuation": "b", "text": "a b  c", "answers": ["x", "y"], "n": 7 });
    let asks = |text: &str| docs(&named(text), row.clone()).unwrap().swap_remove(0).asks;
    let wanted = Asks::LogLikelihood { context: "{7} a".to_owned(), continuation: "-b".to_owned() };
    let text = "kind = \"loglikelihood\"\nprompt = \"{{{n}}} {context}\"\ndelimiter = \"-\"";
    assert_eq!(asks(text), wanted);
    assert_eq!(
        asks("kind = \"loglikelihood_rolling\""),
        Asks::Rolling { text: "a b  c".to_owned(), words: 3, bytes: 6 }
    );
    let wanted = Asks::Generate {
        context: "a".to_owned(),
        until: vec!["\n\n".to_owned()],
        max_tokens: Some(5),
        answers: vec![vec!["x".to_owned()], vec!["y".to_owned()]],
    };
    assert_eq!(asks("kind = \"generate_until\"\nmax_tokens = 5"), wanted);
    for (gold, target, wanted) in
        [(json!("c"), "c", vec![1]), (json!([0, 1]), "[0, 1]", vec![0, 1]), (json!(1), "1", vec![1])]
    {
        let row = json!({ "context": "", "choices": ["b", "c"], "gold": gold });
        let doc = docs(&named("kind = \"multiple_choice\""), row).unwrap().swap_remove(0);
        let Asks::Choices { gold, .. } = doc.asks else { panic!() };
        assert_eq!((gold, &*doc.target), (wanted, target));
    }
    let row = json!({ "context": "", "choices": ["b", "c"], "gold": 2 });
    let message = docs(&named("kind = \"multiple_choice\""), row).unwrap_err();
    assert!(message.contains("column gold: found 2, wanted a number from 0 to 1"), "{message}");
    for (text, wanted) in [
        ("kind = \"loglikelihood\"", "line 1: missing field `name`"),
        ("name = \"own\"\nkind = \"x\"", "kind: found \"x\", wanted multiple_choice, loglikelihood, "),
        ("name = \"own\"\nkind = \"loglikelihood\"\nshot = 1", "line 3: unknown field `shot`"),
        ("name = \"piqa\"\nkind = \"loglikelihood\"", "\"piqa\" is a built-in task"),
        ("name = \"a/b\"\nkind = \"loglikelihood\"", "wanted letters, digits"),
        ("name = \"own\"\nkind = \"loglikelihood\"\nmetrics = [\"em\"]", "loglikelihood has perplexity, acc"),
        ("name = \"own\"\nkind = \"loglikelihood\"\nmax_tokens = 1", "belong to generate_until"),
        ("name = \"own\"\nkind = \"loglikelihood\"\nprompt = \"{\"", "a brace"),
        ("name = \"own\"\nkind = \"loglikelihood_rolling\"\nshots = 1", "scores a text alone"),
        ("name = ", "line 1: "),
    ] {
        let message = open(text).unwrap_err();
        assert!(message.contains(wanted) && message.contains("own.toml: "), "{text}: {message}");
    }
}

#[test]
fn groups_are_those_of_the_card() {
    let names =
        |group: &str| Group::find(group).unwrap().members.iter().map(|member| &*member.name).collect::<Vec<_>>();
    assert_eq!(names("pythia"), ["lambada_openai", "piqa", "winogrande", "arc_easy", "sciq"]);
    assert_eq!(names("leaderboard").len(), 7);
}
