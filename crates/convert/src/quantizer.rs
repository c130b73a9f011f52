//! Where a caller's quantizer takes part in a conversion.
//!
//! The encoders of `pythia-tensor` round each row by itself. A [`Quantizer`] sees the whole model: it may round a tensor
//! with regard to others, and to what they did already. It has its turn before the streaming pass, once per file. What
//! it does not [put](QuantizeJob::put), that pass encodes as without it.

use crate::output::AtomicFile;
use crate::{Error, FilePlan, PassOptions, Plan, Source};
use pythia_gguf::Value;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

/// Rounds the weights of a whole model.
///
/// The bytes that it puts must depend on nothing but the source, the plan and what [`metadata`](Self::metadata) says.
pub trait Quantizer: Send + Sync {
    /// Its name in one word, such as `feedback`. Recorded in the files.
    fn name(&self) -> &str;

    /// What else the files record about it. Keys begin with [`CALIBRATION`](crate::metadata::CALIBRATION) or
    /// [`QUANTIZER_DETAILS`](crate::metadata::QUANTIZER_DETAILS), and are dropped when the file is quantized again.
    fn metadata(&self) -> Vec<(String, Value)>;

    /// Whether it puts norms or biases too. The files record it, because their vectors are not the source's then.
    fn changes_vectors(&self) -> bool {
        false
    }

    /// Rounds the matrices of one file. Weights are finite, unless the caller of the run allowed others.
    ///
    /// # Errors
    /// What it met, as [`Error::quantizer`]; or what [`QuantizeJob::put`] and the source returned.
    fn quantize(&self, job: &QuantizeJob<'_>) -> Result<(), Error>;
}

impl fmt::Debug for dyn Quantizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quantizer").field("name", &self.name()).finish_non_exhaustive()
    }
}

/// A file that a quantizer rounds.
pub struct QuantizeJob<'a> {
    /// The model.
    pub source: &'a dyn Source,
    /// The plan of all files.
    pub plan: &'a Plan,
    /// Index of the file in [`Plan::files`].
    pub file: usize,
    /// Threads, cancel flag and progress. The quantizer chooses the unit of its progress, reports the total first, and
    /// names its items like `layer 3 of 6`.
    pub options: PassOptions<'a>,
    /// In the order of the shards.
    pub(crate) outputs: &'a [AtomicFile],
    pub(crate) done: &'a Done,
}

impl QuantizeJob<'_> {
    /// The plan of this file.
    pub fn file_plan(&self) -> &FilePlan {
        &self.plan.files[self.file]
    }

    /// Writes a tensor, whole and encoded in the type that it has in this file. `tensor` is its index in
    /// [`Plan::tensors`]. Replaces what was put before. Can be called from several threads, for different tensors.
    ///
    /// # Errors
    /// If there is no such tensor, `bytes` has another length, it is a vector although the quantizer does not
    /// [change vectors](Quantizer::changes_vectors), or the system refuses to write.
    pub fn put(&self, tensor: usize, bytes: &[u8]) -> Result<(), Error> {
        let Some((shard, info)) = self.file_plan().tensors().nth(tensor) else {
            let n = self.plan.tensors.len();
            return Err(Error::Request(format!("the quantizer made tensor {tensor}, wanted an index below {n}")));
        };
        let is_vector = info.dims.len() < 2;
        if is_vector && !self.plan.quantizer.as_ref().is_some_and(|quantizer| quantizer.changes_vectors()) {
            return Err(Error::tensor(&info.name, "made by a quantizer that does not change vectors"));
        }
        if bytes.len() as u64 != info.n_bytes {
            let (found, wanted, ty) = (bytes.len(), info.n_bytes, &info.ty);
            let reason = format!("the quantizer made {found} bytes, wanted {wanted} of {}", ty.name());
            return Err(Error::tensor(&info.name, reason));
        }
        self.outputs[shard].write_at(bytes, info.offset)?;
        self.done.add(tensor);
        Ok(())
    }
}

/// The tensors of a file that are written.
#[derive(Debug)]
pub(crate) struct Done(Vec<AtomicBool>);

impl Done {
    /// None of `n_tensors`.
    pub(crate) fn new(n_tensors: usize) -> Self {
        Self((0..n_tensors).map(|_| AtomicBool::new(false)).collect())
    }

    fn add(&self, tensor: usize) {
        self.0[tensor].store(true, Ordering::Relaxed);
    }

    pub(crate) fn has(&self, tensor: usize) -> bool {
        self.0[tensor].load(Ordering::Relaxed)
    }
}
