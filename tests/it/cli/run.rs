//! `pythia-run` as users and scripts meet it: the real binary, its output, its exit codes.

use crate::common::{self, Outcome, PYTHIA_RUN, checkpoint, gguf, run_model};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

const PROGRAM: &str = "pythia-run";

/// `pythia-run COMMAND MODEL` and more arguments, with the Q8_0 file.
fn run(command: &str, more: &[&str]) -> Outcome {
    let model = gguf("Q8_0");
    run_model(Path::new("."), [command, model.to_str().unwrap()].into_iter().chain(more.iter().copied()))
}

fn heldout() -> String {
    checkpoint().join("heldout.txt").to_str().unwrap().to_owned()
}

fn json(outcome: Outcome) -> Value {
    serde_json::from_str(&outcome.ok()).unwrap()
}

fn with_input(args: &[&str], input: &[u8]) -> Outcome {
    let mut program = Command::new(PYTHIA_RUN)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    program.stdin.take().unwrap().write_all(input).unwrap();
    program.wait_with_output().unwrap().into()
}

#[test]
fn text_goes_to_stdout_and_timings_to_stderr() {
    let outcome = run("generate", &["-p", "The borrow checker", "-n", "8"]);
    assert!(outcome.stderr.starts_with("prompt: 4 tokens, "), "{outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
    let text = outcome.ok();
    assert!(text.len() > 8 && text.ends_with('\n'));
    let quiet = run("generate", &["-p", "The borrow checker", "--max-new-tokens", "8", "-q", "--echo"]);
    assert_eq!(quiet.stderr, "");
    assert_eq!(quiet.ok(), format!("The borrow checker{text}"));
}

#[test]
fn prompts_come_from_options_files_and_standard_input() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("prompt.txt");
    fs::write(&file, "The borrow checker\n").unwrap();
    let option = json(run("generate", &["-p", "The borrow checker", "-n", "4", "--json"]));
    assert_eq!(option["prompt_ids"], serde_json::json!([450, 1169, 996, 266]));
    let model = gguf("Q8_0");
    let model = model.to_str().unwrap();
    let common = ["generate", "--model", model, "-n", "4", "--json"];
    let from_file = json(with_input(&[&common[..], &["-f", file.to_str().unwrap()]].concat(), b"not read"));
    let from_stdin = json(with_input(&common, b"The borrow checker\n"));
    for other in [from_file, from_stdin] {
        assert_eq!((&other["prompt_ids"], &other["ids"]), (&option["prompt_ids"], &option["ids"]));
    }
    let empty = json(run("generate", &["-p", "", "-n", "1", "--json"]));
    assert_eq!(empty["prompt_ids"], serde_json::json!([0]), "an empty prompt begins a text");
}

#[test]
fn json_tells_what_was_done() {
    let stop =
        json(run("generate", &["-p", "The borrow checker", "-n", "40", "--json", "--stop", "zzzz", "--stop", " that"]));
    assert_eq!((&stop["finish"], &stop["stop"]), (&"stop".into(), &" that".into()));
    assert!(!stop["text"].as_str().unwrap().contains(" that"), "{stop}");
    assert!(stop["timings"]["prompt_tokens_per_second"].as_f64().unwrap() > 0.0);
    let length = json(run("generate", &["-p", "a", "-n", "3", "--json"]));
    assert_eq!((&length["finish"], length["ids"].as_array().unwrap().len()), (&"length".into(), 3));
    let full = json(run("generate", &["-p", "The borrow checker", "-n", "-1", "-c", "16", "--ignore-eos", "--json"]));
    // The last token needs no room: it is not fed back.
    assert_eq!((&full["finish"], full["ids"].as_array().unwrap().len()), (&"context".into(), 13));
}

