//! The sources of a conversion: a checkpoint, with or without an adapter, or a GGUF file.

mod checkpoint;
mod gguf;
mod lora;

pub use checkpoint::CheckpointSource;
pub use gguf::{GgufSource, model_name};
pub use lora::{LoraFacts, LoraSource};

use crate::qkv::QkvOrder;
use crate::{Error, Provenance};
use pythia_gguf::Metadata;
use pythia_schema::{Hparams, TensorSpec};
use pythia_tensor::TensorType;
use std::ops::Range;
use std::path::PathBuf;

/// A model on disk. Opening one reads headers only; weights are read a few rows at a time.
pub trait Source: Send + Sync {
    /// Its hyperparameters. The caller must check them.
    fn hparams(&self) -> Hparams;

    /// The tensor behind each of `specs`, in their order.
    ///
    /// # Errors
    /// If one is missing or has another shape, or there are additional tensors.
    fn resolve(&self, specs: &[TensorSpec]) -> Result<Vec<SourceTensor>, Error>;

    /// Metadata about the model and its origin, for every file made from it. Tensor types are not part of it.
    ///
    /// # Errors
    /// If a reader would refuse it.
    fn metadata(&self, provenance: &Provenance) -> Result<Metadata, Error>;

    /// The files it consists of. None of them is ever overwritten.
    fn inputs(&self) -> Vec<PathBuf>;

    /// Warnings for the user, one line each.
    fn warnings(&self) -> Vec<String>;

    /// The adapter that is merged into it, if there is one.
    fn lora(&self) -> Option<&LoraFacts> {
        None
    }

    /// Replaces `out` by the rows `rows` of a tensor, in the order of GGUF. Can be called from several threads.
    ///
    /// # Errors
    /// If rows are missing, or the system refuses to read them.
    fn read_rows(&self, tensor: &SourceTensor, rows: Range<usize>, out: &mut Vec<u8>) -> Result<(), Error>;
}

/// A tensor of a [`Source`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceTensor {
    /// Its name in the source.
    pub name: String,
    /// How its elements are stored.
    pub ty: TensorType,
    /// `[rows, cols]` or `[n]`. Rows are whole blocks of the type.
    pub shape: Vec<usize>,
    /// The order of its rows, if not that of GGUF.
    pub(crate) order: Option<QkvOrder>,
}

impl SourceTensor {
    /// Elements of one row: the last dimension. A vector is one row.
    pub fn row_elems(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.shape.split_last().map_or(1, |(_, outer)| outer.iter().product())
    }

    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.row_elems() / self.ty.block_elems() * self.ty.block_bytes()
    }

    /// Bytes of the whole tensor.
    pub fn n_bytes(&self) -> u64 {
        self.n_rows() as u64 * self.row_bytes() as u64
    }
}
