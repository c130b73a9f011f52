//! safetensors files and indexes of shards.

use super::Case;
use super::checkpoint::{Weights, file, valid};
use super::write;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

const CONVERT: &str = "pythia-quant convert . -t Q8_0 -o out.gguf";
const DRY_RUN: &str = "pythia-quant convert . -t Q8_0 -o out.gguf --dry-run";
const BIAS: &str = "gpt_neox.layers.0.mlp.dense_h_to_4h.bias";
const INDEX: &str = "model.safetensors.index.json";

pub(crate) const VALID: &[Case] = &[
    Case { command: DRY_RUN, ..case("S", "valid", valid, "") },
    Case { command: DRY_RUN, ..case("S25", "two shards", |f| shards(f, |_| ()), "") },
    Case { command: DRY_RUN, ..case("S12", "metadata", |f| text(f, |t| add(t, META)), "") },
];

#[rustfmt::skip] // a table
pub(crate) const CASES: &[Case] = &[
    case("S1", "seven bytes", |f| raw(f, vec![0; 7]), "wanted the 8 bytes of a safetensors header length"),
    case("S1", "nothing", |f| raw(f, vec![]), "wanted the 8 bytes"),
    case("S2", "header of 0 bytes", |f| raw(f, vec![0; 8]), "header length 0"),
    case("S3", "header over 100 MB", |f| length(f, 100_000_001), "at most 16777216 are read"),
    case("S4", "header longer than the file", |f| length(f, 9_000_000), "truncated?"),
    case("S5", "header of 2^63 bytes", |f| length(f, 1 << 63), "header length 9223372036854775808"),
    case("S5", "header of 2^64 - 1 bytes", |f| length(f, u64::MAX), "header length 18446744073709551615"),
    case("S6", "header not UTF-8", |f| raw(f, [&4u64.to_le_bytes()[..], b"{\"\xff\""].concat()), "the header is not UTF-8"),
    case("S7", "header not JSON", |f| raw(f, file("{]", &[])), "the header cannot be read"),
    case("S8", "first byte", |f| raw(f, file("[1]", &[])), "does not start with '{'"),
    case("S8", "a space first", |f| text(f, |t| t.insert(0, ' ')), "does not start with '{'"),
    case("S9", "100 000 brackets", |f| raw(f, file(&format!("{{\"a\":{}", "[".repeat(100_000)), &[])), "the header cannot be read"),
    case("S9", "100 000 braces", |f| raw(f, file(&"{\"a\":".repeat(100_000), &[])), "the header cannot be read"),
    case("S10", "junk after the object", |f| text(f, |t| t.push_str(" x")), "trailing characters"),
    case("S11", "a tensor twice", |f| text(f, |t| add(t, r#""embed_out.weight":{"dtype":"F16","shape":[0],"data_offsets":[0,0]}"#)), "\"embed_out.weight\" comes twice"),
    case("S12", "metadata of numbers", |f| text(f, |t| add(t, r#""__metadata__":{"a":1}"#)), "__metadata__"),
    case("S12", "metadata a list", |f| text(f, |t| add(t, r#""__metadata__":["a"]"#)), "__metadata__"),
    case("S13", "unknown type", |f| bias(f, |e| e["dtype"] = json!("F17")), "unknown variant `F17`"),
    case("S13", "type a number", |f| bias(f, |e| e["dtype"] = json!(3)), BIAS),
    case("S14", "no type", |f| bias(f, |e| remove(e, "dtype")), "missing field `dtype`"),
    case("S14", "no shape", |f| bias(f, |e| remove(e, "shape")), "missing field `shape`"),
    case("S14", "no offsets", |f| bias(f, |e| remove(e, "data_offsets")), "missing field `data_offsets`"),
    case("S15", "negative dimension", |f| bias(f, |e| e["shape"] = json!([-64])), BIAS),
    case("S15", "half a dimension", |f| bias(f, |e| e["shape"] = json!([64.5])), BIAS),
    case("S16", "elements wrap", |f| bias(f, |e| e["shape"] = json!([1u64 << 32, 1u64 << 32])), "too large to be real"),
    case("S16", "elements wrap to 0", |f| bias(f, |e| e["shape"] = json!([1u64 << 32, 1u64 << 31, 2])), "too large to be real"),
    case("S17", "no offset", |f| bias(f, |e| e["data_offsets"] = json!([])), BIAS),
    case("S17", "one offset", |f| bias(f, |e| e["data_offsets"] = json!([0])), BIAS),
    case("S17", "three offsets", |f| bias(f, |e| e["data_offsets"] = json!([0, 1, 2])), BIAS),
    case("S18", "inverted", |f| bias(f, |e| e["data_offsets"].as_array_mut().unwrap().reverse()), "are inverted"),
    case("S19", "beyond the data", |f| offsets(f, 1 << 40, 1 << 40), "hole"),
    case("S19", "beyond the data, last", |f| weights(f, |w| w.data.truncate(100)), "bytes of tensor data, the header describes"),
    case("S20", "longer than its shape", |f| bias(f, |e| e["shape"] = json!([63])), "hold 128 bytes, shape [63] of F16 needs 126"),
    case("S21", "overlap", |f| offsets_by(f, -2), "does not start where the tensor before it ends"),
    case("S22", "hole", |f| offsets_by(f, 2), "does not start where the tensor before it ends"),
    case("S22", "first not at 0", |f| weights(f, shifted), "does not start where the tensor before it ends"),
    case("S23", "bytes after the end", |f| weights(f, |w| w.data.extend(b"PK\x05\x06 a zip archive too")), "bytes of tensor data"),
    case("S24", "a million entries", |f| raw(f, million()), "at most 16777216 are read"),
    case("S25", "shard by an absolute path", |f| index(f, |m| *m = "/etc/passwd.safetensors".into()), "is not the name of a .safetensors file"),
    case("S25", "shard above the folder", |f| index(f, |m| *m = "../x.safetensors".into()), "is not the name of a .safetensors file"),
    case("S25", "index a list", |f| { shards(f, |_| ()); write(f, INDEX, "[]"); }, INDEX),
    case("S25", "weight_map a list", |f| { shards(f, |_| ()); write(f, INDEX, r#"{"weight_map":["a"]}"#); }, INDEX),
    case("S25", "weight_map empty", |f| { shards(f, |_| ()); write(f, INDEX, r#"{"weight_map":{}}"#); }, "no entries"),
    case("S25", "tensor absent", |f| shards(f, |map| { map.insert("x".into(), "model-2.safetensors".into()); }), "tensor \"x\": not in this file"),
    case("S25", "tensor extra", |f| shards(f, |map| { map.remove(BIAS); }), "not in the index"),
    case("S25", "tensor in the other shard", |f| index(f, |m| *m = other(m)), "puts it into"),
    case("S25", "tensor in both shards", both_shards, "also in"),
    case("S26", "F8 weights", |f| weights(f, |w| retype(w, "F8_E4M3", 1)), "type F8_E4M3, wanted F32, F16, BF16 or F64"),
    case("S26", "I8 weights", |f| weights(f, |w| retype(w, "I8", 1)), "type I8, wanted"),
    case("S13", "a name of 2 MB and an unknown type", |f| text(f, |t| add(t, &format!(r#""{}":{{"dtype":"F17","shape":[0],"data_offsets":[0,0]}}"#, "n".repeat(2 << 20)))), "unknown variant `F17`"),
    case("S25", "a tensor too many with a name of 2 MB", |f| text(f, |t| add(t, &format!(r#""{}":{{"dtype":"F16","shape":[0],"data_offsets":[0,0]}}"#, "n".repeat(2 << 20)))), "is not expected"),
    case("S20", "a name of 2 MB and a wrong size", |f| text(f, |t| add(t, &format!(r#""{}":{{"dtype":"F16","shape":[9],"data_offsets":[0,0]}}"#, "n".repeat(2 << 20)))), "hold 0 bytes, shape [9]"),
    case("S26", "I64 weights", |f| weights(f, |w| retype(w, "I64", 8)), "type I64, wanted"),
];

const META: &str = r#""__metadata__":{"format":"pt"}"#;

const fn case(id: &'static str, name: &'static str, build: fn(&Path), wanted: &'static str) -> Case {
    Case { id, name, build, command: CONVERT, wanted }
}

fn raw(folder: &Path, bytes: Vec<u8>) {
    valid(folder);
    write(folder, "model.safetensors", bytes);
}

fn weights(folder: &Path, change: impl FnOnce(&mut Weights)) {
    let mut weights = Weights::tiny();
    change(&mut weights);
    raw(folder, weights.bytes());
}

/// Changes the header's text.
fn text(folder: &Path, change: impl FnOnce(&mut String)) {
    let weights = Weights::tiny();
    let mut text = weights.text();
    change(&mut text);
    raw(folder, file(&text, &weights.data));
}

fn add(text: &mut String, entry: &str) {
    text.insert_str(1, &format!("{entry},"));
}

fn length(folder: &Path, length: u64) {
    let mut bytes = Weights::tiny().bytes();
    bytes[..8].copy_from_slice(&length.to_le_bytes());
    raw(folder, bytes);
}

/// Changes the entry of one bias.
fn bias(folder: &Path, change: impl FnOnce(&mut Value)) {
    weights(folder, |w| change(w.entry(BIAS)));
}

fn remove(entry: &mut Value, key: &str) {
    entry.as_object_mut().expect("an object").remove(key);
}

/// Moves the bias by these bytes at either end.
fn offsets(folder: &Path, start: i64, end: i64) {
    bias(folder, |entry| {
        let [a, b] = [0, 1].map(|i| entry["data_offsets"][i].as_i64().expect("an offset"));
        entry["data_offsets"] = json!([a + start, b + end]);
    });
}

fn offsets_by(folder: &Path, bytes: i64) {
    offsets(folder, bytes, bytes);
}

fn shifted(weights: &mut Weights) {
    for entry in weights.header.values_mut() {
        let moved = [0, 1].map(|i| entry["data_offsets"][i].as_i64().expect("an offset") + 2);
        entry["data_offsets"] = json!(moved);
    }
    weights.data.extend([0; 2]);
}

/// One weight of another type, its data as long as that needs.
fn retype(weights: &mut Weights, dtype: &str, size: usize) {
    // The last tensor of the file, so that the others stay where they are.
    let entry = weights.entry("embed_out.weight");
    let n_elems: usize =
        entry["shape"].as_array().expect("a shape").iter().map(|d| d.as_u64().unwrap() as usize).product();
    let start = entry["data_offsets"][0].as_u64().expect("an offset") as usize;
    entry["dtype"] = json!(dtype);
    entry["data_offsets"] = json!([start, start + n_elems * size]);
    weights.data.resize(start + n_elems * size, 0);
}

/// A valid file of a million empty tensors besides the model's.
fn million() -> Vec<u8> {
    let weights = Weights::tiny();
    let mut text = weights.text();
    let more: String =
        (0..1_000_000).map(|i| format!(r#""t{i}":{{"dtype":"F16","shape":[0],"data_offsets":[0,0]}},"#)).collect();
    text.insert_str(1, &more);
    file(&text, &weights.data)
}

/// The model over two shards; `change` is done to the index's map.
fn shards(folder: &Path, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    valid(folder);
    fs::remove_file(folder.join("model.safetensors")).expect("removed");
    let whole = Weights::tiny();
    let mut map = serde_json::Map::new();
    for number in 0..2 {
        let name = format!("model-{}.safetensors", number + 1);
        let mut shard = Weights { header: serde_json::Map::new(), data: Vec::new() };
        for (i, (tensor, entry)) in whole.header.iter().enumerate() {
            if i % 2 == number {
                push(&mut shard, tensor, entry);
                map.insert(tensor.clone(), name.as_str().into());
            }
        }
        write(folder, &name, shard.bytes());
    }
    change(&mut map);
    write(folder, INDEX, json!({"weight_map": map}).to_string());
}

fn push(shard: &mut Weights, tensor: &str, entry: &Value) {
    let [start, end] = [0, 1].map(|i| entry["data_offsets"][i].as_u64().expect("an offset") as usize);
    let at = shard.data.len();
    let moved = json!({"dtype": entry["dtype"], "shape": entry["shape"], "data_offsets": [at, at + end - start]});
    shard.header.insert(tensor.to_owned(), moved);
    shard.data.resize(at + end - start, 0);
}

/// As [`shards`], changing the place of one tensor.
fn index(folder: &Path, change: impl FnOnce(&mut Value)) {
    shards(folder, |map| change(map.get_mut(BIAS).expect("a place")));
}

fn other(place: &Value) -> Value {
    if place == "model-1.safetensors" { "model-2.safetensors".into() } else { "model-1.safetensors".into() }
}

fn both_shards(folder: &Path) {
    shards(folder, |_| ());
    let whole = Weights::tiny();
    let mut shard = Weights { header: serde_json::Map::new(), data: Vec::new() };
    whole.header.iter().for_each(|(tensor, entry)| push(&mut shard, tensor, entry));
    write(folder, "model-2.safetensors", shard.bytes());
}
