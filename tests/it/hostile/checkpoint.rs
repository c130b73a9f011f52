//! A tiny valid checkpoint, to be broken: one block of width 32, a tokenizer of single bytes.

use super::model;
use super::write;
use crate::common::tiny;
use serde_json::{Map, Value, json};
use std::path::Path;

/// A safetensors file before it is written.
pub(crate) struct Weights {
    /// Header entries.
    pub(crate) header: Map<String, Value>,
    pub(crate) data: Vec<u8>,
}

impl Weights {
    /// All F16 zeros.
    pub(crate) fn tiny() -> Self {
        Self::of_vocab(model::hparams(32).n_vocab)
    }

    /// With as many rows in both vocabulary matrices.
    pub(crate) fn of_vocab(n_vocab: usize) -> Self {
        let mut header = Map::new();
        let mut end = 0;
        for spec in pythia_schema::tensors(&pythia_schema::Hparams { n_vocab, ..model::hparams(32) }) {
            let start = end;
            end += 2 * spec.n_elems();
            let entry = json!({"dtype": "F16", "shape": spec.shape, "data_offsets": [start, end]});
            header.insert(spec.hf[0].clone(), entry);
        }
        Self { header, data: vec![0; end] }
    }

    /// The header's text.
    pub(crate) fn text(&self) -> String {
        Value::Object(self.header.clone()).to_string()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        file(&self.text(), &self.data)
    }

    /// The entry of a tensor.
    pub(crate) fn entry(&mut self, name: &str) -> &mut Value {
        self.header.get_mut(name).expect("a tensor of this name")
    }
}

/// A safetensors file of this header.
pub(crate) fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// As Transformers 4 writes it.
pub(crate) fn config() -> Value {
    let h = model::hparams(32);
    json!({
        "model_type": "gpt_neox", "hidden_size": h.n_embd, "num_hidden_layers": h.n_layer,
        "num_attention_heads": h.n_head, "intermediate_size": h.n_ff, "vocab_size": h.n_vocab,
        "max_position_embeddings": h.n_ctx, "rotary_pct": 0.25, "rotary_emb_base": 10000, "layer_norm_eps": 1e-5,
        "hidden_act": "gelu", "use_parallel_residual": true, "tie_word_embeddings": false,
    })
}

/// A `tokenizer.json` of the tokens of [`model::vocab`].
pub(crate) fn tokenizer() -> Value {
    tiny::tokenizer_json(&model::vocab().tokens, json!([["h", "e"]]))
}

/// Writes the whole checkpoint.
pub(crate) fn valid(folder: &Path) {
    write(folder, "config.json", config().to_string());
    write(folder, "tokenizer.json", tokenizer().to_string());
    write(folder, "model.safetensors", Weights::tiny().bytes());
}
