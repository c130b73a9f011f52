//! What a model makes the machine do per token, and what share of the machine's limit a speed is.

use pythia_gguf::{Gguf, TensorInfo};
use pythia_schema::{Kind, TensorId, block_part};
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

impl Work {
    /// Counts the tensors of a file.
    pub(crate) fn of(gguf: &Gguf) -> Self {
        let tensors = gguf.tensors();
        // A tied model has no output matrix: the embedding table is read in its place.
        let [embedding, head] =
            [Kind::TokenEmbd, Kind::Output].map(|kind| gguf.tensor(&TensorId::weight(kind, None).gguf()));
        let head = head.or(embedding);
        let is_read = |t: &&TensorInfo| Some(*t) == head || Some(*t) != embedding;
        let is_block_matrix = |t: &&TensorInfo| block_part(&t.name).is_some() && t.dims.len() > 1;
        let ops = |t: &TensorInfo| 2.0 * t.n_elems() as f64;
        Self {
            decode_bytes: tensors.iter().filter(is_read).map(|t| t.n_bytes as f64).sum(),
            block_ops: tensors.iter().filter(is_block_matrix).map(ops).sum(),
            head_ops: head.map_or(0.0, ops),
            is_quantized: tensors
                .iter()
                .filter(is_block_matrix)
                .any(|t| t.ty.known().is_some_and(TensorType::is_quantized)),
        }
    }

    /// Operations of a prompt of `n` tokens.
    pub(crate) fn prefill_ops(&self, n: usize) -> f64 {
        self.block_ops * n as f64 + self.head_ops
    }
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