#[test]
fn a_seed_means_one_text() {
    let sample = |seed: &str, threads: &str| {
        let more = ["-p", "The", "-n", "24", "--temp", "0.9", "--top-p", "0.95", "--seed", seed, "-t", threads, "-q"];
        run("generate", &more).ok()
    };
    assert_eq!(sample("1", "1"), sample("1", "2"));
    assert_ne!(sample("1", "1"), sample("2", "1"));
    let random = json(run("generate", &["-p", "The", "-n", "4", "--do-sample", "-s", "-1", "--json"]));
    let seed = random["sampling"]["seed"].to_string();
    let again = json(run("generate", &["-p", "The", "-n", "4", "--do-sample", "--seed", &seed, "--json"]));
    assert_eq!(random["ids"], again["ids"], "the seed that was drawn is told");
}

/// Command lines as users of llama.cpp type them.
#[test]
fn habits_of_llama_cpp_work_or_are_explained() {
    let plain = run("generate", &["-p", "The borrow checker", "-n", "4", "-q"]).ok();
    for habits in [
        &["-ngl", "0", "-fa", "on", "-b", "512", "-ub", "512"][..],
        &["-ngl", "99"],
        &["--flash-attn", "-ctk", "f16", "-ctv", "f16", "-c", "0", "-t", "-1"],
        &["--no-display-prompt", "-no-cnv", "--no-mmap", "--mlock"],
        &["--repeat-penalty", "1.3", "--repeat-last-n", "0"],
    ] {
        let outcome = run("generate", &[&["-p", "The borrow checker", "-n", "4", "-q"], habits].concat());
        assert!(!outcome.stderr.contains("error"), "{outcome:?}");
        assert_eq!(outcome.ok(), plain, "{habits:?}");
    }
    for (habit, parts) in [
        (&["-hf", "EleutherAI/pythia-70m"][..], ["-hf: ", "pythia-quant convert"]),
        (&["-cnv"], ["-cnv: ", "base models"]),
        (&["--lora", "x"], ["--lora: ", "pythia-quant convert BASE --lora"]),
        (&["-ctk", "q4_0"], ["'q4_0'", "f16 or q8_0 or f32"]),
        (&["-ctv", "f32"], ["--cache-type-v", "--kv"]),
        (&["-ngl", "x"], ["'x'", "all or auto"]),
        (&["--temprature", "1"], ["--temprature", "did you mean '--temperature'?"]),
    ] {
        run("generate", &[&["-p", "x"], habit].concat()).fails(PROGRAM, 2, &parts);
    }
    let all = ["-f", &heldout(), "-c", "256", "--chunks", "-1", "--json"];
    assert!(json(run("perplexity", &all))["windows"].as_u64().unwrap() > 200);
    run_model(Path::new("."), ["perplexty"]).fails(PROGRAM, 2, &["did you mean 'perplexity'?"]);
}

#[test]
fn prompts_may_begin_with_a_dash_and_hold_escapes() {
    let ids = |args: &[&str]| json(run("generate", &[args, &["-n", "1", "--json"]].concat()))["prompt_ids"].clone();
    assert_ne!(ids(&["-p", "-fa"]), ids(&["-p", "fa"]));
    assert_eq!(ids(&["-p", "- a list"]), ids(&["--prompt=- a list"]));
    assert_eq!(ids(&["-p", r"a\nb", "-e"]), ids(&["-p", "a\nb"]));
    assert_ne!(ids(&["-p", r"a\nb"]), ids(&["-p", "a\nb"]), "not unless asked for");
    run("generate", &["-p", r"\xff", "-e"]).fails(PROGRAM, 2, &["--prompt", "UTF-8"]);
}

#[test]
fn more_threads_than_processors_are_warned_of() {
    let outcome = run("generate", &["-p", "x", "-n", "1", "-t", "999", "-q"]);
    assert!(outcome.stderr.contains("999 threads on") && outcome.stderr.lines().count() == 1, "{outcome:?}");
    outcome.ok();
}

