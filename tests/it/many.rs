//! `generate -N` and `--jsonl` that end before their texts do.

use crate::common::{Held, Outcome, PYTHIA_RUN, gguf};
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
