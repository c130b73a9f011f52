//! The header of a safetensors file.
//!
//! ```text
//! bytes n of the JSON u64 | {"name": {"dtype", "shape", "data_offsets": [begin, end]}, ...}, spaces | data
//! ```
//! Offsets count from the start of the data, and the tensors follow one another without a gap.

use pythia_schema::TensorSpec;
use pythia_tensor::TensorType;
use serde_json::{Map, json};

/// Where everything goes.
#[derive(Debug)]
pub(super) struct Header {
    /// The length and the JSON.
    pub(super) bytes: Vec<u8>,
    /// Where each tensor starts, in bytes from the start of the file.
    pub(super) offsets: Vec<u64>,
    /// Bytes of the whole file.
    pub(super) n_bytes: u64,
}

impl Header {
    /// For tensors in this order, under the canonical Hugging Face names, all of one float type.
    pub(super) fn new(specs: &[TensorSpec], dtype: TensorType) -> Self {
        let mut tree = Map::new();
        // Transformers refuses files that do not say which framework they were saved from.
        tree.insert("__metadata__".to_owned(), json!({"format": "pt"}));
        let mut ends = Vec::with_capacity(specs.len());
        let mut at = 0;
        for spec in specs {
            let end = at + spec.n_elems() as u64 * dtype.block_bytes() as u64;
            // The names of the float types are safetensors' own.
            let entry = json!({"dtype": dtype.name(), "shape": spec.shape, "data_offsets": [at, end]});
            tree.insert(spec.hf[0].clone(), entry);
            ends.push(end);
            at = end;
        }
        let mut json = serde_json::Value::Object(tree).to_string().into_bytes();
        // The data stays aligned for readers that map it.
        json.resize(json.len().next_multiple_of(8), b' ');
        let bytes = [&(json.len() as u64).to_le_bytes()[..], &json].concat();
        let data = bytes.len() as u64;
        let offsets = [0].into_iter().chain(ends).take(specs.len()).map(|offset| data + offset).collect();
        Self { bytes, offsets, n_bytes: data + at }
    }
}