#[test]
fn perplexity_names_its_protocol() {
    let text = run("perplexity", &["-f", &heldout(), "-c", "64", "--chunks", "4"]).ok();
    assert!(text.contains("llama: disjoint windows of 64 tokens") && text.contains("124 tokens"), "{text}");
    assert!(text.lines().last().unwrap().starts_with("Final estimate: PPL = "), "{text}");
    let more = ["-f", &heldout(), "--protocol", "hf-stride", "-c", "64", "--stride", "32", "--chunks", "4", "--json"];
    let stride = json(run("perplexity", &more));
    assert_eq!(stride["protocol"], serde_json::json!({ "name": "hf-stride", "window": 64, "stride": 32 }));
    assert_eq!(stride["tokens_scored"], 63 + 3 * 32);
    let bits = stride["nll"]["value"].as_f64().unwrap() * 159.0 / std::f64::consts::LN_2;
    assert!((stride["bits_per_byte"].as_f64().unwrap() * stride["bytes"].as_f64().unwrap() / bits - 1.0).abs() < 1e-9);
}

#[test]
fn likelihoods_of_tokens_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("nll.jsonl");
    let path = file.to_str().unwrap();
    let args = ["-f", &heldout(), "-c", "64", "--chunks", "2", "--json", "--nll-out", path];
    let result = json(run("perplexity", &args));
    let lines: Vec<Value> =
        fs::read_to_string(&file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["position"], &lines[31]["position"]), (62, &33.into(), &97.into()));
    let mean = lines.iter().map(|line| line["nll"].as_f64().unwrap()).sum::<f64>() / 62.0;
    assert!((mean - result["nll"]["value"].as_f64().unwrap()).abs() < 1e-12);
    run("perplexity", &args).fails(PROGRAM, 2, &["nll.jsonl", "--force"]);
    run("perplexity", &[&args[..], &["--force"]].concat()).ok();
    assert_eq!(common::names(dir.path()), ["nll.jsonl"], "no temporary file is left");
}

#[test]
fn likelihoods_never_replace_an_input_or_a_device() {
    let dir = tempfile::tempdir().unwrap();
    let (model, text) = (dir.path().join("m.gguf"), dir.path().join("t.txt"));
    fs::copy(gguf("Q8_0"), &model).unwrap();
    fs::copy(heldout(), &text).unwrap();
    let before = fs::read(&model).unwrap();
    let (model_name, text_name) = (model.to_str().unwrap(), text.to_str().unwrap());
    for (out, part) in [
        (model_name, "would replace the input"),
        (text_name, "would replace the input"),
        (dir.path().to_str().unwrap(), "not a regular file"),
        ("-", "cannot write to standard output"),
        #[cfg(unix)]
        ("/dev/null", "not a regular file"),
    ] {
        let args = ["perplexity", model_name, "-f", text_name, "--nll-out", out, "--force"];
        run_model(Path::new("."), args).fails(PROGRAM, 2, &[out, part]);
    }
    assert_eq!(common::names(dir.path()), ["m.gguf", "t.txt"]);
    assert!(fs::read(&model).unwrap() == before, "the model is what it was");
}

#[test]
fn tokens_and_texts() {
    assert_eq!(run("tokenize", &["-p", "Hello, I am", "--ids"]).ok(), "3094 13 426 261 78\n");
    assert_eq!(run("tokenize", &["--decode", "[3094, 13, 426]"]).ok(), "Hello, I\n");
    assert_eq!(run("tokenize", &["-p", "x y"]).ok(), "    89  \"x\"\n   377  \" y\"\n");
    let special = json(run("tokenize", &["-p", "x<|endoftext|>", "--json"]));
    assert_eq!(
        special,
        serde_json::json!({ "ids": [89, 0], "pieces": ["x", "<|endoftext|>"], "text": "x<|endoftext|>" })
    );
}

#[test]
fn info_of_a_model() {
    let info = json(run("info", &["--json", "--isa", "scalar", "--threads", "1", "--kv", "f32"]));
    for (key, value) in [("file_type", "Q8_0"), ("isa", "scalar"), ("kv_cache", "f32"), ("name", "pythia-docs-6m")] {
        assert_eq!(info[key], value);
    }
    let numbers = [("parameters", 6_836_224), ("parameters_non_embedding", 4_739_072), ("kv_bytes_per_token", 12_288)];
    for (key, value) in numbers.into_iter().chain([("n_tokens", 4095), ("n_vocab", 4096), ("threads", 1)]) {
        assert_eq!(info[key], value, "{key}");
    }
    assert!(run("info", &[]).ok().contains("parameters  6836224, 4739072 without embeddings"));
}

