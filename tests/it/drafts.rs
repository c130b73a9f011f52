//! Generation with drafts, and several texts at once: always the texts that are written one by one.

mod limits;

use crate::common::{self, Outcome, checkpoint, data, gguf, quant, run_model, scratch};
use pythia_model::{ContextShape, Model, Options};
use pythia_runtime::draft::{DraftLength, DraftSource, DraftStats, Drafting};
use pythia_runtime::{GenerateOptions, Generation, Rng, Sampling, Tokenizer, generate};
use serde_json::{Value, json};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const PROGRAM: &str = "pythia-run";

/// A smaller model of the same family, trained for a while.
fn draft() -> PathBuf {
    static CONVERTING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = CONVERTING.lock().unwrap_or_else(PoisonError::into_inner);
    let (folder, path) = (scratch().join("draft"), scratch().join("pythia-docs-1m-Q8_0.gguf"));
    if !path.exists() {
        fs::create_dir_all(&folder).unwrap();
        let steps = data("pythia-docs-1m-steps");
        fs::copy(steps.join("step1500/model.safetensors"), folder.join("model.safetensors")).unwrap();
        fs::copy(steps.join("config.json"), folder.join("config.json")).unwrap();
        for name in ["tokenizer.json", "tokenizer_config.json"] {
            fs::copy(checkpoint().join(name), folder.join(name)).unwrap();
        }
        let (folder, path) = (folder.to_str().unwrap(), path.to_str().unwrap());
        quant(scratch(), ["convert", folder, "-t", "Q8_0", "-q", "--force", "-o", path]).ok();
    }
    path
}

fn run(args: &[&str]) -> Outcome {
    let model = gguf("Q8_0");
    run_model(Path::new("."), [&["generate", model.to_str().unwrap()], args].concat())
}

fn json_of(args: &[&str]) -> Value {
    serde_json::from_str(&run(&[args, &["--json"]].concat()).ok()).unwrap()
}

struct Pair {
    model: Arc<Model>,
    tokenizer: Arc<Tokenizer>,
    sources: Vec<DraftSource>,
}

fn open(path: &Path) -> (Arc<Model>, Tokenizer) {
    let model = Model::open(path, &Options { threads: 1, ..Options::default() }).unwrap();
    let tokenizer = Tokenizer::from_gguf(&model.gguf().metadata).unwrap();
    (model, tokenizer)
}

impl Pair {
    /// The shipped model; what drafts for it is the smaller one, the text, and the model itself at two bits.
    fn new() -> Self {
        let (model, tokenizer) = open(&gguf("Q8_0"));
        let of = |path: &Path| {
            let (draft, own) = open(path);
            DraftSource::model(draft, &own, &tokenizer).unwrap()
        };
        let sources = vec![of(&draft()), DraftSource::Lookup, of(&gguf("Q2_K"))];
        Self { model, tokenizer: Arc::new(tokenizer), sources }
    }

    fn generate(&self, prompt: &[u32], options: &GenerateOptions) -> (Generation, Vec<String>) {
        let n_ctx = options.n_ctx(prompt.len(), self.model.hparams().n_ctx);
        let mut context = self.model.context(ContextShape { n_seq: 1, n_ctx, n_batch: 64 }).unwrap();
        let mut pieces = Vec::new();
        let mut on_text = |piece: &str| {
            pieces.push(piece.to_owned());
            ControlFlow::Continue(())
        };
        let text = generate(&mut context, &self.tokenizer, prompt, options, &mut on_text).unwrap();
        (text, pieces)
    }

    /// Settings of any kind, and a stretch of the held-out text.
    fn any(&self, rng: &mut Rng, text: &[u32]) -> (Vec<u32>, GenerateOptions) {
        let mut below = |n: usize| (rng.next_u64() % n as u64) as usize;
        let (start, len) = (below(text.len() - 80), 1 + below(60));
        let sampling = Sampling {
            temperature: [0.0, 0.0, 0.3, 0.8, 1.0, 1.5][below(6)],
            top_k: [0, 0, 5, 40][below(4)],
            top_p: [1.0, 0.95, 0.5][below(3)],
            min_p: [0.0, 0.0, 0.05][below(3)],
            repetition_penalty: [1.0, 1.0, 1.3][below(3)],
            penalty_tokens: [None, Some(8)][below(2)],
            presence_penalty: [0.0, 0.0, 0.4][below(3)],
            frequency_penalty: [0.0, 0.0, 0.2][below(3)],
            seed: below(1000) as u64,
        };
        let stop = [&[][..], &[], &[" the"], &[".\n", "ing t"]][below(4)].iter().map(|&stop| stop.to_owned());
        let options = GenerateOptions {
            max_new_tokens: Some(1 + below(28)),
            stop: stop.collect(),
            ignore_eos: below(2) == 0,
            sampling,
            ..GenerateOptions::default()
        };
        (text[start..start + len].to_vec(), options)
    }
}

