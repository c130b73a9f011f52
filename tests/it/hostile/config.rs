//! config.json and tokenizer.json.

use super::Case;
use super::checkpoint::{Weights, config, tokenizer, valid};
use super::write;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

const CONVERT: &str = "pythia-quant convert . -t Q8_0 -o out.gguf";
const DRY_RUN: &str = "pythia-quant convert . -t Q8_0 -o out.gguf --dry-run";

pub(crate) const VALID: &[Case] = &[
    Case { command: DRY_RUN, ..case("C", "valid", valid, "") },
    Case {
        command: DRY_RUN,
        ..case("C11", "merges as texts", |f| tokens(f, |t| t["model"]["merges"] = json!(["h e"])), "")
    },
    // It is left out, with a warning.
    Case {
        command: DRY_RUN,
        ..case("C12", "added token past the end", |f| tokens(f, |t| t["added_tokens"][0]["id"] = json!(258)), "")
    },
    Case { command: DRY_RUN, ..case("C3", "Transformers 5", |f| set(f, "rope_parameters", rope(0.25)), "") },
    Case {
        command: "pythia-quant convert . -t F16 -o out.gguf --allow-nonfinite --dry-run",
        ..case("C13", "NaN allowed", |f| value(f, NAN), "")
    },
];

#[rustfmt::skip] // a table
pub(crate) const CASES: &[Case] = &[
    case("C1", "config not JSON", |f| text(f, "config.json", "{]"), "config.json: "),
    case("C1", "config empty", |f| text(f, "config.json", ""), "config.json: "),
    case("C1", "config a list", |f| text(f, "config.json", "[]"), "config.json: "),
    case("C1", "config of 2 MB", |f| text(f, "config.json", &" ".repeat(2 << 20)), "at most 1048576 are read"),
    case("C1", "config nested", |f| text(f, "config.json", &"[".repeat(100_000)), "config.json: "),
    case("C1", "config with a key twice", |f| text(f, "config.json", r#"{"a":1,"a":2}"#), "\"a\" comes twice"),
    case("C1", "tokenizer not JSON", |f| text(f, "tokenizer.json", "{]"), "tokenizer.json: "),
    case("C2", "another model", |f| set(f, "model_type", "llama"), "model_type: \"llama\", wanted \"gpt_neox\""),
    case("C3", "rotary shares disagree", |f| set(f, "rope_parameters", rope(0.5)), "rotary_pct"),
    case("C4", "linear rope without a factor", |f| set(f, "rope_scaling", json!({"type": "linear"})), "\"linear\", but there is no factor"),
    case("C4", "yarn rope", |f| set(f, "rope_parameters", json!({"rope_type": "yarn"})), "\"yarn\" is not supported"),
    case("C4", "dynamic rope", |f| set(f, "rope_scaling", json!({"rope_type": "dynamic"})), "\"dynamic\" is not supported"),
    case("C5", "unknown activation", |f| set(f, "hidden_act", "swish"), "hidden_act: \"swish\" is not supported"),
    case("C6", "attention without biases", |f| set(f, "attention_bias", false), "is there, but attention_bias is false"),
    case("C7", "no output matrix", |f| weights(f, without_head), "embed_out.weight or lm_head.weight is missing"),
    case("C8", "feed-forward width", |f| set(f, "intermediate_size", 128), "wanted [128, 32]"),
    case("C8", "layers too many", |f| set(f, "num_hidden_layers", 2), "gpt_neox.layers.1."),
    case("C8", "layers without number", |f| set(f, "num_hidden_layers", 1u64 << 40), "num_hidden_layers"),
    case("C8", "vocabulary", |f| set(f, "vocab_size", 259), "vocab_size: 259, but gpt_neox.embed_in.weight has shape [258, 32]"),
    case("C9", "number as text", |f| set(f, "hidden_size", "32"), "hidden_size: "),
    case("C9", "1e400", |f| replaced(f, "0.00001", "1e400"), "config.json: "),
    case("C9", "-1", |f| set(f, "vocab_size", -1), "vocab_size: "),
    case("C9", "half", |f| set(f, "num_attention_heads", 1.5), "num_attention_heads: "),
    case("C10", "not BPE", |f| tokens(f, |t| t["model"] = json!({"type": "WordPiece"})), "\"WordPiece\", wanted \"BPE\""),
    case("C10", "another normalizer", |f| tokens(f, |t| t["normalizer"] = json!({"type": "NFKC"})), "normalizer: \"NFKC\" is not supported"),
    case("C10", "another pre_tokenizer", |f| tokens(f, |t| t["pre_tokenizer"] = json!({"type": "Whitespace"})), "pre_tokenizer: \"Whitespace\""),
    case("C10", "no pre_tokenizer", |f| tokens(f, |t| t["pre_tokenizer"] = Value::Null), "pre_tokenizer: none is not supported"),
    case("C11", "merges of both kinds", |f| tokens(f, |t| t["model"]["merges"] = json!([["h", "e"], "h e"])), "1 of 2 are pairs"),
    case("C12", "added token takes an id", |f| tokens(f, |t| t["added_tokens"][0]["id"] = json!(5)), "both have id 5"),
    case("C12", "a piece past the end", |f| tokens(f, |t| t["model"]["vocab"]["he"] = json!(258)), "has id 258, but vocab_size is 258"),
    case("C12", "added token past u32", |f| tokens(f, |t| t["added_tokens"][0]["id"] = json!(1u64 << 32)), "tokenizer.json: "),
    case("C13", "NaN", |f| value(f, NAN), "not finite"),
    case("C13", "infinity", |f| value(f, 0x7c00), "not finite"),
];

const NAN: u16 = 0x7e00;

const fn case(id: &'static str, name: &'static str, build: fn(&Path), wanted: &'static str) -> Case {
    Case { id, name, build, command: CONVERT, wanted }
}

fn text(folder: &Path, name: &str, text: &str) {
    valid(folder);
    write(folder, name, text);
}

fn set(folder: &Path, key: &str, value: impl Into<Value>) {
    let mut config = config();
    config[key] = value.into();
    text(folder, "config.json", &config.to_string());
}

fn replaced(folder: &Path, from: &str, to: &str) {
    let config = config().to_string();
    assert!(config.contains(from), "no {from} in {config}");
    text(folder, "config.json", &config.replace(from, to));
}

fn rope(share: f64) -> Value {
    json!({"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": share})
}

fn tokens(folder: &Path, change: impl FnOnce(&mut Value)) {
    let mut tokenizer = tokenizer();
    change(&mut tokenizer);
    text(folder, "tokenizer.json", &tokenizer.to_string());
}

fn weights(folder: &Path, change: impl FnOnce(&mut Weights)) {
    valid(folder);
    let mut weights = Weights::tiny();
    change(&mut weights);
    fs::write(folder.join("model.safetensors"), weights.bytes()).expect("a file");
}

/// One weight of these bits.
fn value(folder: &Path, bits: u16) {
    weights(folder, |w| w.data[2000..2002].copy_from_slice(&bits.to_le_bytes()));
}

/// The output matrix is the last tensor of the file.
fn without_head(weights: &mut Weights) {
    let entry = weights.header.remove("embed_out.weight").expect("the output matrix");
    weights.data.truncate(entry["data_offsets"][0].as_u64().expect("an offset") as usize);
}
