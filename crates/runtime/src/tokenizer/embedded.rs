//! A tokenizer from the `tokenizer.json` that a file embeds.
//!
//! The `tokenizers` crate trusts what it reads: a normalizer without its table, or a merge longer than every token,
//! makes it panic. So the parts that decide about ids are checked here first, and those that do not are taken out.

use super::merges::check_merge;
use super::{fault, one_line};
use crate::Error;
use pythia_gguf::keys;
use serde_json::{Value, json};
use tokenizers::Tokenizer;

/// Reads `tokenizer.json`: a byte-level BPE.
pub(super) fn tokenizer(text: &str) -> Result<Tokenizer, Error> {
    let mut tree: Value = serde_json::from_str(text).map_err(|e| wrong(one_line(&e)))?;
    if !tree.is_object() {
        return Err(wrong("no JSON object".to_owned()));
    }
    if !tree["normalizer"].is_null() {
        let name = check_type(&tree, "normalizer", &["NFC", "NFD", "NFKC", "NFKD"])?;
        tree["normalizer"] = json!({ "type": name });
    }
    check_type(&tree, "pre_tokenizer", &["ByteLevel"])?;
    check_type(&tree, "decoder", &["ByteLevel"])?;
    check_type(&tree, "model", &["BPE"])?;
    check_model(&tree["model"])?;
    // What a training script left behind there would silently shorten or lengthen every text; and templates only add
    // special tokens, which nobody here asks for.
    for key in ["truncation", "padding", "post_processor"] {
        tree[key] = Value::Null;
    }
    serde_json::from_value(tree).map_err(|e| wrong(one_line(&e)))
}

/// The type of a part of the pipeline, if it is one of these.
fn check_type(tree: &Value, part: &str, supported: &[&'static str]) -> Result<&'static str, Error> {
    let found = &tree[part]["type"];
    let known = supported.iter().find(|&name| found == name);
    known.copied().ok_or_else(|| wrong(format!("{part} has type {found}, wanted {}", supported.join(" or "))))
}

fn check_model(model: &Value) -> Result<(), Error> {
    // Dropout would make ids random, the others are not part of any byte-level vocabulary.
    for key in ["dropout", "continuing_subword_prefix", "end_of_word_suffix"] {
        let value = &model[key];
        if !value.is_null() && value != "" {
            return Err(wrong(format!("model has {key} {value}, wanted none")));
        }
    }
    let vocab = model["vocab"].as_object().ok_or_else(|| wrong("model has no vocab".to_owned()))?;
    let merges = model["merges"].as_array().ok_or_else(|| wrong("model has no merges".to_owned()))?;
    for (i, merge) in merges.iter().enumerate() {
        // Two spellings: "left right", and since 2024 ["left", "right"].
        let pair = match merge {
            Value::String(text) => text.split_once(' '),
            Value::Array(pair) => match &pair[..] {
                [Value::String(left), Value::String(right)] => Some((left.as_str(), right.as_str())),
                _ => None,
            },
            _ => None,
        };
        check_merge(pair, |token| vocab.contains_key(token))
            .map_err(|problem| wrong(format!("merge {i}: {problem}")))?;
    }
    Ok(())
}

fn wrong(problem: String) -> Error {
    fault(keys::HUGGINGFACE_JSON, problem)
}