#[test]
fn two_hundred_texts_are_the_same_with_and_without_a_draft() {
    let pair = Pair::new();
    let heldout = fs::read_to_string(checkpoint().join("heldout.txt")).unwrap();
    let text = pair.tokenizer.encode(&heldout[..20_000]).unwrap();
    let (mut rng, mut all) = (Rng::new(20), vec![DraftStats::default(); pair.sources.len()]);
    for i in 0..200 {
        let (prompt, options) = pair.any(&mut rng, &text);
        let (plain, pieces) = pair.generate(&prompt, &options);
        let n = i % 16 + 1;
        let source = i % pair.sources.len();
        let length = DraftLength::new(if i % 5 == 0 { 0 } else { n }, n).unwrap();
        let draft = Some(Drafting { source: pair.sources[source].clone(), length });
        let (drafted, same) = pair.generate(&prompt, &GenerateOptions { draft, ..options.clone() });
        assert_eq!((&drafted.ids, &drafted.text), (&plain.ids, &plain.text), "{i}: {options:?}");
        assert_eq!((&drafted.finish, same), (&plain.finish, pieces), "{i}: {options:?}");
        all[source] += drafted.timings.draft;
    }
    for (stats, least) in all.iter().zip([0.05, 0.05, 0.1]) {
        assert!(stats.drafted > 100 && stats.acceptance() > least, "{all:?}");
    }
}

/// The two contexts are equally long and end together.
#[test]
fn a_text_may_fill_the_context() {
    let pair = Pair::new();
    let prompt = pair.tokenizer.encode("The borrow checker").unwrap();
    let options = GenerateOptions { max_new_tokens: None, ignore_eos: true, ..GenerateOptions::default() };
    let (plain, _) = pair.generate(&prompt, &options);
    assert_eq!(plain.finish.name(), "context");
    for source in &pair.sources {
        let length = DraftLength::new(7, 7).unwrap();
        let draft = Some(Drafting { source: source.clone(), length });
        let (drafted, _) = pair.generate(&prompt, &GenerateOptions { draft, ..options.clone() });
        assert_eq!((drafted.ids, drafted.finish), (plain.ids.clone(), plain.finish.clone()));
    }
}

#[test]
fn the_program_writes_the_same_and_tells_of_drafts() {
    let common = ["-p", "The borrow checker", "-n", "40", "--temp", "0.7", "--seed", "3"];
    let plain = json_of(&common);
    assert_eq!(plain["draft"], Value::Null);
    let file = draft();
    let file = file.to_str().unwrap();
    for draft in
        [&["--draft", file][..], &["--draft", "lookup", "--draft-min", "2"], &["-md", file, "--draft-max", "3"]]
    {
        let found = json_of(&[&common, draft].concat());
        assert_eq!((&found["ids"], &found["text"]), (&plain["ids"], &plain["text"]), "{draft:?}");
        let number = |name: &str| found["draft"][name].as_u64().unwrap();
        assert!(number("accepted_tokens") <= number("drafted_tokens"), "{found}");
    }
    let told = run(&[&common[..], &["--draft", file, "--draft-min", "4"]].concat());
    assert!(told.stderr.contains("drafted: ") && told.stderr.contains("accepted ("), "{told:?}");

    let refused = |args: &[&str], code: i32, parts: &[&str]| run(args).fails(PROGRAM, code, parts);
    refused(&["-p", "x", "--draft", "nowhere.gguf"], 74, &["nowhere.gguf"]);
    refused(&["-p", "x", "--draft-max", "3"], 2, &["--draft"]);
    refused(
        &["-p", "x", "--draft", "lookup", "--draft-min", "9", "--draft-max", "3"],
        2,
        &["draft length: ", "9", "3"],
    );
}

