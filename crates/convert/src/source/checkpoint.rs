//! A checkpoint as a source: other names for the tensors, another order of the rows of two of them.

use super::{Source, SourceTensor};
use crate::qkv::QkvOrder;
use crate::{Error, Provenance, metadata, provenance};
use pythia_checkpoint::{Checkpoint, Dtype, HiddenAct};
use pythia_gguf::Metadata;
use pythia_schema::{Hparams, TensorSpec, Transform};
use pythia_tensor::TensorType;
use std::ops::Range;
use std::path::PathBuf;

impl Source for Checkpoint {
    fn hparams(&self) -> Hparams {
        let config = self.config();
        Hparams {
            n_layer: config.n_layer,
            n_embd: config.n_embd,
            n_head: config.n_head,
            n_ff: config.n_ff,
            n_vocab: config.n_vocab,
            n_ctx: config.n_ctx,
            n_rot: config.n_rot(),
            rope_base: config.rope_base,
            rope_factor: config.rope_factor,
            norm_eps: config.norm_eps,
            parallel_residual: config.parallel_residual,
            gelu_tanh: config.hidden_act == HiddenAct::GeluTanh,
        }
    }

    fn resolve(&self, specs: &[TensorSpec]) -> Result<Vec<SourceTensor>, Error> {
        let config = self.config();
        let order = QkvOrder { n_head: config.n_head, head_dim: config.n_embd / config.n_head };
        let found = self.resolve(specs)?;
        let tensors = specs.iter().zip(found).map(|(spec, found)| SourceTensor {
            name: found.name.clone(),
            ty: tensor_type(found.dtype),
            shape: found.shape.clone(),
            order: match spec.transform {
                Transform::None => None,
                Transform::RegroupQkv => Some(order),
            },
        });
        Ok(tensors.collect())
    }

    fn metadata(&self, provenance: &Provenance) -> Result<Metadata, Error> {
        let malformed = |source| Error::Input { path: self.path().to_owned(), source };
        metadata::of_checkpoint(self, &Source::hparams(self), provenance).map_err(malformed)
    }

    fn inputs(&self) -> Vec<PathBuf> {
        provenance::inputs(self)
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = self.notes().to_vec();
        if self.tokenizer().is_none() {
            warnings
                .push("no tokenizer.json, nor vocab.json with merges.txt: the file will hold no tokenizer, and llama.cpp will not load it".to_owned());
        }
        if self.tied_head() {
            warnings.push("the output matrix is tied to the embedding: it is stored a second time".to_owned());
        }
        warnings
    }

    fn read_rows(&self, tensor: &SourceTensor, rows: Range<usize>, out: &mut Vec<u8>) -> Result<(), Error> {
        let found = self.tensor(&tensor.name).ok_or_else(|| Error::tensor(&tensor.name, "is not in the checkpoint"))?;
        read_in_order(tensor, rows, out, |rows, out| Ok(self.read_rows(found, rows.start, rows.len(), out)?))
    }
}

/// Replaces `out` by the rows `rows` of a tensor in the order of GGUF, by way of `read`, which replaces its buffer by rows in
/// the order of the checkpoint.
pub(super) fn read_in_order(
    tensor: &SourceTensor,
    rows: Range<usize>,
    out: &mut Vec<u8>,
    read: impl Fn(Range<usize>, &mut Vec<u8>) -> Result<(), Error>,
) -> Result<(), Error> {
    let Some(order) = tensor.order else { return read(rows, out) };
    let mut run_bytes = Vec::new();
    out.clear();
    out.reserve_exact(rows.len() * tensor.row_bytes());
    if tensor.shape.len() == 1 {
        // A bias: its elements are the rows of the matrix it belongs to.
        read(0..1, &mut run_bytes)?;
        let size = tensor.row_bytes() / tensor.row_elems();
        for run in order.source_runs(0..tensor.row_elems()) {
            out.extend_from_slice(&run_bytes[run.start * size..run.end * size]);
        }
    } else {
        for run in order.source_runs(rows) {
            read(run, &mut run_bytes)?;
            out.extend_from_slice(&run_bytes);
        }
    }
    Ok(())
}

/// The type of a checkpoint's tensor in GGUF.
pub(super) fn tensor_type(dtype: Dtype) -> TensorType {
    match dtype {
        Dtype::F32 => TensorType::F32,
        Dtype::F16 => TensorType::F16,
        Dtype::BF16 => TensorType::BF16,
    }
}

/// The other way round; `None` for block formats.
pub(super) fn dtype(ty: TensorType) -> Option<Dtype> {
    Dtype::ALL.into_iter().find(|&dtype| tensor_type(dtype) == ty)
}
