//! Files that are small for what they would take to hold: many empty things, long texts in the wrong place. And the most
//! that is accepted, which must fit into the memory of these tests.

use super::checkpoint::{Weights, file, tokenizer, valid};
use super::model::{changed, vocab};
use super::raw::{Raw, array, pair, string, tensor};
use super::{Case, case, write};
use pythia_gguf::{Metadata, keys};
use pythia_tokenizer::TokenKind;
use serde_json::json;
use std::path::Path;

const CONVERT: &str = "pythia-quant convert . -t Q8_0 -o out.gguf";
const DRY_RUN: &str = "pythia-quant convert . -t Q8_0 -o out.gguf --dry-run";
const INSPECT: &str = "pythia-quant inspect m.gguf";
const TOKENIZE: &str = "pythia-run tokenize m.gguf -p hello";
const IMATRIX: &str = "pythia-quant quantize m.gguf out.gguf Q4_K_M --imatrix i.dat";

#[rustfmt::skip] // a table
pub(crate) const VALID: &[Case] = &[
    case("S12", "metadata of 1.4 million texts", |f| header(f, &format!(r#""__metadata__":{{{}"":""}},"#, texts(1_400_000))), DRY_RUN, ""),
    case("C10", "half a million objects in a step", |f| step(f, 500_000), DRY_RUN, ""),
    case("C11", "340,000 merges", |f| merges(f, r#"["h","e"]"#, 340_000), DRY_RUN, ""),
    case("T17", "as many tokens and merges as there may be", |f| changed(f, |m| largest(&mut m.metadata)), TOKENIZE, ""),
    case("T17", "added tokens as long as they may be", |f| added(f, 2, 60_000), TOKENIZE, ""),
];

#[rustfmt::skip] // a table
pub(crate) const CASES: &[Case] = &[
    case("S24", "as many tensors as there may be", |f| header(f, &empty_tensors(65_000)), CONVERT, "is not expected"),
    case("S24", "289,252 empty tensors", |f| header(f, &empty_tensors(289_252)), CONVERT, "more than 65536 tensors"),
    case("S24", "a tensor of 4 million dimensions", |f| header(f, &format!(r#""t":{{"dtype":"F16","shape":[{}0],"data_offsets":[0,0]}},"#, "0,".repeat(4_000_000))), CONVERT, "more than 8 dimensions"),
    case("S25", "an index of 70,000 tensors", |f| index(f, 70_000), CONVERT, "more than 65536 values of JSON"),
    case("S25", "an index of 700,000 tensors", |f| index(f, 700_000), CONVERT, "more than 65536 values of JSON"),
    case("S11", "a tensor with an accent", |f| header(f, r#""caf\u00e9":{"dtype":"F16","shape":[0],"data_offsets":[0,0]},"#), CONVERT, "its name is not plain ASCII"),
    case("C1", "a config of 340,000 objects", |f| { valid(f); write(f, "config.json", format!("{{\"a\":[{}0]}}", "{},".repeat(340_000))) }, CONVERT, "model_type: missing"),
    case("C10", "two million objects", |f| tokens(f, &format!(r#""x":[{}0],"#, "{},".repeat(2_000_000))), CONVERT, "more than 1048576 values of JSON"),
    case("C10", "600,000 objects in a step", |f| step(f, 600_000), CONVERT, "more than 1048576 values of JSON"),
    case("C11", "a million merges", |f| merges(f, r#""h e""#, 1_040_000), CONVERT, "merges': found 1040000, wanted at most 524288"),
    case("C8", "a vocabulary of 300,000 rows", |f| vocabulary(f, 300_000), CONVERT, "300000 rows for a tokenizer, at most 262144"),
    case("C12", "100 added tokens of 60,000 bytes", |f| added_json(f, 100, 60_000), CONVERT, "added tokens of 6000013 bytes"),
    case("C12", "an added token of 65,536 bytes", |f| added_json(f, 1, 65_536), CONVERT, "of 65536 bytes, wanted at most 65535"),
    case("G24", "70,000 pairs", |f| write(f, "m.gguf", pairs(70_000)), INSPECT, "found 70000 metadata pairs, wanted at most 4096"),
    case("G36", "70,000 tensors", |f| write(f, "m.gguf", tensors(70_000)), INSPECT, "found 70000 tensors, wanted at most 65536"),
    case("G27", "six million empty texts", |f| write(f, "m.gguf", empty_texts(6_000_000)), INSPECT, "found too much metadata"),
    case("T17", "a token too many", |f| changed(f, |m| { largest(&mut m.metadata); more_tokens(&mut m.metadata, 1) }), TOKENIZE, "tokens': found 262145, wanted at most 262144"),
    case("T17", "a merge too many", |f| changed(f, |m| { largest(&mut m.metadata); more_merges(&mut m.metadata, 1) }), TOKENIZE, "merges': found 524289, wanted at most 524288"),
    case("T17", "tokens of 12 MB", |f| added(f, 200, 60_000), TOKENIZE, "bytes of text, wanted at most 8388608"),
    case("T17", "100 added tokens of 60,000 bytes", |f| added(f, 100, 60_000), TOKENIZE, "found added tokens of 6000013 bytes"),
    case("T17", "the same, in the embedded tokenizer alone", |f| embedded(f, added_tokens(100, 60_000)), TOKENIZE, "added tokens of 6000013 bytes"),
    case("T17", "an embedded tokenizer of two million objects", |f| embedded(f, format!("{{\"x\":[{}0]}}", "{},".repeat(2_000_000))), TOKENIZE, "more than 1048576 values of JSON"),
    case("T17", "an embedded tokenizer of 9 MB", |f| embedded(f, " ".repeat(9 << 20)), TOKENIZE, "9437184 bytes of JSON, at most 8388608"),
    case("T17", "more merges in the embedded tokenizer", |f| embedded(f, tokenizer_of(|t| t["model"]["merges"] = json!([["h", "e"], ["h", "e"]]))), TOKENIZE, "model has 2 merges"),
    case("T17", "more tokens in the embedded tokenizer", |f| embedded(f, tokenizer_of(|t| t["model"]["vocab"] = many_pieces())), TOKENIZE, "model has 1000 tokens"),
    case("M26", "an importance matrix of 40,000 entries", |f| { changed(f, |_| ()); write(f, "i.dat", dat(40_000)) }, IMATRIX, "wanted an importance matrix"),
];

/// The model with more in its header.
fn header(folder: &Path, more: &str) {
    let weights = Weights::tiny();
    let mut text = weights.text();
    text.insert_str(1, more);
    valid(folder);
    write(folder, "model.safetensors", file(&text, &weights.data));
}

/// Entries of an object, all different.
fn texts(n: usize) -> String {
    (0..n).map(|i| format!(r#""{i:x}":"","#)).collect()
}

fn empty_tensors(n: usize) -> String {
    (0..n).map(|i| format!(r#""{i:x}":{{"dtype":"F16","shape":[0],"data_offsets":[0,0]}},"#)).collect()
}

fn index(folder: &Path, n: usize) {
    valid(folder);
    std::fs::remove_file(folder.join("model.safetensors")).expect("removed");
    write(folder, "model.safetensors.index.json", format!(r#"{{"weight_map":{{{}"":""}}}}"#, texts(n)));
}

/// The tokenizer with more in its file.
fn tokens(folder: &Path, more: &str) {
    let mut text = tokenizer().to_string();
    text.insert_str(1, more);
    valid(folder);
    write(folder, "tokenizer.json", text);
}

/// The tokenizer with `n` objects in its normalizer, where readers look for what they know.
fn step(folder: &Path, n: usize) {
    let text = tokenizer().to_string();
    let from = r#""normalizer":{"#;
    assert!(text.contains(from), "{text}");
    valid(folder);
    write(folder, "tokenizer.json", text.replace(from, &format!("{from}\"x\":[{}0],", "{},".repeat(n))));
}

/// The tokenizer with one merge many times.
fn merges(folder: &Path, merge: &str, n: usize) {
    let text = tokenizer_of(|t| t["model"]["merges"] = json!([]));
    valid(folder);
    let list = vec![merge; n].join(",");
    write(folder, "tokenizer.json", text.replace(r#""merges":[]"#, &format!(r#""merges":[{list}]"#)));
}

fn tokenizer_of(change: impl FnOnce(&mut serde_json::Value)) -> String {
    let mut tokenizer = tokenizer();
    change(&mut tokenizer);
    tokenizer.to_string()
}

/// The tokenizer with `n` more added tokens.
fn added_tokens(n: usize, n_bytes: usize) -> String {
    tokenizer_of(|t| {
        let list = t["added_tokens"].as_array_mut().expect("a list");
        let first = list[0].clone();
        list.extend((0..n).map(|i| {
            let mut token = first.clone();
            token["id"] = json!(258 + i);
            token["content"] = json!(added_text(i, n_bytes));
            token
        }));
    })
}

fn added_text(i: usize, n_bytes: usize) -> String {
    let number = i.to_string();
    "x".repeat(n_bytes - number.len()) + &number
}

/// A checkpoint whose vocabulary has room for them.
fn added_json(folder: &Path, n: usize, n_bytes: usize) {
    vocabulary(folder, 258 + n);
    write(folder, "tokenizer.json", added_tokens(n, n_bytes));
}

fn vocabulary(folder: &Path, n_vocab: usize) {
    valid(folder);
    let mut config = super::checkpoint::config();
    config["vocab_size"] = json!(n_vocab);
    write(folder, "config.json", config.to_string());
    write(folder, "model.safetensors", Weights::of_vocab(n_vocab).bytes());
}

/// Those of the merge, and numbers.
fn many_pieces() -> serde_json::Value {
    let pieces = ["h", "e", "he"].map(str::to_owned).into_iter().chain((3..1000).map(|i: u32| i.to_string()));
    pieces.enumerate().map(|(id, piece)| (piece, json!(id))).collect::<serde_json::Map<_, _>>().into()
}

fn embedded(folder: &Path, json: String) {
    changed(folder, |m| m.metadata.insert(keys::HUGGINGFACE_JSON, json));
}

/// A model with `n` more added tokens in its keys; `tokenize` looks at nothing else.
fn added(folder: &Path, n: usize, n_bytes: usize) {
    changed(folder, |m| {
        let mut vocab = vocab();
        vocab.tokens.extend((0..n).map(|i| added_text(i, n_bytes)));
        vocab.kinds.resize(vocab.tokens.len(), TokenKind::UserDefined);
        let kinds: Vec<i32> = vocab.kinds.iter().map(|kind| kind.id()).collect();
        m.metadata.insert(keys::TOKENS, vocab.tokens);
        m.metadata.insert(keys::TOKEN_TYPE, kinds);
        m.metadata.remove("gptneox.vocab_size");
    });
}

fn extend(metadata: &mut Metadata, key: &str, more: impl Iterator<Item = String>) {
    let mut texts = metadata.strings(key).expect("texts").expect("there").to_vec();
    texts.extend(more);
    metadata.insert(key, texts);
}

fn more_tokens(metadata: &mut Metadata, n: usize) {
    let n_tokens = metadata.strings(keys::TOKENS).expect("texts").expect("there").len();
    extend(metadata, keys::TOKENS, (0..n).map(|i| format!("{:x}", n_tokens + i + (1 << 20))));
    metadata.insert(keys::TOKEN_TYPE, vec![1i32; n_tokens + n]);
}

fn more_merges(metadata: &mut Metadata, n: usize) {
    extend(metadata, keys::MERGES, (0..n).map(|_| "h e".to_owned()));
}

fn largest(metadata: &mut Metadata) {
    metadata.remove("gptneox.vocab_size");
    more_tokens(metadata, (1 << 18) - 258);
    more_merges(metadata, (1 << 19) - 1);
}

fn pairs(n: usize) -> Vec<u8> {
    let pairs = (0..n).map(|i| pair(i.to_string(), 0, &[1])).collect();
    Raw { pairs, ..Raw::empty() }.build()
}

fn tensors(n: usize) -> Vec<u8> {
    let tensors = (0..n).map(|i| tensor(i.to_string(), &[1], 0, 32 * i as u64)).collect();
    Raw { tensors, data: vec![0; 32 * n], ..Raw::empty() }.build()
}

fn empty_texts(n: usize) -> Vec<u8> {
    let texts = array(8, n as u64, &string("").repeat(n));
    Raw { pairs: vec![pair("texts", 9, &texts)], ..Raw::empty() }.build()
}

/// An importance matrix of the old form: names, one chunk, one value each.
fn dat(n: u32) -> Vec<u8> {
    let entry = |i: u32| {
        let name = format!("{i:05}");
        [&5u32.to_le_bytes()[..], name.as_bytes(), &1u32.to_le_bytes(), &1u32.to_le_bytes(), &1f32.to_le_bytes()]
            .concat()
    };
    let entries = (0..n).flat_map(entry);
    n.to_le_bytes().into_iter().chain(entries).collect()
}
