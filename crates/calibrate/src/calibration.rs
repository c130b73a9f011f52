//! Calibration files: where errors of a model's weights matter, measured on a text.
//!
//! Let g be the gradient of the log-likelihood of labels that are drawn from the model's own predictions, at the output
//! of a matrix. `G = E[g gT]` is a block of the Fisher information: to second order, an error e of that output changes
//! the model's predictions by a divergence of `eT G e / 2` (Amari, "Natural Gradient Works Efficiently in Learning",
//! 1998, section 4). A quantizer that knows G, and the second moments of the inputs, knows which errors are cheap.
//!
//! A [`Collector`] makes such a file, and [`Calibration`] reads it. `docs/gguf-files.md` in the repository describes it.

mod collect;
mod estimate;
mod format;
mod job;
#[cfg(test)]
mod tests;
mod totals;
mod windows;

pub use collect::{Collected, Collector, Request, partial_path};
pub use estimate::Estimate;
pub use format::Provenance;
pub use job::{Done, Job, Settings};
pub use windows::{check_n_ctx, windows};

use crate::Error;
use crate::network::Network;
use format::Header;
use pythia_gguf::Gguf;
use pythia_schema::{Hparams, TensorId};
use pythia_tensor::FileMap;
use pythia_text::hex;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Rows that a block of an output metric has at most. The metric of a matrix with more rows is block diagonal.
pub const METRIC_ROWS: usize = 1024;

/// A block of the metric at the output of a matrix, for consecutive rows of the matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricBlock {
    /// The first of its rows.
    pub first_row: usize,
    /// Their number.
    pub rows: usize,
    /// `[rows, rows]`, symmetric: the mean over tokens of g gT.
    pub values: Vec<f32>,
}

/// A calibration file that is open. Its metrics are read when they are asked for. Clones share the file.
#[derive(Clone)]
pub struct Calibration(Arc<Inner>);

struct Inner {
    path: PathBuf,
    map: FileMap,
    gguf: Gguf,
    header: Header,
    sha256: OnceLock<String>,
}

impl Calibration {
    /// Opens a file and checks its header: sizes, tokens, and that every metric is there.
    ///
    /// # Errors
    /// If it cannot be read, is damaged, or is not a calibration file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let map = FileMap::open(path).map_err(|source| Error::Io { path: path.to_owned(), action: "open", source })?;
        let malformed = |source| Error::File { path: path.to_owned(), source };
        let gguf = Gguf::parse(&map).map_err(malformed)?;
        let header = Header::from_metadata(&gguf.metadata, format::COMPLETE).map_err(malformed)?;
        format::check_tensors(&gguf, &header).map_err(malformed)?;
        Ok(Self(Arc::new(Inner { path: path.to_owned(), map, gguf, header, sha256: OnceLock::new() })))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// SHA-256 of the file, hexadecimal. Computed when it is first asked for.
    pub fn sha256(&self) -> &str {
        self.0.sha256.get_or_init(|| hex(&Sha256::digest(&*self.0.map)))
    }

    /// What it was made from.
    pub fn provenance(&self) -> &Provenance {
        &self.0.header.provenance
    }

    /// The sizes of the model, with the GELU that it was computed with.
    pub fn hparams(&self) -> &Hparams {
        &self.0.header.hparams
    }

    /// Whether it is one of this model, in any type that keeps norms and biases.
    ///
    /// # Errors
    /// If the model cannot be read.
    pub fn is_of(&self, network: &Network<'_>) -> Result<bool, Error> {
        // The fingerprint alone is a claim of the file, and sizes decide what is read from it.
        let sizes = Hparams { gelu_tanh: self.hparams().gelu_tanh, ..network.hparams().clone() };
        Ok(*self.hparams() == sizes && self.provenance().fingerprint == network.fingerprint()?)
    }

    /// Tokens of a window.
    pub fn n_ctx(&self) -> usize {
        self.0.header.n_ctx
    }

    /// The tokens that the model has read: whole windows.
    pub fn tokens(&self) -> &[u32] {
        &self.0.header.tokens
    }

    /// The metric at the output of a matrix of a block: consecutive rows, at most [`METRIC_ROWS`] in a block.
    ///
    /// # Errors
    /// If the model has no such matrix, or values are not those of a metric.
    pub fn output_metric(&self, id: TensorId) -> Result<Vec<MetricBlock>, Error> {
        let rows = self.0.header.metric_rows(id).ok_or_else(|| unknown(id, "out_metric"))?;
        let blocks = format::blocks(rows).enumerate();
        blocks.map(|(i, range)| self.square(&format::metric_name(id, i), range.start, range.len())).collect()
    }

    /// The metric at the output of the embedding: for the rows of `token_embd`, it weights columns.
    ///
    /// # Errors
    /// If values are not those of a metric.
    pub fn embedding_metric(&self) -> Result<MetricBlock, Error> {
        self.square(&format::embedding_name(), 0, self.0.header.hparams.n_embd)
    }

    /// The second moments of the inputs of a matrix, `[cols, cols]`: the mean over tokens of x xT, in full precision.
    /// `None` if they were not collected.
    ///
    /// # Errors
    /// If the model has no such matrix, or values are not those of second moments.
    pub fn input_moment(&self, id: TensorId) -> Result<Option<Vec<f32>>, Error> {
        let cols = self.0.header.moment_cols(id).ok_or_else(|| unknown(id, "in_moment"))?;
        if !self.0.header.inputs {
            return Ok(None);
        }
        Ok(Some(self.square(&format::moment_name(id), 0, cols)?.values))
    }

    fn square(&self, name: &str, first_row: usize, rows: usize) -> Result<MetricBlock, Error> {
        let values = format::square(&self.0.gguf, &self.0.map, name, rows);
        let values = values.map_err(|source| Error::File { path: self.0.path.clone(), source })?;
        Ok(MetricBlock { first_row, rows, values })
    }
}

impl std::fmt::Debug for Calibration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Inner { path, header, .. } = &*self.0;
        f.debug_struct("Calibration")
            .field("path", path)
            .field("provenance", &header.provenance)
            .finish_non_exhaustive()
    }
}

fn unknown(id: TensorId, what: &str) -> Error {
    Error::Setting { name: "tensor", problem: format!("found {id}, wanted a matrix that has an {what}") }
}
