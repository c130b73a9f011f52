//! GPT-NeoX, the architecture of Pythia: the one table of its tensors.
//!
//! The converter writes by this table and the model loads by it. Names and layouts are those llama.cpp expects of the
//! architecture `gptneox`, and the Hugging Face names are those of `GPTNeoXForCausalLM`.

mod hparams;

pub use hparams::{ARCH, Hparams};

use crate::error::Error;
use crate::read::Gguf;
use crate::tensor::{AnyType, TensorInfo};
use pythia_tensor::TensorType;

/// What happens to a tensor between a Hugging Face checkpoint and a GGUF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    /// Nothing.
    None,
    /// Rows grouped by head, each head's q, k and v together, become all of q, then all of k, then all of v; heads
    /// keep their order. Row `h * 3 * head_dim + part * head_dim + i` moves to `part * n_embd + h * head_dim + i`.
    RegroupQkv,
}

/// The part a tensor plays. Says which tensors may be quantized and which type a recipe gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Token embeddings, `[n_vocab, n_embd]`.
    TokenEmbd,
    /// Output head, `[n_vocab, n_embd]`.
    Output,
    /// Weight or bias of a layer norm, `[n_embd]`.
    Norm,
    /// Bias of a matrix.
    Bias,
    /// Queries, keys and values in one matrix, `[3 * n_embd, n_embd]`.
    AttnQkv,
    /// Attention output projection, `[n_embd, n_embd]`.
    AttnOutput,
    /// First matrix of the feed-forward network, `[n_ff, n_embd]`.
    FfnUp,
    /// Second matrix of the feed-forward network, `[n_embd, n_ff]`.
    FfnDown,
}

impl Kind {
    /// Whether it is a matrix, and may be quantized; the others stay F32.
    pub fn is_matrix(self) -> bool {
        !matches!(self, Self::Norm | Self::Bias)
    }

    /// Whether it is one of the two matrices with a row per token.
    pub fn is_vocab_matrix(self) -> bool {
        matches!(self, Self::TokenEmbd | Self::Output)
    }
}

/// One tensor of the architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name in GGUF files.
    pub gguf: String,
    /// Its names in Hugging Face checkpoints, the canonical one first.
    pub hf: Vec<String>,
    /// Its shape, `[rows, cols]` or `[n]`, the same in both.
    pub shape: Vec<usize>,
    /// How the bytes differ between the two.
    pub transform: Transform,
    /// The part it plays.
    pub kind: Kind,
    /// The block it belongs to, if it belongs to one.
    pub layer: Option<usize>,
}

impl TensorSpec {
    fn new(gguf: impl Into<String>, hf: impl Into<String>, shape: &[usize], kind: Kind) -> Self {
        let transform = Transform::None;
        Self { gguf: gguf.into(), hf: vec![hf.into()], shape: shape.to_vec(), transform, kind, layer: None }
    }

    /// Its shape in GGUF order: the row length first.
    pub fn dims(&self) -> Vec<u64> {
        self.shape.iter().rev().map(|&n| n as u64).collect()
    }