#[test]
fn wrong_command_lines_exit_with_2() {
    run_model(Path::new("."), ["generate", "-p", "x"]).fails(PROGRAM, 2, &["MODEL"]);
    run("generate", &["-p", "x", "--top-p", "2"]).fails(PROGRAM, 2, &["top-p", "found 2"]);
    run("generate", &["-p", "x", "--temp", "nan"]).fails(PROGRAM, 2, &["temperature"]);
    run("generate", &["-p", "x", "--stop", ""]).fails(PROGRAM, 2, &["stop", "empty"]);
    run("generate", &["-p", "x", "-n", "-3"]).fails(PROGRAM, 2, &["--n-predict", "-3"]);
    run("generate", &["-p", "x", "-c", "513"]).fails(PROGRAM, 2, &["--ctx-size", "513", "512"]);
    run("generate", &["-p", "x", "--greedy", "--top-k", "3"]).fails(PROGRAM, 2, &["--greedy", "--top-k"]);
    run("generate", &["-p", "x", "--isa", "abacus"]).fails(PROGRAM, 2, &["abacus", "scalar"]);
    run("generate", &["-p", "x", "--kv", "q8"]).fails(PROGRAM, 2, &["q8", "f16 or q8_0 or f32"]);
    run("perplexity", &["-f", &heldout(), "--stride", "9"]).fails(PROGRAM, 2, &["--stride", "hf-stride"]);
    run("perplexity", &["-f", &heldout(), "-c", "1024"]).fails(PROGRAM, 2, &["1024", "512"]);
    run("perplexity", &["-f", &heldout(), "--chunks", "0"]).fails(PROGRAM, 2, &["--chunks"]);
    run("info", &["--threads", "1025"]).fails(PROGRAM, 2, &["--threads", "1025", "1024"]);
    run("tokenize", &["--decode", "17 4095"]).fails(PROGRAM, 2, &["4095"]);
}

#[test]
fn bad_data_exits_with_65() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = fs::read(gguf("Q8_0")).unwrap();
    let damaged = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        run_model(Path::new("."), ["generate", path.to_str().unwrap(), "-p", "x", "-n", "1"])
    };
    damaged("short.gguf", &bytes[..bytes.len() / 2]).fails(PROGRAM, 65, &["short.gguf"]);
    damaged("text.gguf", b"<!DOCTYPE html>").fails(PROGRAM, 65, &["text.gguf", "GGUF"]);
    damaged("empty.gguf", b"").fails(PROGRAM, 65, &["empty.gguf"]);
    // A tokenizer that is not the one of the token list.
    let mut renamed = bytes.clone();
    let at = bytes.windows(13).position(|w| w == b"<|endoftext|>").unwrap();
    renamed[at + 2] = b'E';
    damaged("renamed.gguf", &renamed).fails(PROGRAM, 65, &["renamed.gguf", "<|endoftext|>"]);
    let folder = checkpoint();
    run_model(Path::new("."), ["info", folder.to_str().unwrap()]).fails(PROGRAM, 65, &["pythia-quant convert"]);
    run("generate", &["-f", &heldout()]).fails(PROGRAM, 65, &["heldout.txt", "86110 tokens", "512"]);
    run("perplexity", &["-p", "short"]).fails(PROGRAM, 65, &["--prompt", "1024"]);
    let model = gguf("Q8_0");
    with_input(&["tokenize", model.to_str().unwrap()], b"ab\xffc").fails(PROGRAM, 65, &["standard input", "byte 2"]);
}

#[test]
fn refusals_of_the_system_exit_with_74() {
    run_model(Path::new("."), ["info", "no/such.gguf"]).fails(PROGRAM, 74, &["no/such.gguf"]);
    run("generate", &["-f", "no-such-text"]).fails(PROGRAM, 74, &["no-such-text"]);
    run("perplexity", &["-f", &heldout(), "--nll-out", "no/such/nll"]).fails(PROGRAM, 74, &["no/such"]);
}

