//! `generate -N` and `--jsonl` that end before their texts do.

use crate::common::{Held, Outcome, PYTHIA_RUN, gguf, run_model, scratch};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = "pythia-run";

/// Texts that take minutes.
const N: usize = 20_000;
/// A program that runs for longer goes on, where it should have stopped.
const LIMIT: Duration = Duration::from_secs(30);

/// Many texts: of one prompt, as text and as JSON, and of a file.
fn commands(folder: &Path) -> [Command; 3] {
    let path = folder.join("prompts.jsonl");
    let line = |i: usize| json!({"prompt": format!("The borrow checker {i}")}).to_string() + "\n";
    fs::write(&path, (0..N).map(line).collect::<String>()).unwrap();
    let samples = ["-p", "The borrow checker", "-N", &N.to_string()].map(str::to_owned).to_vec();
    let file = vec!["--jsonl".to_owned(), path.to_str().unwrap().to_owned()];
    [samples.clone(), [samples, vec!["--json".to_owned()]].concat(), file].map(|args| {
        let mut command = Command::new(PYTHIA_RUN);
        command.arg("generate").arg(gguf("Q8_0")).args(args);
        command.args(["-n", "40", "--temp", "0.9", "--ignore-eos", "--parallel", "3"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    })
}

fn first_line(stdout: &mut impl BufRead) -> String {
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert!(line.ends_with('\n'), "{line:?}");
    line
}

/// How it ended, within the limit, and what it said on stderr.
fn end(mut program: Held) -> Outcome {
    let start = Instant::now();
    while !program.has_ended() {
        assert!(start.elapsed() < LIMIT, "it goes on");
        std::thread::sleep(Duration::from_millis(10));
    }
    program.goes_on().wait_with_output().unwrap().into()
}

/// As with `| head -1`.
#[test]
fn it_stops_quietly_once_nobody_reads() {
    let folder = tempfile::tempdir().unwrap();
    for (mut command, n_lines) in commands(folder.path()).into_iter().zip([1, 1, 0]) {
        let mut program = Held::spawn(&mut command);
        let mut stdout = BufReader::new(program.stdout());
        (0..n_lines).for_each(|_| drop(first_line(&mut stdout)));
        drop(stdout);
        let outcome = end(program);
        assert_eq!((outcome.code, &*outcome.stderr), (Some(0), ""), "{command:?}");
    }
}

#[test]
fn an_interrupt_leaves_whole_texts() {
    let folder = tempfile::tempdir().unwrap();
    for mut command in commands(folder.path()) {
        let mut program = Held::spawn(&mut command);
        let mut stdout = BufReader::new(program.stdout());
        let mut text = first_line(&mut stdout);
        assert!(program.signal("-INT"));
        stdout.read_to_string(&mut text).unwrap();
        end(program).stopped(PROGRAM, &["interrupted"]);
        if text.starts_with('{') {
            let texts: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let whole = texts.iter().all(|text| text["ids"].as_array().unwrap().len() == 40);
            assert!(whole && texts.len() < N, "{text}");
        } else {
            assert!(text.starts_with("--- sample 1, seed 0 ---\n") && text.ends_with('\n'), "{text:?}");
        }
    }
}

/// A prompt that never comes.
#[test]
fn an_interrupt_ends_the_wait_for_prompts() {
    let mut command = Command::new(PYTHIA_RUN);
    command.arg("generate").arg(gguf("Q8_0")).args(["--jsonl", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut program = Held::spawn(&mut command);
    std::thread::sleep(Duration::from_millis(300));
    assert!(program.signal("-INT"));
    let outcome = end(program);
    assert_eq!((outcome.code, &*outcome.stdout), (Some(130), ""), "{outcome:?}");
}

/// A text ends where it would end alone, and a prompt is refused that would be refused alone.
#[test]
fn a_short_context_counts_for_every_text() {
    let folder = tempfile::tempdir().unwrap();
    let model = gguf("Q8_0");
    let model = model.to_str().unwrap();
    let run = |args: &[&str]| run_model(scratch(), [&["generate", model, "-q", "--ignore-eos"][..], args].concat());
    let prompt = ["-p", "The borrow checker", "-n", "50", "--json"];
    let alone: Value = serde_json::from_str(&run(&[&prompt[..], &["-c", "20"]].concat()).ok()).unwrap();
    assert!(alone["finish"] == json!("context") && alone["ids"].as_array().unwrap().len() < 21, "{alone}");
    let samples = run(&[&prompt[..], &["-c", "20", "-N", "3"]].concat()).ok();
    let first: Value = serde_json::from_str(samples.lines().next().unwrap()).unwrap();
    assert_eq!((&first["ids"], &first["finish"]), (&alone["ids"], &alone["finish"]));
    assert!(samples.lines().all(|line| line.contains("\"finish\":\"context\"")), "{samples}");
    let lines = folder.path().join("prompts.jsonl");
    fs::write(&lines, "{\"prompt\": [5, 6, 7, 8, 9]}\n").unwrap();
    let lines = lines.to_str().unwrap();
    run(&["--jsonl", lines, "-c", "4"]).fails(PROGRAM, 65, &["line 1: found 5 tokens, wanted at most the context's 4"]);
    run(&["-p", "a b c d e f", "-c", "2", "-N", "2"]).fails(PROGRAM, 65, &["2"]);
    run(&["-p", "a", "-c", "600", "-N", "2"]).fails(
        PROGRAM,
        2,
        &["--ctx-size: found 600, wanted at most the model's 512"],
    );
    run(&["-p", "a", "--field", "q"]).fails(PROGRAM, 2, &["--field"]);
    run(&["-p", "a", "--parallel", "7"]).fails(PROGRAM, 2, &["--parallel"]);
    fs::write(folder.path().join("many.jsonl"), "{\"prompt\": [5]}\n".repeat(17)).unwrap();
    let many = folder.path().join("many.jsonl");
    run(&["--jsonl", many.to_str().unwrap(), "-N", "65536"]).fails(
        PROGRAM,
        2,
        &["-N: found 1114112 texts, wanted at most 1048576"],
    );
}