    /// Number of elements.
    pub fn n_elems(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Every tensor of a model of these hyperparameters: embeddings, blocks, final norm, output head.
pub fn tensors(h: &Hparams) -> Vec<TensorSpec> {
    let (d, v) = (h.n_embd, h.n_vocab);
    let mut specs = vec![TensorSpec::new("token_embd.weight", "gpt_neox.embed_in.weight", &[v, d], Kind::TokenEmbd)];
    for block in 0..h.n_layer {
        let first = specs.len();
        push_block(&mut specs, h, block);
        specs[first..].iter_mut().for_each(|spec| spec.layer = Some(block));
    }
    push_norm(&mut specs, "output_norm", "gpt_neox.final_layer_norm", d);
    let mut output = TensorSpec::new("output.weight", "embed_out.weight", &[v, d], Kind::Output);
    output.hf.push("lm_head.weight".to_owned()); // Transformers 5
    specs.push(output);
    specs
}

fn push_block(specs: &mut Vec<TensorSpec>, h: &Hparams, block: usize) {
    let gguf = |part: &str| format!("blk.{block}.{part}");
    let hf = |part: &str| format!("gpt_neox.layers.{block}.{part}");
    let matrices = [
        ("attn_qkv", "attention.query_key_value", Kind::AttnQkv, 3 * h.n_embd, h.n_embd),
        ("attn_output", "attention.dense", Kind::AttnOutput, h.n_embd, h.n_embd),
        ("ffn_up", "mlp.dense_h_to_4h", Kind::FfnUp, h.n_ff, h.n_embd),
        ("ffn_down", "mlp.dense_4h_to_h", Kind::FfnDown, h.n_embd, h.n_ff),
    ];
    for (g, f, kind, rows, cols) in matrices {
        match kind {
            Kind::AttnQkv => push_norm(specs, &gguf("attn_norm"), &hf("input_layernorm"), h.n_embd),
            Kind::FfnUp => push_norm(specs, &gguf("ffn_norm"), &hf("post_attention_layernorm"), h.n_embd),
            _ => {}
        }
        let (g, f) = (gguf(g), hf(f));
        let mut weight = TensorSpec::new(format!("{g}.weight"), format!("{f}.weight"), &[rows, cols], kind);
        let mut bias = TensorSpec::new(format!("{g}.bias"), format!("{f}.bias"), &[rows], Kind::Bias);
        if kind == Kind::AttnQkv {
            weight.transform = Transform::RegroupQkv;
            bias.transform = Transform::RegroupQkv;
        }
        specs.extend([weight, bias]);
    }
}

fn push_norm(specs: &mut Vec<TensorSpec>, gguf: &str, hf: &str, n_embd: usize) {
    for part in ["weight", "bias"] {
        specs.push(TensorSpec::new(format!("{gguf}.{part}"), format!("{hf}.{part}"), &[n_embd], Kind::Norm));
    }
}

/// Parameters in all, and without the two vocabulary matrices: the two figures of the Pythia model card.
///
/// A GGUF file always has both matrices, so a tied checkpoint counts its one matrix twice.
pub fn parameter_counts(h: &Hparams) -> (u64, u64) {
    tensors(h).iter().fold((0, 0), |(total, inner), spec| {
        let n = spec.n_elems() as u64;
        (total + n, if spec.kind.is_vocab_matrix() { inner } else { inner + n })
    })
}

/// The tensors of a file, one for each of [`tensors`]`(h)` and in that order.
///
/// # Errors
/// If one is missing, has another shape than the hyperparameters say, or a type that cannot be decoded; if a norm or
/// a bias is not F32; or if the file has further tensors, which a model of this architecture would have to use.
pub fn bind<'g>(h: &Hparams, gguf: &'g Gguf) -> Result<Vec<&'g TensorInfo>, Error> {
    let specs = tensors(h);
    let mut bound = Vec::with_capacity(specs.len());
    for spec in &specs {
        let info = gguf
            .tensor(&spec.gguf)
            .ok_or_else(|| Error::tensor(&spec.gguf, "no such tensor", format!("one of shape {:?}", spec.shape)))?;
        check_tensor(spec, info)?;
        bound.push(info);
    }
    if gguf.tensors().len() > specs.len() {
        let mut names: Vec<_> = specs.iter().map(|s| s.gguf.as_str()).collect();
        names.sort_unstable();
        let extra = gguf.tensors().iter().find(|t| names.binary_search(&t.name.as_str()).is_err());
        if let Some(extra) = extra {
            let wanted = format!("only the {} of {ARCH} with {} blocks", specs.len(), h.n_layer);
            return Err(Error::tensor(&extra.name, "an unknown tensor", wanted));
        }
    }
    Ok(bound)
}

