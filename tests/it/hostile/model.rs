//! A tiny valid model as a GGUF file, to be broken: one block, a tokenizer of single bytes.

use super::write;
use crate::common::file::{self, Entry};
use crate::common::tiny;
use pythia_gguf::{Layout, Metadata};
use pythia_schema::{Hparams, TensorId};
use pythia_tensor::TensorType;
use pythia_tokenizer::Vocab;
use std::path::Path;

/// A model before it is written.
pub(crate) struct Model {
    pub(crate) metadata: Metadata,
    pub(crate) tensors: Vec<Entry>,
}

pub(crate) fn hparams(n_embd: usize) -> Hparams {
    let n_vocab = vocab().tokens.len();
    Hparams { n_layer: 1, n_embd, n_head: 2, n_ff: 2 * n_embd, n_vocab, ..tiny::hparams() }
}

/// The tokenizer of the model.
pub(crate) fn vocab() -> Vocab {
    let vocab = tiny::vocab();
    Vocab { unk: vocab.eos, ..vocab }
}

impl Model {
    /// All F32, 32 wide.
    pub(crate) fn tiny() -> Self {
        Self::of(32, TensorType::F32)
    }

    /// With matrices of this width and type.
    pub(crate) fn of(n_embd: usize, matrices: TensorType) -> Self {
        let h = hparams(n_embd);
        let mut metadata = Metadata::new();
        h.to_metadata(&mut metadata);
        vocab().to_metadata(&mut metadata).expect("a sound vocabulary");
        let ty = |id: TensorId| if id.is_matrix() { matrices } else { TensorType::F32 };
        let tensors = pythia_schema::tensors(&h).iter().map(|s| (s.gguf.clone(), ty(s.id), s.dims())).collect();
        Self { metadata, tensors }
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout::new(&self.metadata, self.tensors.clone()).expect("a valid layout")
    }

    /// The file, its weights all zero.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        file::zeros(&self.metadata, self.tensors.clone())
    }
}

/// Writes `m.gguf`, a tiny model with this change.
pub(crate) fn changed(folder: &Path, change: impl FnOnce(&mut Model)) {
    let mut model = Model::tiny();
    change(&mut model);
    write(folder, "m.gguf", model.bytes());
}

/// Writes `m.gguf`, a tiny model with one metadata key set, or removed.
pub(crate) fn with_key(folder: &Path, key: &str, value: Option<impl Into<pythia_gguf::Value>>) {
    changed(folder, |model| match value {
        Some(value) => model.metadata.insert(key, value),
        None => drop(model.metadata.remove(key).expect("a key to remove")),
    });
}
