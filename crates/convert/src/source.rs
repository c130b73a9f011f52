//! What a plan is made from and a run reads: a checkpoint, with an adapter or without, or a GGUF file.

mod checkpoint;
mod gguf;
mod lora;

pub use gguf::GgufSource;
pub use lora::{LoraFacts, LoraSource};

use crate::qkv::QkvOrder;
use crate::{Error, Provenance};
use pythia_gguf::Metadata;
use pythia_schema::{Hparams, TensorSpec};
use pythia_tensor::TensorType;
use std::ops::Range;
use std::path::PathBuf;

/// A model on disk. Opening one reads headers only; weights are read a few rows at a time.
pub trait Source: Sync {
    /// Its dimensions. Whether a model can have them is for the caller to check.
    fn hparams(&self) -> Hparams;

    /// The tensor behind each of `specs`, in their order.
    ///
    /// # Errors
    /// If one is missing or has another shape, or there are tensors that no spec asks for.
    fn resolve(&self, specs: &[TensorSpec]) -> Result<Vec<SourceTensor>, Error>;

    /// What every file made from it says about the model and its origin. How its tensors are stored is not part of it.
    ///
    /// # Errors
    /// If it is something that a reader would refuse.
    fn metadata(&self, provenance: &Provenance) -> Result<Metadata, Error>;

    /// The files it consists of. None of them is ever overwritten.
    fn inputs(&self) -> Vec<PathBuf>;

    /// What a user should know about it; one line each.
    fn warnings(&self) -> Vec<String>;

    /// The adapter that is merged into it, if there is one.
    fn lora(&self) -> Option<&LoraFacts> {
        None
    }

    /// Replaces `out` by the rows `rows` of a tensor, in the order of GGUF. Safe to call from many threads.
    ///
    /// # Errors
    /// If the rows are not all there, or the system refuses to read them.
    fn read_rows(&self, tensor: &SourceTensor, rows: Range<usize>, out: &mut Vec<u8>) -> Result<(), Error>;
}

/// A tensor of a [`Source`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceTensor {
    /// Its name there.
    pub name: String,
    /// How its elements are stored.
    pub ty: TensorType,
    /// `[rows, cols]` or `[n]`. Rows are whole blocks of the type.
    pub shape: Vec<usize>,
    /// Where its rows lie, if not in the order of GGUF.
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
