//! The header of a safetensors file: <https://github.com/huggingface/safetensors#format>. The crate of that name writes
//! files whose values are in memory; here they come later.

use super::dtype::Dtype;
use super::layout::{Entry, Scalar};
use serde_json::{Map, Value, json};

/// The header is padded to a multiple of this, so that values are aligned.
const ALIGNMENT: usize = 8;

fn dtype(scalar: Scalar) -> &'static str {
    match scalar {
        Scalar::I64 => "I64",
        Scalar::I32 => "I32",
        Scalar::Value(Dtype::F32) => "F32",
        Scalar::Value(Dtype::F16) => "F16",
        Scalar::Value(Dtype::Bf16) => "BF16",
    }
}

/// Length and JSON of the header: all that comes before the values.
pub(super) fn header(entries: &[Entry], metadata: &[(String, String)]) -> Vec<u8> {
    let mut header = Map::new();
    let facts: Map<String, Value> = metadata.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
    header.insert("__metadata__".to_owned(), facts.into());
    let mut at = 0;
    for entry in entries {
        let end = at + entry.bytes();
        let value = json!({ "dtype": dtype(entry.scalar), "shape": entry.shape, "data_offsets": [at, end] });
        header.insert(entry.name.clone(), value);
        at = end;
    }
    let mut json = Value::Object(header).to_string();
    json.push_str(&" ".repeat(json.len().next_multiple_of(ALIGNMENT) - json.len()));
    [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat()
}

/// Where the values of each entry begin, and the bytes of the file.
pub(super) fn places(entries: &[Entry], metadata: &[(String, String)]) -> (Vec<u64>, u64) {
    let mut at = header(entries, metadata).len() as u64;
    let mut starts = Vec::with_capacity(entries.len());
    for entry in entries {
        starts.push(at);
        at += entry.bytes();
    }
    (starts, at)
}
