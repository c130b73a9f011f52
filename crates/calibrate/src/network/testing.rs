//! A tiny model with known gradients, and whole passes over it, for the tests.

use super::{Head, Labels, Network, Observer, Workspace};
use pythia_convert::CheckpointSource;
use pythia_schema::{Kind, TensorId};
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data")).join(name)
}

/// The elements of a golden tensor, as numbers of eight or four bytes.
pub(crate) fn integers(goldens: &SafeTensors<'_>, name: &str) -> Vec<u32> {
    let (values, _) = goldens.tensor(name).unwrap().data().as_chunks::<8>();
    values.iter().map(|&b| i64::from_le_bytes(b) as u32).collect()
}

pub(crate) fn floats(goldens: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let (values, _) = goldens.tensor(name).unwrap().data().as_chunks::<4>();
    values.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

/// What `tools/autograd_golden.py` has made.
pub(crate) struct Autograd {
    bytes: Vec<u8>,
}

impl Autograd {
    pub(crate) fn open() -> Self {
        Self { bytes: std::fs::read(data("goldens/autograd.safetensors")).unwrap() }
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).unwrap()
    }

    pub(crate) fn ids(&self, name: &str) -> Vec<u32> {
        integers(&self.tensors(), name)
    }

    pub(crate) fn floats(&self, name: &str) -> Vec<f32> {
        floats(&self.tensors(), name)
    }

    /// The model as a checkpoint. The folder lives as long as the guard.
    pub(crate) fn checkpoint(&self, parallel: bool) -> (CheckpointSource, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let tensors = self.tensors();
        let is_weight = |name: &str| name.starts_with("gpt_neox.") || name.starts_with("lm_head.");
        let weights = tensors.tensors().into_iter().filter(|(name, _)| is_weight(name));
        safetensors::serialize_to_file(weights, None, &folder.path().join("model.safetensors")).unwrap();
        let gelu = if parallel { "gelu" } else { "gelu_new" };
        let config = format!(
            r#"{{"architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "hidden_act": "{gelu}",
            "hidden_size": 32, "intermediate_size": 48, "layer_norm_eps": 1e-05, "max_position_embeddings": 256,
            "num_attention_heads": 2, "num_hidden_layers": 2, "rotary_emb_base": 10000, "rotary_pct": 0.25,
            "tie_word_embeddings": false, "use_parallel_residual": {parallel}, "vocab_size": 40}}"#
        );
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        (CheckpointSource::open(folder.path()).unwrap(), folder)
    }
}

/// A pass over one window.
pub(crate) fn differentiate(
    network: &Network<'_>,
    head: &Head,
    tokens: &[u32],
    labels: Labels<'_>,
    observer: &mut dyn Observer,
) -> f64 {
    differentiate_windows(network, head, tokens.len(), tokens, labels, observer)
}

/// A pass over windows of `n_ctx` tokens, all at once. Returns the log-likelihood.
pub(crate) fn differentiate_windows(
    network: &Network<'_>,
    head: &Head,
    n_ctx: usize,
    tokens: &[u32],
    labels: Labels<'_>,
    observer: &mut dyn Observer,
) -> f64 {
    let (mut inputs, mut h, mut dh) = (Vec::new(), Vec::new(), Vec::new());
    network.embed(tokens, &mut h).unwrap();
    for layer in 0..network.hparams().n_layer {
        inputs.push(h.clone());
        network.forward(&network.block(layer).unwrap(), n_ctx, &mut h);
    }
    let likelihood = network.head_backward(head, labels, &h, &mut dh, observer).unwrap();
    let mut work = Workspace::default();
    for (layer, h) in inputs.iter().enumerate().rev() {
        network.backward(&network.block(layer).unwrap(), n_ctx, h, &mut dh, &mut work, observer);
    }
    observer.gradient(&[TensorId::weight(Kind::TokenEmbd, None)], &dh);
    likelihood
}
