//! A tokenizer with Pythia's pipeline and next to no merges: every text can be encoded, mostly byte by byte.

use pythia_tokenizer::byte_char;
use serde_json::{Map, Value, json};

/// Token 0, which Pythia uses for everything special.
const END_OF_TEXT: &str = "<|endoftext|>";
const PADDING: &str = "<|padding|>";
/// A few real merges, so that merging is exercised.
const MERGES: &[(&str, &str)] = &[("Ġ", "t"), ("Ġ", "a"), ("h", "e"), ("i", "n"), ("Ġt", "he"), ("in", "g")];
/// Runs of spaces are added tokens, longest first, as in Pythia's.
const LONGEST_SPACE_RUN: usize = 24;

/// The text of a `tokenizer.json` with ids below `n_vocab`.
pub(crate) fn small(n_vocab: usize) -> Result<String, String> {
    let mut vocab = Map::new();
    let mut bytes: Vec<char> = (0..=u8::MAX).map(byte_char).collect();
    bytes.sort_unstable();
    let specials = [END_OF_TEXT, PADDING].map(str::to_owned).into_iter();
    let merged = MERGES.iter().map(|(left, right)| format!("{left}{right}"));
    for (id, piece) in specials.chain(bytes.iter().map(char::to_string)).chain(merged).enumerate() {
        vocab.insert(piece, json!(id));
    }
    let added = |id: usize, content: &str, special: bool| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": !special, "special": special,
        })
    };
    let n_pieces = vocab.len();
    let runs = (2..=LONGEST_SPACE_RUN).rev().enumerate().map(|(i, n)| added(n_pieces + i, &" ".repeat(n), false));
    let added: Vec<Value> = [added(0, END_OF_TEXT, true), added(1, PADDING, true)].into_iter().chain(runs).collect();
    let n_tokens = n_pieces + added.len() - 2;
    if n_vocab < n_tokens {
        return Err(format!("a vocabulary of {n_vocab} is too small, the tokenizer needs {n_tokens}"));
    }
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let merges: Vec<Value> = MERGES.iter().map(|(left, right)| json!([left, right])).collect();
    let document = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": byte_level,
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": merges,
        },
    });
    Ok(document.to_string())
}

/// The text of its `tokenizer_config.json`.
pub(crate) fn small_config() -> String {
    let config = json!({
        "add_prefix_space": false, "bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "unk_token": END_OF_TEXT,
        "tokenizer_class": "GPTNeoXTokenizer",
    });
    format!("{config:#}\n")
}
