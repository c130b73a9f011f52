//! What a model makes the machine do per token, and what share of the machine's limit a speed is.

use pythia_gguf::{Gguf, TensorInfo};
use pythia_schema::{Kind, TensorId, TensorSpec, block_part};
use pythia_tensor::TensorType;

/// Bytes read and operations done. Attention over earlier tokens is not counted: at the lengths measured here it is a
/// few percent, and leaving it out makes a share too low rather than too high.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Work {
    /// Bytes of weights that decoding a token reads: every tensor but the embedding table, of which it reads a row.
    pub(crate) decode_bytes: f64,
    /// A multiply and an add per weight of the blocks' matrices, for every token.
    pub(crate) block_ops: f64,
    /// The same for the output matrix, which a prompt needs once, after its last token.
    pub(crate) head_ops: f64,
    /// Whether any of the blocks' matrices is quantized: which of the processor's rates bounds a prompt.
    pub(crate) is_quantized: bool,
}

/// What matters of a tensor.
#[derive(Clone, Copy)]
struct Part<'a> {
    name: &'a str,
    is_matrix: bool,
    elems: f64,
    bytes: f64,
    is_quantized: bool,
}

impl<'a> Part<'a> {
    fn of_file(tensor: &'a TensorInfo) -> Self {
        Self {
            name: &tensor.name,
            is_matrix: tensor.dims.len() > 1,
            elems: tensor.n_elems() as f64,
            bytes: tensor.n_bytes as f64,
            is_quantized: tensor.ty.known().is_some_and(TensorType::is_quantized),
        }
    }

    fn of_spec(spec: &'a TensorSpec, ty: TensorType) -> Self {
        Self {
            name: &spec.gguf,
            is_matrix: spec.id.is_matrix(),
            elems: spec.n_elems() as f64,
            bytes: spec_bytes(spec, ty) as f64,
            is_quantized: ty.is_quantized(),
        }
    }
}

impl Work {
    /// Counts the tensors of a file.
    pub(crate) fn of(gguf: &Gguf) -> Self {
        Self::of_parts(&gguf.tensors().iter().map(Part::of_file).collect::<Vec<_>>())
    }

    /// Counts the tensors of a file that need not exist.
    pub(crate) fn of_specs(tensors: &[(TensorSpec, TensorType)]) -> Self {
        Self::of_parts(&tensors.iter().map(|(spec, ty)| Part::of_spec(spec, *ty)).collect::<Vec<_>>())
    }

    fn of_parts(parts: &[Part<'_>]) -> Self {
        // A tied model has no output matrix: the embedding table is read in its place.
        let named = |kind| {
            let name = TensorId::weight(kind, None).gguf();
            parts.iter().position(|part| part.name == name)
        };
        let embedding = named(Kind::TokenEmbd);
        let head = named(Kind::Output).or(embedding);
        let is_read = |i: usize| Some(i) == head || Some(i) != embedding;
        let block_matrices = || parts.iter().filter(|part| part.is_matrix && block_part(part.name).is_some());
        Self {
            decode_bytes: parts.iter().enumerate().filter(|(i, _)| is_read(*i)).map(|(_, part)| part.bytes).sum(),
            block_ops: block_matrices().map(|part| 2.0 * part.elems).sum(),
            head_ops: head.map_or(0.0, |head| 2.0 * parts[head].elems),
            is_quantized: block_matrices().any(|part| part.is_quantized),
        }
    }

    /// Operations of a prompt of `n` tokens.
    pub(crate) fn prefill_ops(&self, n: usize) -> f64 {
        self.block_ops * n as f64 + self.head_ops
    }
}

/// Bytes of a tensor of a type whose blocks divide its rows.
pub(crate) fn spec_bytes(spec: &TensorSpec, ty: TensorType) -> u64 {
    let cols = spec.shape.last().copied().unwrap_or(1);
    (spec.n_elems() / cols * ty.row_bytes(cols).unwrap_or(0)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use pythia_gguf::{Layout, Metadata};

    fn gguf(tensors: &[(&str, TensorType, &[u64])]) -> Gguf {
        let tensors = tensors.iter().map(|(name, ty, dims)| (name.to_string(), *ty, dims.to_vec())).collect();
        let layout = Layout::new(&Metadata::new(), tensors).unwrap();
        let mut bytes = layout.header().to_vec();
        bytes.resize(layout.total_bytes() as usize, 0);
        Gguf::parse(&bytes).unwrap()
    }

    const EMBEDDING: (&str, TensorType, &[u64]) = ("token_embd.weight", TensorType::F16, &[32, 100]);
    const BLOCK: (&str, TensorType, &[u64]) = ("blk.0.ffn_up.weight", TensorType::Q8_0, &[32, 64]);
    const NORM: (&str, TensorType, &[u64]) = ("blk.0.attn_norm.weight", TensorType::F32, &[32]);

    #[test]
    fn the_embedding_table_is_read_only_when_it_is_the_head() {
        let head = ("output.weight", TensorType::Q8_0, &[32, 100][..]);
        let untied = Work::of(&gguf(&[EMBEDDING, BLOCK, NORM, head]));
        let (block, norm) = (64 * 34, 32 * 4);
        assert_eq!(untied.decode_bytes, f64::from(block + norm + 100 * 34));
        assert_eq!(untied.prefill_ops(10), f64::from(2 * 32 * (64 * 10 + 100)));
        let tied = Work::of(&gguf(&[EMBEDDING, BLOCK, NORM]));
        assert_eq!(tied.decode_bytes, f64::from(block + norm + 100 * 64));
        assert_eq!(tied.prefill_ops(10), untied.prefill_ops(10));
        // A quantized head alone does not make the prompt's products integer ones.
        let float_block = ("blk.0.ffn_up.weight", TensorType::F16, &[32, 64][..]);
        assert!(tied.is_quantized && !Work::of(&gguf(&[EMBEDDING, float_block, NORM, head])).is_quantized);
    }
}
