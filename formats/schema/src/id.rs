//! Identifies the tensors of a model by module, layer and parameter, and names them in both schemes.

use std::fmt;

/// The module that a tensor belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Token embeddings, `[n_vocab, n_embd]`.
    TokenEmbd,
    /// Layer norm before attention, `[n_embd]`.
    AttnNorm,
    /// Queries, keys and values in one matrix, `[3 * n_embd, n_embd]`.
    AttnQkv,
    /// Attention output projection, `[n_embd, n_embd]`.
    AttnOutput,
    /// Layer norm before the feed-forward network, `[n_embd]`.
    FfnNorm,
    /// First matrix of the feed-forward network, `[n_ff, n_embd]`.
    FfnUp,
    /// Second matrix of the feed-forward network, `[n_embd, n_ff]`.
    FfnDown,
    /// Layer norm after the last block, `[n_embd]`.
    OutputNorm,
    /// Output head, `[n_vocab, n_embd]`.
    Output,
}

impl Kind {
    /// Whether it is a layer norm: its weight is a vector.
    pub fn is_norm(self) -> bool {
        matches!(self, Self::AttnNorm | Self::FfnNorm | Self::OutputNorm)
    }

    /// Whether it is one of the two matrices with a row per token.
    pub fn is_vocab(self) -> bool {
        matches!(self, Self::TokenEmbd | Self::Output)
    }

    /// The last part of its module's name in Hugging Face checkpoints: `query_key_value`.
    pub fn hf_module(self) -> &'static str {
        let name = Names::of(self).hf[0];
        name.rsplit_once('.').map_or(name, |(_, last)| last)
    }
}

/// Which of its module's tensors one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Param {
    /// The matrix, or the factors of a norm.
    Weight,
    /// What is added to each row of the output.
    Bias,
}

impl Param {
    const ALL: [Self; 2] = [Self::Weight, Self::Bias];

    /// The end of its name, in both schemes.
    const fn name(self) -> &'static str {
        match self {
            Self::Weight => "weight",
            Self::Bias => "bias",
        }
    }
}

/// A tensor of the model. It is displayed as its GGUF name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TensorId {
    /// The module it belongs to.
    pub kind: Kind,
    /// The block that the module is in, counted from 0; `None` for those outside of the blocks.
    pub layer: Option<usize>,
    /// Which of the module's tensors it is.
    pub param: Param,
}

/// The names of a module in both schemes. `*` stands for the number of the block.
struct Names {
    kind: Kind,
    gguf: &'static str,
    /// The first is the usual one.
    hf: &'static [&'static str],
    has_bias: bool,
}

/// In the order of a forward pass, which is the order of files.
const NAMES: [Names; 9] = {
    const fn names(kind: Kind, gguf: &'static str, hf: &'static [&'static str]) -> Names {
        Names { kind, gguf, hf, has_bias: !matches!(kind, Kind::TokenEmbd | Kind::Output) }
    }
    [
        names(Kind::TokenEmbd, "token_embd", &["gpt_neox.embed_in"]),
        names(Kind::AttnNorm, "blk.*.attn_norm", &["gpt_neox.layers.*.input_layernorm"]),
        names(Kind::AttnQkv, "blk.*.attn_qkv", &["gpt_neox.layers.*.attention.query_key_value"]),
        names(Kind::AttnOutput, "blk.*.attn_output", &["gpt_neox.layers.*.attention.dense"]),
        names(Kind::FfnNorm, "blk.*.ffn_norm", &["gpt_neox.layers.*.post_attention_layernorm"]),
        names(Kind::FfnUp, "blk.*.ffn_up", &["gpt_neox.layers.*.mlp.dense_h_to_4h"]),
        names(Kind::FfnDown, "blk.*.ffn_down", &["gpt_neox.layers.*.mlp.dense_4h_to_h"]),
        names(Kind::OutputNorm, "output_norm", &["gpt_neox.final_layer_norm"]),
        // The second is that of Transformers 5.
        names(Kind::Output, "output", &["embed_out", "lm_head"]),
    ]
};

impl Names {
    fn of(kind: Kind) -> &'static Self {
        // The table is in the order of the enum: a test compares them.
        &NAMES[kind as usize]
    }
}

impl TensorId {
    /// The weight of a module. `layer` is the block of a module that every block has, and `None` for the others.
    pub const fn weight(kind: Kind, layer: Option<usize>) -> Self {
        let in_block = !matches!(kind, Kind::TokenEmbd | Kind::OutputNorm | Kind::Output);
        debug_assert!(layer.is_some() == in_block, "a layer for the modules of blocks only");
        Self { kind, layer, param: Param::Weight }
    }

    /// The bias of the same module, which must not be one of the [two matrices without one](Kind::is_vocab).
    #[must_use]
    pub const fn bias(self) -> Self {
        debug_assert!(!matches!(self.kind, Kind::TokenEmbd | Kind::Output), "this module has no bias");
        Self { param: Param::Bias, ..self }
    }

