//! The shapes of the Pythia models and the tensors they are made of.

use pythia_checkpoint::Config;
use pythia_schema::{SUITE, Size};

/// The dimensions that tell one Pythia from another. The feed-forward layer is four times `n_embd` wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) n_layer: usize,
    pub(crate) n_embd: usize,
    pub(crate) n_head: usize,
    pub(crate) n_vocab: usize,
}

impl Shape {
    /// The shape of a published size.
    pub(crate) fn of_size(size: &str) -> Result<Self, String> {
        let found = SUITE.iter().find(|known| known.name.eq_ignore_ascii_case(size));
        let &Size { n_layer, n_embd, n_head, n_vocab, .. } = found.ok_or_else(|| {
            let known = SUITE.map(|known| known.name);
            format!("no Pythia has the size {size:?}, wanted one of {}", known.join(" "))
        })?;
        Ok(Self { n_layer, n_embd, n_head, n_vocab })
    }

    /// The shape of `LAYERS,HIDDEN,HEADS`.
    pub(crate) fn parse_custom(text: &str) -> Result<Self, String> {
        let numbers: Result<Vec<usize>, _> = text.split(',').map(|number| number.trim().parse()).collect();
        match numbers.as_deref() {
            Ok(&[n_layer, n_embd, n_head]) => Ok(Self { n_layer, n_embd, n_head, n_vocab: 50304 }),
            _ => Err(format!("{text:?} is not LAYERS,HIDDEN,HEADS")),
        }
    }
}

/// What a tensor's elements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    /// Normally distributed around 0.
    Noise,
    /// The scale of a LayerNorm: 1.
    One,
    /// A bias: 0.
    Zero,
}

/// A tensor to write.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) fill: Fill,
}

impl Tensor {
    pub(crate) fn n_elems(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The tensors of a model, in the order of its layers. `lm_head` is the name Transformers 5 gives the output matrix.
///
/// Written out here rather than taken from the converter's table, so that a mistake in that table shows.
pub(crate) fn tensors(config: &Config, lm_head: bool) -> Vec<Tensor> {
    let (n_embd, n_ff, n_vocab) = (config.n_embd, config.n_ff, config.n_vocab);
    let noise = |name: String, shape: [usize; 2]| Tensor { name, shape: shape.to_vec(), fill: Fill::Noise };
    let bias = |name: String, n: usize| Tensor { name, shape: vec![n], fill: Fill::Zero };
    let norm = |name: String| {
        let weight = Tensor { name: format!("{name}.weight"), shape: vec![n_embd], fill: Fill::One };
        [weight, bias(format!("{name}.bias"), n_embd)]
    };
    let linear = |name: String, rows: usize, cols: usize| {
        [noise(format!("{name}.weight"), [rows, cols]), bias(format!("{name}.bias"), rows)]
    };
    let mut tensors = vec![noise("gpt_neox.embed_in.weight".to_owned(), [n_vocab, n_embd])];
    for layer in 0..config.n_layer {
        let name = |part: &str| format!("gpt_neox.layers.{layer}.{part}");
        tensors.extend(norm(name("input_layernorm")));
        tensors.extend(norm(name("post_attention_layernorm")));
        tensors.extend(linear(name("attention.query_key_value"), 3 * n_embd, n_embd));
        tensors.extend(linear(name("attention.dense"), n_embd, n_embd));
        tensors.extend(linear(name("mlp.dense_h_to_4h"), n_ff, n_embd));
        tensors.extend(linear(name("mlp.dense_4h_to_h"), n_embd, n_ff));
    }
    tensors.extend(norm("gpt_neox.final_layer_norm".to_owned()));
    if !config.tie_word_embeddings {
        let name = if lm_head { "lm_head.weight" } else { "embed_out.weight" };
        tensors.push(noise(name.to_owned(), [n_vocab, n_embd]));
    }
    tensors
}