/// A draft whose tokens mean something else.
#[test]
fn a_draft_with_another_vocabulary_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir_all(&source).unwrap();
    let steps = data("pythia-docs-1m-steps");
    fs::copy(steps.join("step0/model.safetensors"), source.join("model.safetensors")).unwrap();
    fs::copy(steps.join("config.json"), source.join("config.json")).unwrap();
    fs::copy(checkpoint().join("tokenizer_config.json"), source.join("tokenizer_config.json")).unwrap();
    let tokenizer = fs::read_to_string(checkpoint().join("tokenizer.json")).unwrap();
    let mut tokenizer: Value = serde_json::from_str(&tokenizer).unwrap();
    // Two tokens of one byte change places.
    let vocab = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    let (a, b) = (vocab["a"].clone(), vocab["b"].clone());
    (vocab["a"], vocab["b"]) = (b, a);
    fs::write(source.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    quant(folder.path(), ["convert", "source", "-t", "Q8_0", "-q", "-o", "other.gguf"]).ok();
    let other = folder.path().join("other.gguf");
    run(&["-p", "x", "--draft", other.to_str().unwrap()]).fails(
        PROGRAM,
        65,
        &["other.gguf: draft: found another text for token "],
    );
}

#[test]
fn samples_have_the_texts_of_their_seeds() {
    let common = ["-p", "The borrow checker", "-n", "16", "--temp", "0.9", "-q"];
    let alone: Vec<Value> =
        (7..12).map(|seed| json_of(&[&common[..], &["--seed", &seed.to_string()]].concat())).collect();
    let all = run(&[&common[..], &["--seed", "7", "-N", "5", "--json"]].concat()).ok();
    let all: Vec<Value> = all.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(all.len(), 5);
    for (seed, (found, wanted)) in (7..).zip(all.iter().zip(&alone)) {
        assert_eq!((&found["seed"], &found["text"]), (&json!(seed), &wanted["text"]));
        assert_eq!((&found["ids"], &found["finish"]), (&wanted["ids"], &wanted["finish"]));
    }
    // Seeds have 64 bits, as those of the server.
    let largest = u64::MAX.to_string();
    let around = run(&[&common[..], &["--seed", &largest, "-N", "2", "--json"]].concat()).ok();
    for (line, seed) in around.lines().zip([u64::MAX, 0]) {
        let found: Value = serde_json::from_str(line).unwrap();
        let alone = json_of(&[&common[..], &["--seed", &seed.to_string()]].concat());
        assert_eq!((&found["seed"], &found["ids"]), (&json!(seed), &alone["ids"]));
    }
    for seed in ["18446744073709551616", "-2", "x"] {
        run(&["-p", "x", "--seed", seed]).fails(PROGRAM, 2, &["--seed", seed, "wanted a whole number from 0 to"]);
    }
    let prose = run(&[&common[..], &["--seed", "7", "-N", "5"]].concat()).ok();
    let wanted = alone.iter().enumerate().map(|(i, text)| {
        let text = text["text"].as_str().unwrap();
        let end = if text.ends_with('\n') { "" } else { "\n" };
        format!("--- sample {}, seed {} ---\n{text}{end}", i + 1, i + 7)
    });
    assert_eq!(prose, wanted.collect::<String>());
}

/// The same texts, and the drafts of all in one line.
#[test]
fn samples_with_a_draft_tell_of_it_together() {
    let common = ["-p", "The borrow checker", "-n", "24", "--temp", "0.9", "-N", "3"];
    let plain = run(&[&common[..], &["-q"]].concat()).ok();
    let file = draft();
    let file = file.to_str().unwrap();
    // In any case 2 tokens for each pass but the first and the last of each text.
    let always = run(&[&common[..], &["--draft", file, "--draft-min", "2", "--draft-max", "2"]].concat());
    let numbers = always.stderr.split_once("drafted: ").expect("a line about drafts").1;
    let drafted: usize = numbers.split(' ').next().unwrap().parse().unwrap();
    assert!(drafted > 2 * 24, "more than one text can have: {always:?}");
    assert_eq!(always.ok(), plain);
    let seldom = run(&[&common[..], &["--draft", file]].concat());
    assert!(seldom.stderr.contains("drafted: ") || seldom.stderr.contains("no drafts"), "{seldom:?}");
    assert_eq!(seldom.ok(), plain);
    let quiet = run(&[&common[..], &["--draft", "lookup", "-q"]].concat());
    assert_eq!((quiet.stderr.as_str(), quiet.stdout.as_str()), ("", plain.as_str()));
}