    /// Every tensor of a model with `n_layer` blocks, in the order of files.
    pub fn all(n_layer: usize) -> impl Iterator<Item = Self> {
        let params = |names: &'static Names, layer| {
            let params = Param::ALL.into_iter().filter(|param| names.has_bias || *param == Param::Weight);
            params.map(move |param| Self { kind: names.kind, layer, param })
        };
        let [first, block @ .., norm, head] = &NAMES;
        let blocks = (0..n_layer).flat_map(move |layer| block.iter().flat_map(move |names| params(names, Some(layer))));
        params(first, None).chain(blocks).chain(params(norm, None)).chain(params(head, None))
    }

    /// Whether it is a matrix, and may be quantized; the others stay F32.
    pub fn is_matrix(self) -> bool {
        self.param == Param::Weight && !self.kind.is_norm()
    }

    /// Its name in GGUF files: `blk.3.attn_qkv.weight`.
    pub fn gguf(self) -> String {
        self.name(Names::of(self.kind).gguf)
    }

    /// Its names in Hugging Face checkpoints, the usual one first: `gpt_neox.layers.3.attention.query_key_value.weight`.
    pub fn hf(self) -> Vec<String> {
        Names::of(self.kind).hf.iter().map(|module| self.name(module)).collect()
    }

    /// The tensor of this name in a GGUF file.
    pub fn from_gguf(name: &str) -> Option<Self> {
        Self::from_name(name, |names| std::slice::from_ref(&names.gguf))
    }

    /// The tensor of this name in a Hugging Face checkpoint.
    pub fn from_hf(name: &str) -> Option<Self> {
        Self::from_name(name, |names| names.hf)
    }

    fn name(self, module: &str) -> String {
        let module = match self.layer {
            Some(layer) => module.replacen('*', &layer.to_string(), 1),
            None => module.to_owned(),
        };
        format!("{module}.{}", self.param.name())
    }

    fn from_name(name: &str, modules: impl Fn(&'static Names) -> &'static [&'static str]) -> Option<Self> {
        let (module, end) = name.rsplit_once('.')?;
        let param = Param::ALL.into_iter().find(|param| param.name() == end)?;
        let (kind, layer) = NAMES.iter().find_map(|names| {
            let mut layers = modules(names).iter().filter_map(|pattern| layer_of(module, pattern));
            layers.next().map(|layer| (names.kind, layer))
        })?;
        let id = Self { kind, layer, param };
        (Names::of(kind).has_bias || param == Param::Weight).then_some(id)
    }
}

/// The block in `module`, if it fits `pattern`.
fn layer_of(module: &str, pattern: &str) -> Option<Option<usize>> {
    let Some((before, after)) = pattern.split_once('*') else { return (module == pattern).then_some(None) };
    let number = module.strip_prefix(before)?.strip_suffix(after)?;
    let layer: usize = number.parse().ok()?;
    // Not `007` or `+7`: a tensor has one name.
    (layer.to_string() == number).then_some(Some(layer))
}

impl fmt::Display for TensorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.gguf())
    }
}

/// What follows the number of the block in the GGUF name of a tensor: `attn_qkv.weight`. `None` for a tensor outside of
/// the blocks. Any architecture's, as llama.cpp names the tensors of all of them.
pub fn block_part(gguf_name: &str) -> Option<&str> {
    gguf_name.strip_prefix("blk.")?.split_once('.').map(|(_, part)| part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_tensors() {
        for id in TensorId::all(12) {
            assert_eq!(TensorId::from_gguf(&id.gguf()), Some(id));
            for name in id.hf() {
                assert_eq!(TensorId::from_hf(&name), Some(id), "{name}");
            }
            assert_eq!(block_part(&id.gguf()).is_some(), id.layer.is_some(), "{id}");
            assert_eq!(Names::of(id.kind).kind, id.kind);
            assert_eq!(Names::of(id.kind).gguf.contains('*'), id.layer.is_some());
        }
    }

    #[test]
    fn both_schemes_are_spelled_as_they_are_known() {
        let bias = TensorId::weight(Kind::FfnUp, Some(11)).bias();
        assert_eq!(bias.gguf(), "blk.11.ffn_up.bias");
        assert_eq!(bias.hf(), ["gpt_neox.layers.11.mlp.dense_h_to_4h.bias"]);
        let head = TensorId::weight(Kind::Output, None);
        assert_eq!(
            (head.gguf(), head.hf()),
            ("output.weight".to_owned(), vec!["embed_out.weight".to_owned(), "lm_head.weight".to_owned()])
        );
        assert_eq!(Kind::AttnQkv.hf_module(), "query_key_value");
        assert_eq!(Kind::Output.hf_module(), "embed_out");
    }

    #[test]
    fn other_names_are_no_tensors() {
        for name in [
            "output.bias",
            "output",
            "blk.x.ffn_up.weight",
            "blk.01.ffn_up.weight",
            "blk.+1.ffn_up.weight",
            "blk..ffn_up.weight",
            "blk.1.ffn_gate.weight",
            "output.weight.weight",
            "",
        ] {
            assert_eq!(TensorId::from_gguf(name), None, "{name}");
        }
        assert_eq!(TensorId::from_hf("gpt_neox.layers.0.attention.bias"), None);
    }
}
