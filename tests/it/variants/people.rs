//! Checkpoints of the forms that people have: the perplexity is what Transformers computes with them, or with the plain
//! checkpoint where it cannot load them; so are the ids of texts.

use crate::common::{checkpoint, data, printed, python, quant, run_model};
use pythia_gguf::{Gguf, keys};
use pythia_runtime::Tokenizer;
use serde::Deserialize;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/variants/people.py");

/// Bytes of the text: some 15 windows of tokens.
const TEXT_BYTES: usize = 5000;

#[derive(Deserialize)]
struct Case {
    folder: PathBuf,
    /// What `convert` needs to be told.
    options: Vec<String>,
    perplexity: f64,
    /// Of every text of the goldens, where the tokenizer is what the case is about.
    ids: Option<Vec<Vec<u32>>>,
}

/// What the Python program says, if there is a Python for it.
fn cases(folder: &Path, text: &Path) -> Option<Vec<Case>> {
    let mut python = python(&["torch", "transformers"])?;
    python.arg(PROGRAM).arg(checkpoint()).arg(text).arg(data("goldens/tokenizer.jsonl")).arg(folder.join("cases"));
    Some(serde_json::from_str(&printed(python.env("HF_HUB_OFFLINE", "1"))).unwrap())
}

#[test]
fn every_form_gives_what_transformers_gives() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text");
    let whole = fs::read_to_string(checkpoint().join("heldout.txt")).unwrap();
    fs::write(&text, whole[..whole.floor_char_boundary(TEXT_BYTES)].trim_end()).unwrap();
    let Some(cases) = cases(dir.path(), &text) else { return };
    assert!(cases.len() >= 20, "{}", cases.len());
    let goldens = fs::read_to_string(data("goldens/tokenizer.jsonl")).unwrap();
    let texts: Vec<Value> = goldens.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for case in &cases {
        let name = case.folder.display();
        let model = dir.path().join("model.gguf");
        let source = case.folder.to_str().unwrap();
        let args = ["convert", source, "-t", "F32", "-o", "model.gguf", "--force"].into_iter();
        quant(dir.path(), args.chain(case.options.iter().map(String::as_str))).ok();
        let args =
            ["perplexity", "model.gguf", "-f", "text", "--protocol", "hf-stride", "-c", "256", "--stride", "128"];
        let exact = ["--activations", "f32", "--kv", "f32", "--json", "-q"];
        let report: Value = serde_json::from_str(&run_model(dir.path(), args.into_iter().chain(exact)).ok()).unwrap();
        let found = report["perplexity"]["value"].as_f64().unwrap();
        let deviation = (found / case.perplexity - 1.0).abs();
        eprintln!("{name}: {found}, Transformers {}, off by {deviation:.1e}", case.perplexity);
        // Written so that NaN fails.
        assert!(deviation <= 1e-5, "{name}: {found}, wanted {}", case.perplexity);
        let Some(ids) = &case.ids else { continue };
        let mut metadata = Gguf::parse(&fs::read(&model).unwrap()).unwrap().metadata;
        check_ids(&format!("{name}, embedded"), &metadata, &texts, ids);
        // The keys of GGUF can say neither that there is no normalizer nor that a token takes the spaces before it.
        if !source.ends_with("gpt2") && !source.ends_with("flags") {
            metadata.remove(keys::HUGGINGFACE_JSON).expect("a tokenizer.json is embedded");
            check_ids(&format!("{name}, by the keys"), &metadata, &texts, ids);
        }
    }
}

fn check_ids(name: &str, metadata: &pythia_gguf::Metadata, texts: &[Value], ids: &[Vec<u32>]) {
    let tokenizer = Tokenizer::from_gguf(metadata).unwrap();
    for (text, wanted) in texts.iter().zip(ids) {
        let text = text["text"].as_str().unwrap();
        assert_eq!(tokenizer.encode(text).unwrap(), *wanted, "{name}: {text:?}");
    }
}