/// A pipe that nobody writes to would keep a program that opens it waiting.
#[cfg(unix)]
#[test]
fn a_missing_gpu_is_an_error_and_auto_does_without() {
    let model = gguf("Q8_0");
    let model = model.to_str().unwrap();
    run_model(Path::new("."), ["info", model, "--device", "gpu"]).fails(PROGRAM, 2, &["'gpu'", "cuda:N"]);
    run_model(Path::new("."), ["info", model, "--device", "cuda:99"]).fails(PROGRAM, 74, &[]);
    let outcome = run("generate", &["-p", "The borrow checker", "-n", "8", "--device", "auto"]);
    assert!(outcome.stderr.starts_with("device: "), "{outcome:?}");
    assert_eq!(outcome.ok(), run("generate", &["-p", "The borrow checker", "-n", "8"]).ok());
}

#[test]
fn pipes_are_refused_as_models_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let pipe = pipe.to_str().unwrap();
    for args in [&["info", pipe][..], &["tokenize", pipe, "-p", "x"], &["bench", "-m", pipe]] {
        run_model(Path::new("."), args).fails(PROGRAM, 74, &[pipe, "not a regular file"]);
    }
    let quant =
        |args: &[&str]| common::quant(dir.path(), args).fails("pythia-quant", 74, &[pipe, "not a regular file"]);
    quant(&["inspect", pipe]);
    quant(&["convert", pipe, "-t", "Q8_0"]);
    quant(&["compare", pipe, "-f", &heldout()]);
    quant(&["compare", checkpoint().to_str().unwrap(), pipe, "-f", &heldout()]);
}

/// Every command that reads a text reads a pipe, and says the same as of a file.
#[test]
fn texts_come_from_pipes_too() {
    let dir = tempfile::tempdir().unwrap();
    let text: String = fs::read_to_string(heldout()).unwrap().chars().take(20_000).collect();
    fs::write(dir.path().join("file"), &text).unwrap();
    assert!(Command::new("mkfifo").arg(dir.path().join("pipe")).status().unwrap().success());
    let (model, other) = (gguf("F32"), gguf("Q8_0"));
    let [model, other] = [&model, &other].map(|path| path.to_str().unwrap());
    let same = |program: fn(&Path, Vec<&str>) -> Outcome, args: &[&str], interesting: fn(Value) -> Value| {
        let whole = |name: &str, stderr: &str| {
            let outcome = program(dir.path(), [args, &["-f", name]].concat());
            assert!(outcome.stderr.contains(stderr), "{outcome:?}");
            interesting(json(outcome))
        };
        let from_file = whole("file", "");
        let from_pipe = std::thread::scope(|scope| {
            scope.spawn(|| fs::write(dir.path().join("pipe"), &text).unwrap());
            whole("pipe", "")
        });
        assert_eq!(from_file, from_pipe, "{args:?}");
    };
    let run: fn(&Path, Vec<&str>) -> Outcome = |folder, args| run_model(folder, args);
    let quant: fn(&Path, Vec<&str>) -> Outcome = |folder, args| common::quant(folder, args);
    same(run, &["tokenize", other, "--json"], |json| json);
    same(run, &["perplexity", other, "-c", "64", "--json"], |json| json["perplexity"].clone());
    let chunks = ["imatrix", other, "-c", "64", "--chunks", "3", "--force", "--json"];
    same(quant, &chunks, |json| json["tensors"].clone());
    let compare = ["compare", model, other, "-c", "64", "--chunks", "3", "--force", "--json"];
    same(quant, &compare, |json| json["levels"][1]["against_base"].clone());
    same(quant, &compare, |json| json["protocol"]["text_sha256"].clone());
    let prompt = with_input(&["generate", other, "-n", "3", "-f", "-", "--json"], b"The borrow checker\n");
    assert_eq!(json(prompt)["prompt_ids"].as_array().unwrap().len(), 4);
    let folder = dir.path().to_str().unwrap();
    run_model(dir.path(), ["perplexity", other, "-f", folder]).fails(PROGRAM, 74, &[folder, ": a folder"]);
}