#[test]
fn a_file_of_prompts_has_a_line_per_text_in_its_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prompts.jsonl");
    let prompts = ["The borrow checker", "A function returns an error if", "Memory is", "The borrow", "x", ""];
    let lines = prompts.map(|prompt| json!({"prompt": prompt, "other": 1}).to_string());
    // A blank line means nothing.
    fs::write(&path, format!("{}\n\n{}\n{}", lines[0], lines[1..].join("\n"), json!({"prompt": [5, 6, 7]}))).unwrap();
    let file = path.to_str().unwrap();
    for more in [&["-n", "12"][..], &["-n", "9", "--temp", "1.1", "--seed", "4", "--parallel", "2"]] {
        let all = run(&[&["--jsonl", file, "-q"][..], more].concat()).ok();
        let all: Vec<Value> = all.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(all.len(), prompts.len() + 1);
        for ((found, prompt), line) in all.iter().zip(prompts).zip([1, 3, 4, 5, 6, 7]) {
            let more: Vec<&str> = more.iter().copied().filter(|arg| !["--parallel", "2"].contains(arg)).collect();
            let wanted = json_of(&[&["-p", prompt][..], &more].concat());
            assert_eq!((&found["text"], &found["line"]), (&wanted["text"], &json!(line)), "{prompt}");
        }
        assert_eq!(all[6]["prompt_tokens"], json!(3));
    }
    let drafted = run(&["--jsonl", file, "-q", "-n", "12", "--draft", "lookup"]).ok();
    assert_eq!(drafted, run(&["--jsonl", file, "-q", "-n", "12"]).ok());

    let wrong = |line: &str, parts: &[&str]| {
        fs::write(&path, format!("{}\n{line}\n", lines[0])).unwrap();
        run(&["--jsonl", file, "-n", "1"]).fails(PROGRAM, 65, &[&["prompts.jsonl: line 2: "], parts].concat());
    };
    wrong("{", &["not the JSON expected"]);
    wrong(r#"{"text": "a"}"#, &["has no field 'prompt'; found 'text'", "--field"]);
    wrong(r#"{"prompt": 3}"#, &["'prompt' is neither a text nor a list of token ids"]);
    wrong(r#"{"prompt": []}"#, &["no token ids in the list"]);
    wrong(r#"{"prompt": [4096]}"#, &["found token id 4096", "below 4096"]);
    wrong(r#"{"prompt": ["a"]}"#, &["something else than token ids"]);
    wrong(&json!({"prompt": "a ".repeat(600)}).to_string(), &["tokens, wanted at most the context's 512"]);
    fs::write(&path, "\n").unwrap();
    assert_eq!(run(&["--jsonl", file, "-n", "1", "-q"]).ok(), "");
}

#[test]
fn bench_sets_a_draft_beside_plain_generation() {
    let model = gguf("Q8_0");
    let file = draft();
    let heldout = checkpoint().join("heldout.txt");
    let args =
        ["bench", "-m", model.to_str().unwrap(), "--draft", file.to_str().unwrap(), "-n", "12", "-r", "1", "--json"];
    let args = [&args[..], &["-f", heldout.to_str().unwrap()]].concat();
    let rows: Value = serde_json::from_str(&run_model(Path::new("."), args).ok()).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 1);
    assert!(rows[0]["plain_ts"].as_f64().unwrap() > 0.0 && rows[0]["draft_ts"].as_f64().unwrap() > 0.0, "{rows}");
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_a_text_with_a_draft() {
    use std::process::{Command, Stdio};
    let (model, file) = (gguf("Q8_0"), draft());
    let mut command = Command::new(common::PYTHIA_RUN);
    command.args([
        "generate",
        model.to_str().unwrap(),
        "-p",
        "The",
        "-n",
        "-1",
        "--ignore-eos",
        "-N",
        "500",
        "--draft",
    ]);
    command.arg(file).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = common::Held::spawn(&mut command);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(child.signal("-INT"));
    let output: Outcome = child.goes_on().wait_with_output().unwrap().into();
    output.stopped(PROGRAM, &["interrupted"]);
}
