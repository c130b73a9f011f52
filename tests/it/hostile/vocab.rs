//! Tokenizer keys of GGUF that do not fit together.

use super::Case;
use super::model::{changed, with_key};
use pythia_gguf::{Metadata, Value, keys};
use std::path::Path;

/// Has to tokenize, so it reads every key.
const TOKENIZE: &str = "pythia-run tokenize m.gguf -p hello";
const NONE: Option<Value> = None;

pub(crate) const VALID: &[Case] = &[
    case("T", "valid", |f| changed(f, |_| ()), ""),
    case("T5", "kinds as u8", |f| with_key(f, keys::TOKEN_TYPE, Some(vec![1u8; 258])), ""),
    case("T9", "no merge at all", |f| with_key(f, keys::MERGES, Some(Vec::<String>::new())), ""),
];

#[rustfmt::skip] // a table
pub(crate) const CASES: &[Case] = &[
    case("T1", "no tokens key", |f| with_key(f, keys::TOKENS, NONE), "tokens': found no such key"),
    case("T2", "tokens a text", |f| with_key(f, keys::TOKENS, Some("a b")), "wanted an array of strings"),
    case("T2", "tokens numbers", |f| with_key(f, keys::TOKENS, Some(vec![1u32])), "found array of 1 u32"),
    case("T3", "zero tokens", |f| changed(f, |m| {
        m.metadata.insert(keys::TOKENS, Vec::<String>::new());
        m.metadata.insert(keys::TOKEN_TYPE, Vec::<i32>::new());
    }), "found no tokens"),
    case("T4", "the same text twice", |f| tokens(f, |t| t[10] = "he".into()), "found tokens 10 and 256 both 'he'"),
    case("T5", "kinds as floats", |f| with_key(f, keys::TOKEN_TYPE, Some(vec![1f32; 258])), "found array of 258 f32"),
    case("T6", "a kind too few", |f| kinds(f, |k| k.truncate(257)), "found 257 kinds, wanted 258"),
    case("T6", "a kind too many", |f| kinds(f, |k| k.push(1)), "found 259 kinds, wanted 258"),
    case("T7", "kind 0", |f| kinds(f, |k| k[3] = 0), "found kind 0 of token 3"),
    case("T7", "kind 7", |f| kinds(f, |k| k[3] = 7), "found kind 7 of token 3"),
    case("T8", "scores as u8", |f| with_key(f, keys::SCORES, Some(vec![0u8; 258])), "wanted array of 258 f32"),
    case("T8", "three scores", |f| with_key(f, keys::SCORES, Some(vec![0f32; 3])), "found array of 3 f32"),
    case("T9", "no merges key", |f| with_key(f, keys::MERGES, NONE), "merges': found no such key"),
    case("T10", "merge without a space", |f| merge(f, "he"), "found merge 0, 'he', wanted two pieces"),
    case("T10", "merge of two spaces", |f| merge(f, "h e l"), "found merge 0, 'h e l', wanted two pieces"),
    case("T10", "empty half", |f| merge(f, " e"), "wanted two pieces"),
    case("T11", "merge of an unknown piece", |f| merge(f, "he lo"), "'lo' is none"),
    case("T11", "merge into an unknown piece", |f| merge(f, "e h"), "'eh' is none"),
    case("T12", "bos past the end", |f| with_key(f, keys::BOS, Some(258u32)), "found 258, wanted an id below 258"),
    case("T12", "eos 2^32 - 1", |f| with_key(f, keys::EOS, Some(u32::MAX)), "eos_token_id': found 4294967295"),
    case("T12", "unk past the end", |f| with_key(f, keys::UNK, Some(300u32)), "unknown_token_id': found 300"),
    case("T13", "add a bos there is none of", |f| changed(f, |m| {
        m.metadata.remove(keys::BOS);
        m.metadata.insert(keys::ADD_BOS, true);
    }), "add_bos_token': found true"),
    case("T14", "tokenizer of another kind", |f| with_key(f, keys::TOKENIZER_MODEL, Some("llama")), "found 'llama'"),
    case("T15", "unknown split", |f| with_key(f, keys::TOKENIZER_PRE, Some("llama-bpe")), "found 'llama-bpe'"),
    case("T16", "a byte without a token", |f| tokens(f, |t| t[10] = "x y".into()), "no token for byte 0x0a"),
    case("T17", "a token of 1 GiB, of which little is there", |f| cut_token(f, 1 << 30), "wanted 1073741824 bytes"),
    case("T17", "a token of 64 KiB", |f| tokens(f, |t| t[257] = "x".repeat(65536)), "found token 257 of 65536 bytes"),
    case("T18", "byte token -1", |f| byte_token(f, "<0x-1>"), "'<0x-1>', of kind byte"),
    case("T18", "byte token ZZ", |f| byte_token(f, "<0xZZ>"), "'<0xZZ>', of kind byte"),
];

const fn case(id: &'static str, name: &'static str, build: fn(&Path), wanted: &'static str) -> Case {
    Case { id, name, build, command: TOKENIZE, wanted }
}

fn edit_tokens(metadata: &mut Metadata, edit: impl FnOnce(&mut Vec<String>)) {
    let mut tokens = metadata.strings(keys::TOKENS).expect("strings").expect("tokens").to_vec();
    edit(&mut tokens);
    metadata.insert(keys::TOKENS, tokens);
}

fn edit_kinds(metadata: &mut Metadata, edit: impl FnOnce(&mut Vec<i32>)) {
    let mut kinds = metadata.i32s(keys::TOKEN_TYPE).expect("integers").expect("kinds");
    edit(&mut kinds);
    metadata.insert(keys::TOKEN_TYPE, kinds);
}

fn tokens(folder: &Path, edit: impl FnOnce(&mut Vec<String>)) {
    changed(folder, |m| edit_tokens(&mut m.metadata, edit));
}

fn kinds(folder: &Path, edit: impl FnOnce(&mut Vec<i32>)) {
    changed(folder, |m| edit_kinds(&mut m.metadata, edit));
}

fn merge(folder: &Path, merge: &str) {
    with_key(folder, keys::MERGES, Some(vec![merge.to_owned()]));
}

fn byte_token(folder: &Path, text: &str) {
    changed(folder, |m| {
        edit_tokens(&mut m.metadata, |t| t[257] = text.to_owned());
        edit_kinds(&mut m.metadata, |k| k[257] = 6);
    });
}

/// The first token says it has `n_bytes`.
fn cut_token(folder: &Path, n_bytes: u64) {
    let mut file = super::model::Model::tiny().bytes();
    let key = keys::TOKENS.as_bytes();
    // After the key: the pair's type, the elements' type and their number.
    let at = file.windows(key.len()).position(|w| w == key).expect("the key") + key.len() + 4 + 4 + 8;
    file[at..at + 8].copy_from_slice(&n_bytes.to_le_bytes());
    super::write(folder, "m.gguf", file);
}