/// What an editor adds changes what the model reads: that is said, and undone where asked.
#[test]
fn byte_order_marks_and_line_ends_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let text: String = fs::read_to_string(heldout()).unwrap().chars().take(6_000).collect();
    let forms = [("unix", text.clone()), ("mark", format!("\u{feff}{text}")), ("crlf", text.replace('\n', "\r\n"))];
    let model = gguf("Q8_0");
    let perplexity = |name: &str, more: &[&str]| {
        let args = ["perplexity", model.to_str().unwrap(), "-c", "64", "--json", "-f", name];
        run_model(dir.path(), args.iter().chain(more))
    };
    for (name, text) in &forms {
        fs::write(dir.path().join(name), text).unwrap();
        let (plain, unix) = (perplexity(name, &[]), perplexity(name, &["--unix-text"]));
        let warned = plain.stderr.contains("--unix-text removes this");
        assert_eq!(warned, *name != "unix", "{plain:?}");
        assert_eq!(plain.stderr.contains("byte order mark"), *name == "mark");
        assert_eq!(plain.stderr.contains("CR LF"), *name == "crlf");
        assert_eq!(unix.stderr, "");
        let (plain, unix, wanted) = (json(plain), json(unix), json(perplexity("unix", &[])));
        assert_eq!(unix["perplexity"], wanted["perplexity"], "{name}");
        assert_eq!(plain["perplexity"] == wanted["perplexity"], *name == "unix");
        let form = &plain["text_form"];
        assert_eq!((&form["byte_order_mark"], &form["left_out"]), (&(*name == "mark").into(), &false.into()));
        assert_eq!(form["crlf_lines"].as_u64().unwrap() > 0, *name == "crlf");
        assert_eq!(unix["text_form"]["left_out"], true);
    }
}

/// Remarks that nobody reads are no reason to fail.
#[test]
fn a_closed_stderr_is_no_error() {
    let model = gguf("Q8_0");
    let model = model.to_str().unwrap();
    for args in [
        &["generate", model, "-p", "The borrow checker", "-n", "4"][..],
        &["bench", "-m", model, "-p", "8", "-n", "2", "-r", "1"],
    ] {
        let mut program = Command::new(PYTHIA_RUN);
        let mut program = program.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(program.stderr.take());
        let output = program.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(!output.stdout.is_empty(), "{args:?}");
    }
}

/// A reader that goes away is no error, and ends the work.
#[test]
fn a_closed_pipe_ends_generation() {
    let model = gguf("Q8_0");
    let mut program = Command::new(PYTHIA_RUN)
        .args(["generate", model.to_str().unwrap(), "-p", "The borrow checker", "-n", "-1", "--ignore-eos"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 4];
    program.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = program.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("interrupted"));
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_the_text_and_leaves_no_file() {
    let interrupt = |id: u32| assert!(Command::new("kill").args(["-INT", &id.to_string()]).status().unwrap().success());
    let model = gguf("F32");
    let start = |args: &[&str]| {
        let mut program = Command::new(PYTHIA_RUN);
        program.args(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    };
    // One thread of scalar code: the whole context would take long.
    let slow = ["-t", "1", "--isa", "scalar"];
    let args = ["generate", model.to_str().unwrap(), "-p", "The borrow checker", "-n", "-1", "--ignore-eos", "-q"];
    let mut program = start(&[&args[..], &slow].concat());
    let mut stdout = program.stdout.take().unwrap();
    let mut text = vec![0; 4];
    stdout.read_exact(&mut text).unwrap();
    interrupt(program.id());
    stdout.read_to_end(&mut text).unwrap();
    assert_eq!(program.wait().unwrap().code(), Some(130));
    assert!(text.starts_with(b" is that") && text.ends_with(b"\n"), "{:?}", String::from_utf8_lossy(&text));

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("nll");
    let args = ["perplexity", model.to_str().unwrap(), "-f", &heldout(), "--nll-out", file.to_str().unwrap()];
    let mut program = start(&[&args[..], &slow].concat());
    // Its temporary file shows that the work, and so the handler, has begun.
    while common::names(dir.path()).is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    interrupt(program.id());
    assert_eq!(program.wait().unwrap().code(), Some(130));
    assert_eq!(common::names(dir.path()), [""; 0], "nothing is left behind");
}
