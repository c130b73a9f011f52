//! A checkpoint as a source. It has other names for the tensors, and another order of the rows of `attn_qkv`.

use super::{Source, SourceTensor};
use crate::qkv::QkvOrder;
use crate::{Error, Provenance, metadata, provenance};
use pythia_checkpoint::{Checkpoint, Dtype, HiddenAct};
use pythia_gguf::{Metadata, keys};
use pythia_schema::{Hparams, TensorSpec, Transform};
use pythia_task::ErrorKind;
use pythia_tensor::TensorType;
use pythia_tokenizer::{ForModel, Tokenizer, TokenizerFile};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A checkpoint and the tokenizer beside it.
#[derive(Debug)]
pub struct CheckpointSource {
    checkpoint: Checkpoint,
    tokenizer: Option<TokenizerFile>,
}

impl CheckpointSource {
    /// Opens the checkpoint at `path`, a folder or one weight file, with the tokenizer in its folder, if there is one.
    ///
    /// # Errors
    /// If a file cannot be read, is damaged, or holds something that is not supported.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_variant(path, None)
    }

    /// As [`open`](Self::open), with the weights of `variant` where a folder has several: `fp16`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_variant(path: &Path, variant: Option<&str>) -> Result<Self, Error> {
        let checkpoint = Checkpoint::open_variant(path, variant)?;
        let config = checkpoint.config();
        let model = ForModel { n_vocab: config.n_vocab, bos: config.bos_token, eos: config.eos_token };
        let tokenizer = TokenizerFile::find(checkpoint.folder(), &model)?;
        Ok(Self { checkpoint, tokenizer })
    }

    /// The checkpoint: its config and its weights.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The tokenizer, if there is one.
    pub fn tokenizer(&self) -> Option<&TokenizerFile> {
        self.tokenizer.as_ref()
    }

    /// Checks that a reader can build a tokenizer from the metadata that will be written. Having none is not an error.
    ///
    /// # Errors
    /// If the tokenizer that there is cannot be used.
    pub fn check_tokenizer(&self, provenance: &Provenance) -> Result<(), Error> {
        let metadata = self.metadata(provenance)?;
        if metadata.get(keys::TOKENS).is_some() {
            let unusable = |problem| Error::unusable(self.checkpoint.path(), ErrorKind::Data, problem);
            Tokenizer::from_gguf(&metadata).map_err(unusable)?;
        }
        Ok(())
    }
}

impl Source for CheckpointSource {
    fn hparams(&self) -> Hparams {
        let config = self.checkpoint.config();
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
        let config = self.checkpoint.config();
        let order = QkvOrder { n_head: config.n_head, head_dim: config.n_embd / config.n_head };
        let found = self.checkpoint.resolve(specs)?;
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
        let malformed = |source| Error::Input { path: self.checkpoint.path().to_owned(), source };
        metadata::of_checkpoint(self, provenance).map_err(malformed)
    }

    fn inputs(&self) -> Vec<PathBuf> {
        provenance::inputs(&self.checkpoint)
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = self.checkpoint.notes().to_vec();
        match &self.tokenizer {
            Some(tokenizer) => warnings.extend(tokenizer.notes()),
            None => {
                let missing = "no tokenizer.json, and no vocab.json with merges.txt";
                warnings.push(format!("{missing}, so the file will have no tokenizer and llama.cpp cannot load it"));
            }
        }
        if self.checkpoint.tied_head() {
            warnings.push("the output matrix is tied to the embedding; the file will contain it twice".to_owned());
        }
        warnings
    }

    fn read_rows(&self, tensor: &SourceTensor, rows: Range<usize>, out: &mut Vec<u8>) -> Result<(), Error> {
        let found = self
            .checkpoint
            .tensor(&tensor.name)
            .ok_or_else(|| Error::tensor(&tensor.name, "is not in the checkpoint"))?;
        read_in_order(tensor, rows, out, |rows, out| {
            Ok(self.checkpoint.read_rows(found, rows.start, rows.len(), out)?)
        })
    }
}

/// Replaces `out` by the rows `rows` of a tensor in the order of GGUF. `read` replaces its buffer by rows in the order
/// of the checkpoint.
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
        // A bias. Its elements correspond to the rows of its matrix.
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

/// The GGUF type for a type of a checkpoint.
pub(super) fn tensor_type(dtype: Dtype) -> TensorType {
    match dtype {
        Dtype::F32 => TensorType::F32,
        Dtype::F16 => TensorType::F16,
        Dtype::BF16 => TensorType::BF16,
    }
}