fn check_tensor(spec: &TensorSpec, info: &TensorInfo) -> Result<(), Error> {
    if info.dims != spec.dims() {
        let found = format!("shape {:?}", info.shape());
        return Err(Error::tensor(&spec.gguf, found, format!("{:?} by the metadata", spec.shape)));
    }
    match info.ty {
        AnyType::Foreign(ty) => {
            let names: Vec<_> = TensorType::ALL.iter().map(|t| t.name()).collect();
            let found = format!("type {}, not supported yet", ty.name);
            Err(Error::tensor(&spec.gguf, found, format!("one of {}", names.join(", "))))
        }
        AnyType::Known(ty) if ty != TensorType::F32 && !spec.kind.is_matrix() => {
            Err(Error::tensor(&spec.gguf, format!("type {ty}"), "F32, as norms and biases are"))
        }
        AnyType::Known(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Metadata;
    use crate::write::Layout;

    fn tiny() -> Hparams {
        Hparams {
            n_layer: 2,
            n_embd: 64,
            n_head: 4,
            n_ff: 96,
            n_vocab: 40,
            n_ctx: 32,
            n_rot: 4,
            rope_base: 10000.0,
            rope_factor: 1.0,
            norm_eps: 1e-5,
            parallel_residual: true,
            gelu_tanh: false,
        }
    }

    fn entries(h: &Hparams) -> Vec<(String, TensorType, Vec<u64>)> {
        let ty = |kind: Kind| if kind.is_matrix() { TensorType::Q8_0 } else { TensorType::F32 };
        tensors(h).iter().map(|s| (s.gguf.clone(), ty(s.kind), s.dims())).collect()
    }

    fn bind_entries(entries: Vec<(String, TensorType, Vec<u64>)>) -> Result<(), String> {
        let layout = Layout::new(&Metadata::new(), entries).unwrap();
        let mut file = layout.header().to_vec();
        file.resize(layout.total_bytes() as usize, 0);
        bind(&tiny(), &Gguf::parse(&file).unwrap()).map(|_| ()).map_err(|e| e.to_string())
    }

    /// `name, n_layer, n_embd, n_vocab`, then parameters in all and without embeddings by the tables of the model cards.
    /// The two smallest have no such table: theirs are by the formula in the test.
    const SUITE: [(&str, usize, usize, usize, u64, u64); 10] = [
        ("14m", 6, 128, 50304, 14_067_712, 1_189_888),
        ("31m", 6, 256, 50304, 30_494_720, 4_739_072),
        ("70m", 6, 512, 50304, 70_426_624, 18_915_328),
        ("160m", 12, 768, 50304, 162_322_944, 85_056_000),
        ("410m", 24, 1024, 50304, 405_334_016, 302_311_424),
        ("1b", 16, 2048, 50304, 1_011_781_632, 805_736_448),
        ("1.4b", 24, 2048, 50304, 1_414_647_808, 1_208_602_624),
        ("2.8b", 32, 2560, 50304, 2_775_208_960, 2_517_652_480),
        ("6.9b", 32, 4096, 50432, 6_857_302_016, 6_444_163_072),
        ("12b", 36, 5120, 50688, 11_846_072_320, 11_327_027_200),
    ];

    #[test]
    fn counts_are_those_of_the_model_card() {
        for (name, n_layer, n_embd, n_vocab, total, inner) in SUITE {
            let h = Hparams { n_layer, n_embd, n_ff: 4 * n_embd, n_vocab, ..tiny() };
            assert_eq!(parameter_counts(&h), (total, inner), "{name}");
            assert_eq!(tensors(&h).len(), 12 * n_layer + 4, "{name}");
            // Two vocabulary matrices; per block 12 squares of the width and 13 vectors of it; the final norm.
            let (l, d, v) = (n_layer as u64, n_embd as u64, n_vocab as u64);
            assert_eq!(total, 2 * v * d + l * (12 * d * d + 13 * d) + 2 * d, "{name}");
        }
    }

    #[test]
    fn binds_in_table_order_whatever_the_file_order() {
        let mut shuffled = entries(&tiny());
        shuffled.reverse();
        assert_eq!(bind_entries(shuffled), Ok(()));
    }

    #[test]
    fn refuses_files_that_are_not_this_model() {
        type Change = fn(&mut Vec<(String, TensorType, Vec<u64>)>);
        let cases: [(&str, Change, &str); 7] = [
            (
                "missing",
                |e| drop(e.pop()),
                "tensor 'output.weight': found no such tensor, wanted one of shape [40, 64]",
            ),
            ("extra", |e| e.push(("output.bias".into(), TensorType::F32, vec![40])), "'output.bias': found an unknown"),
            ("transposed", |e| e[9].2.reverse(), "tensor 'blk.0.ffn_up.weight': found shape [64, 96], wanted [96, 64]"),
            ("qkv rows", |e| e[3].2[1] -= 1, "tensor 'blk.0.attn_qkv.weight': found shape [191, 64], wanted [192, 64]"),
            ("vocabulary", |e| e[0].2[1] += 1, "tensor 'token_embd.weight': found shape [41, 64], wanted [40, 64]"),
            ("half norm", |e| e[1].1 = TensorType::F16, "tensor 'blk.0.attn_norm.weight': found type F16, wanted F32"),
            ("quantized bias", |e| e[10].1 = TensorType::Q8_0, "'blk.0.ffn_up.bias': found type Q8_0, wanted F32"),
        ];
        for (name, change, wanted) in cases {
            let mut entries = entries(&tiny());
            change(&mut entries);
            let line = bind_entries(entries).unwrap_err();
            assert!(line.contains(wanted), "{name}: {line}");
        }
    }
}
