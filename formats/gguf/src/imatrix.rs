//! Importance matrices: the mean squared input of each column of a weight matrix while a model reads text.
//!
//! A file holds, per matrix, the sums over tokens of the squared inputs, and the number of tokens. Quantizers weight
//! the error of a column by the quotient. Two forms are read: the GGUF form of llama.cpp's `llama-imatrix`, which is
//! also written, and its older `.dat` form.

mod container;
mod legacy;

use crate::error::{Error, quoted};
use crate::rules::{self, MAGIC};

/// An importance matrix file, read or about to be written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imatrix {
    /// The matrices, in file order, each name once.
    pub entries: Vec<ImatrixEntry>,
    /// Names of the texts it was collected on.
    pub datasets: Vec<String>,
    /// Chunks of text it was collected on; 0 if the file does not say.
    pub chunk_count: u32,
    /// Tokens in a chunk; 0 if the file does not say.
    pub chunk_size: u32,
}

impl Imatrix {
    /// Reads a whole file of either form. Memory used is proportional to the bytes given, whatever lengths they
    /// declare.
    ///
    /// # Errors
    /// If the bytes are no importance matrix or end too early, or an entry breaks a rule of [`ImatrixEntry::new`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let imatrix = if bytes.starts_with(MAGIC) { container::parse(bytes)? } else { legacy::parse(bytes)? };
        if imatrix.entries.is_empty() {
            return Err(Error::header("no entries", "sums for at least one tensor"));
        }
        Ok(imatrix)
    }

    /// The file in its GGUF form, which `llama-quantize` reads too.
    ///
    /// # Errors
    /// If two entries have one name.
    pub fn to_gguf(&self) -> Result<Vec<u8>, Error> {
        container::write(self)
    }

    /// The entry of this tensor.
    pub fn entry(&self, tensor: &str) -> Option<&ImatrixEntry> {
        // Files hold a few hundred entries at most, so lookups just scan.
        self.entries.iter().find(|entry| entry.name == tensor)
    }

    /// Mean squared input of each of the `cols` columns of `tensor`, a plain matrix; `None` if the file has no entry
    /// for it. A matrix that never saw input gets ones, and a place in [`warnings`](Self::warnings).
    ///
    /// # Errors
    /// If the entry is of another size, or a column's importance is beyond what encoders can sum up (1e20).
    pub fn importance(&self, tensor: &str, cols: usize) -> Result<Option<Vec<f32>>, Error> {
        let Some(entry) = self.entry(tensor) else { return Ok(None) };
        match entry.counts[..] {
            [0.0] if entry.sums.len() == cols => Ok(Some(vec![1.0; cols])),
            [count] if entry.sums.len() == cols => {
                let means: Vec<f32> = entry.sums.iter().map(|sum| sum / count).collect();
                match means.iter().position(|&mean| mean > MAX_IMPORTANCE) {
                    Some(column) => {
                        let found = format!("importance {:e} of column {column}", means[column]);
                        Err(Error::tensor(tensor, found, format!("at most {MAX_IMPORTANCE:e}")))
                    }
                    None => Ok(Some(means)),
                }
            }
            _ => {
                let found = format!("importance of {} x {} columns", entry.counts.len(), entry.cols());
                Err(Error::tensor(tensor, found, format!("{cols} columns")))
            }
        }
    }

    /// Warnings, one line each: matrices that never received input.
    pub fn warnings(&self) -> Vec<String> {
        let unseen = self.entries.iter().filter(|entry| entry.counts.contains(&0.0));
        let line = |entry: &ImatrixEntry| {
            format!("tensor {}: a count of 0, it never saw input: its columns all count alike", quoted(&entry.name))
        };
        unseen.map(line).collect()
    }
}

/// The sums over the inputs of a weight matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct ImatrixEntry {
    name: String,
    /// `[n_mats, cols]`.
    sums: Vec<f32>,
    /// `[n_mats]`.
    counts: Vec<f32>,
}

impl ImatrixEntry {
    /// Sums over tokens of squared inputs, `[n_mats, cols]`, and numbers of tokens, `[n_mats]`, of the tensor `name`.
    /// A plain matrix has one count; a stack of matrices (experts) has one for each.
    ///
    /// # Errors
    /// If a sum is negative or not finite, a count is neither 0 nor a finite number of at least 1, the sums are not as
    /// many for each count, or the name is not 1 to 55 bytes without a NUL: with what the file form appends to it, it
    /// must be a tensor name.
    pub fn new(name: impl Into<String>, sums: Vec<f32>, counts: Vec<f32>) -> Result<Self, Error> {
        let name = name.into();
        rules::check_tensor_name(&name)?;
        if name.len() > MAX_NAME_BYTES {
            let found = format!("a name of {} bytes", name.len());
            return Err(Error::tensor(&name, found, format!("at most {MAX_NAME_BYTES} in an importance matrix")));
        }
        if sums.is_empty() || counts.is_empty() || !sums.len().is_multiple_of(counts.len()) {
            let found = format!("{} sums for {} counts", sums.len(), counts.len());
            return Err(Error::tensor(&name, found, "as many sums, at least one, for each count"));
        }
        if let Some((at, sum)) = sums.iter().enumerate().find(|(_, sum)| !(sum.is_finite() && **sum >= 0.0)) {
            let found = format!("sum {sum} at {at}");
            return Err(Error::tensor(&name, found, "sums of squares: finite, not negative"));
        }
        // Less than 1 but not 0 is no number of tokens, and as a divisor could make a finite sum infinite.
        if let Some(count) = counts.iter().find(|&&count| !(count == 0.0 || count >= 1.0 && count.is_finite())) {
            return Err(Error::tensor(&name, format!("count {count}"), "0, or a number of at least 1"));
        }
        Ok(Self { name, sums, counts })
    }

    /// Name of the tensor: `blk.0.attn_qkv.weight`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Inputs of a matrix.
    pub fn cols(&self) -> usize {
        self.sums.len() / self.counts.len()
    }

    /// Sums over tokens of squared inputs, `[n_mats, cols]`.
    pub fn sums(&self) -> &[f32] {
        &self.sums
    }

    /// Tokens that each matrix saw, `[n_mats]`. In a `.dat` file they are chunks, and the sums are scaled to that.
    pub fn counts(&self) -> &[f32] {
        &self.counts
    }
}

/// Maximum number of entries. Each is two tensors in the GGUF form.
const MAX_ENTRIES: u64 = rules::MAX_TENSORS / 2;

/// Little-endian floats.
fn floats(bytes: &[u8]) -> Result<Vec<f32>, Error> {
    let mut floats = Vec::new();
    if floats.try_reserve_exact(bytes.len() / 4).is_err() {
        return Err(Error::header(format!("no memory for {} bytes", bytes.len()), "more memory"));
    }
    floats.extend(bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
    Ok(floats)
}

/// Maximum importance. No activation comes near its root, and the sums of the encoders stay finite.
const MAX_IMPORTANCE: f32 = 1e20;

/// Maximum length of a name, so that a tensor name has space for the longer suffix.
const MAX_NAME_BYTES: usize = rules::MAX_NAME_BYTES - container::SUMS.len();
