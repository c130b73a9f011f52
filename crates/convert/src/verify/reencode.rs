//! Compares the bytes of a file with a new encoding of its source.
//!
//! Encoders are deterministic and byte-equal to the reference's. So most files, of this project or of llama.cpp, are
//! equal to the byte, and a difference is damage. There are three exceptions:
//!
//! - Tensors that were encoded with unavailable importances, from quantized weights, or by another program. Most of
//!   their blocks differ, and the only test for a block is whether its type can cause such an error at all.
//! - Files of other builds of the reference, which round a few blocks differently with about the same error. A block is
//!   damaged if most other blocks are equal and its error is far larger than ours.
//! - Matrices that a [quantizer](crate::Quantizer) rounded together, which depend on more than the source. No block of
//!   them can be judged alone, because it may take over the errors of others.

use super::{BytePlace, expected};
use crate::file::Elems;
use crate::metadata::{IMATRIX_SHA256, QUANTIZER, QUANTIZER_VECTORS, REQUANTIZED, VERSION};
use crate::{Error, ImatrixFile};
use pythia_gguf::Metadata;
use pythia_schema::TensorSpec;
use pythia_tensor::TensorType;

/// Whether a new encoding of the source should give the bytes of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Certainty {
    /// Yes: this version of this project wrote it, from weights that were not quantized.
    Sure,
    /// Probably: another program or version wrote it.
    Likely,
    /// No: it was made from quantized weights.
    No,
}

/// A quantizer that rounded tensors together, according to the metadata of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Together {
    /// Its name.
    pub(super) name: String,
    /// Whether it changed norms or biases.
    vectors: bool,
}

impl Together {
    pub(super) fn of(metadata: &Metadata) -> Option<Self> {
        let name = metadata.str(QUANTIZER).ok().flatten()?.to_owned();
        Some(Self { name, vectors: metadata.bool(QUANTIZER_VECTORS).ok().flatten().unwrap_or(false) })
    }

    /// Whether it may have changed a tensor.
    pub(super) fn has(&self, ty: TensorType, is_matrix: bool) -> bool {
        if is_matrix { ty.is_quantized() } else { self.vectors }
    }
}

/// How the tensors of a file were encoded, according to its metadata.
pub(super) struct Encoder {
    certainty: Certainty,
    /// Tensors that have no encoding of their own.
    pub(super) together: Option<Together>,
    /// Importances of each spec. `None` if the file was made without, or with an importance matrix that is not
    /// available.
    importance: Vec<Option<Vec<f32>>>,
}

impl Encoder {
    /// Reads the metadata of the file. `imatrix` is the importance matrix that it was made with, if available.
    pub(super) fn of(metadata: &Metadata, imatrix: Option<&ImatrixFile>, specs: &[TensorSpec]) -> Result<Self, Error> {
        let text = |key| metadata.str(key).ok().flatten();
        let is_ours = text(VERSION).is_some();
        let stated = text(IMATRIX_SHA256);
        if let (Some(stated), Some(imatrix)) = (stated, imatrix)
            && stated != imatrix.sha256()
        {
            let (path, found) = (imatrix.path().display(), imatrix.sha256());
            return Err(Error::Request(format!("{path}: has SHA-256 {found}, the file was made with {stated}")));
        }
        // Our files always state their importance matrix. Others may not.
        let imatrix = imatrix.filter(|_| stated.is_some() || !is_ours);
        let importance = match imatrix {
            Some(imatrix) => imatrix.importance(specs)?,
            None => vec![None; specs.len()],
        };
        let certainty = match text(VERSION) {
            _ if metadata.get(REQUANTIZED).is_some() => Certainty::No,
            Some(env!("CARGO_PKG_VERSION")) => Certainty::Sure,
            _ => Certainty::Likely,
        };
        Ok(Self { certainty, together: Together::of(metadata), importance })
    }

    /// Compares blocks of tensor `index` in the file with their source.
    pub(super) fn compare(
        &self,
        index: usize,
        ty: TensorType,
        found: &Elems,
        source: &[f32],
        anew: &mut Elems,
    ) -> Blocks {
        let candidate = match self.certainty {
            Certainty::No => None,
            Certainty::Sure | Certainty::Likely => {
                anew.bytes.resize(found.bytes.len(), 0);
                match &self.importance[index] {
                    Some(importance) => ty.encode_weighted(source, importance, &mut anew.bytes),
                    None => ty.encode(source, &mut anew.bytes),
                }
                Some(&anew.bytes[..])
            }
        };
        let (elems, size) = (ty.block_elems(), ty.block_bytes());
        let mut blocks = Blocks::default();
        let mut decoded = vec![0.0; elems];
        for (at, (stored, values)) in found.bytes.chunks(size).zip(found.values.chunks(elems)).enumerate() {
            let original = &source[at * elems..][..elems];
            blocks.n += 1;
            let candidate = candidate.map(|bytes| &bytes[at * size..][..size]);
            let Some(byte) = first_difference(stored, candidate) else { continue };
            let place = (at as u64, byte);
            if is_impossible(original, values) {
                blocks.impossible.add(place);
            }
            let Some(candidate) = candidate else { continue };
            blocks.different.add(place);
            ty.decode(candidate, &mut decoded);
            if is_worse(ty, original, values, &decoded) {
                blocks.worse.add(place);
            }
        }
        blocks
    }

    /// The verdict on a tensor from the counts of its blocks. `together` says whether a quantizer may have changed it.
    /// `place` locates a byte of a block, both by number.
    pub(super) fn judge(&self, blocks: &Blocks, together: bool, place: impl Fn(u64, usize) -> BytePlace) -> Encoded {
        if together && (self.certainty == Certainty::No || blocks.different.n > 0) {
            return Encoded::Together;
        }
        // Importances, other weights or another algorithm would change nearly every block.
        let is_ours = self.certainty != Certainty::No && 2 * blocks.different.n <= blocks.n;
        let (fault, wrong) = match (is_ours, self.certainty) {
            (true, Certainty::Sure) => (Fault::Different, blocks.different),
            (true, _) => (Fault::Worse, blocks.worse),
            (false, _) => (Fault::Impossible, blocks.impossible),
        };
        match wrong.first {
            Some((block, byte)) => {
                let place = place(block, byte);
                Encoded::Wrong(WrongBlocks { fault, n: wrong.n, of: blocks.n, block, place })
            }
            None if self.certainty != Certainty::No && blocks.different.n == 0 => Encoded::Equal,
            None => Encoded::Otherwise,
        }
    }
}

/// The first byte at which a block differs from the candidate. 0 if there is no candidate.
fn first_difference(stored: &[u8], candidate: Option<&[u8]>) -> Option<usize> {
    let Some(candidate) = candidate else { return Some(0) };
    // Whole blocks are compared first, which is fast for equal files.
    if stored == candidate {
        return None;
    }
    stored.iter().zip(candidate).position(|(a, b)| a != b)
}

/// No encoder makes an error above this many times the largest magnitude of the block. The worst that it does to a
/// value is to replace it by zero, or by the smallest of a grid with the wrong sign.
const LARGEST_ERROR: f32 = 2.0;

fn is_impossible(original: &[f32], values: &[f32]) -> bool {
    let largest = original.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    original.iter().zip(values).any(|(a, b)| (a - b).abs() > LARGEST_ERROR * largest)
}

/// Limit for the square error of a block from another build of the same encoder, as a multiple of ours.
const WORSE: f64 = 4.0;

fn is_worse(ty: TensorType, original: &[f32], values: &[f32], ours: &[f32]) -> bool {
    let square_error = |values: &[f32]| original.iter().zip(values).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
    let square: f64 = original.iter().map(|x| f64::from(*x).powi(2)).sum();
    // At least the expected error, because ours may happen to be exact.
    square_error(values) > WORSE * square_error(ours).max(expected::nmse(ty) * square)
}

/// Blocks of one sort.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Count {
    n: u64,
    /// The first of them, and the first byte in it that differs.
    first: Option<(u64, usize)>,
}

impl Count {
    fn add(&mut self, place: (u64, usize)) {
        self.n += 1;
        self.first.get_or_insert(place);
    }

    /// Adds the counts of `other`, which start at block `start`.
    fn append(&mut self, other: Self, start: u64) {
        self.n += other.n;
        self.first = self.first.or(other.first.map(|(block, byte)| (start + block, byte)));
    }
}

/// Counts of the blocks of a tensor, or of a part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Blocks {
    n: u64,
    /// Blocks with other bytes than a new encoding.
    different: Count,
    /// Of these, blocks with a far larger error.
    worse: Count,
    /// Blocks with errors that no encoder makes.
    impossible: Count,
}

impl Blocks {
    /// Adds the counts of the following blocks.
    pub(super) fn append(&mut self, next: &Self) {
        self.different.append(next.different, self.n);
        self.worse.append(next.worse, self.n);
        self.impossible.append(next.impossible, self.n);
        self.n += next.n;
    }
}

/// The result of comparing a tensor with a new encoding of its source.
#[derive(Clone, Debug, PartialEq)]
pub enum Encoded {
    /// Every byte is equal.
    Equal,
    /// It was encoded differently: with unavailable importances, from quantized weights, or by another program. All
    /// errors are possible for its type.
    Otherwise,
    /// A quantizer rounded it together with others, so it cannot be encoded again. Only its error was checked.
    Together,
    /// Some blocks are wrong.
    Wrong(WrongBlocks),
}

/// Why a block is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It differs from a new encoding of the source, in a file where all blocks should be equal.
    Different,
    /// It differs and has more than twice the error, in a tensor where most blocks are equal.
    Worse,
    /// Its error is more than twice its largest weight.
    Impossible,
}

/// Wrong blocks of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct WrongBlocks {
    /// Why they are wrong.
    pub fault: Fault,
    /// How many there are.
    pub n: u64,
    /// How many the tensor has.
    pub of: u64,
    /// The first of them.
    pub block: u64,
    /// Its first byte that differs.
    pub place: BytePlace,
}

impl WrongBlocks {
    /// On one line, without the name of the tensor.
    pub(super) fn describe(&self, ty: TensorType) -> String {
        let Self { fault, n, of, block, place } = self;
        let what = match fault {
            Fault::Different => "differ from those that encoding the source gives",
            Fault::Worse => "have more than twice the error that encoding the source makes",
            Fault::Impossible => "have errors of more than twice their largest weight",
        };
        format!("{n} of {of} {ty} blocks {what}, the first is block {block}, at {place}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_tensor_add_up() {
        let mut all = Blocks { n: 5, ..Blocks::default() };
        let mut part = Blocks { n: 4, ..Blocks::default() };
        part.different.add((2, 7));
        part.different.add((3, 1));
        part.worse.add((3, 1));
        all.append(&part);
        all.append(&part);
        assert_eq!((all.n, all.different.n, all.different.first), (13, 4, Some((7, 7))));
        assert_eq!((all.worse.first, all.impossible.n), (Some((8, 1)), 0));
    }

    #[test]
    fn only_what_an_encoder_cannot_make_is_impossible() {
        let original = [1.0, -0.5, 0.25];
        assert!(!is_impossible(&original, &[-1.0, 0.5, 0.0]));
        assert!(is_impossible(&original, &[8.0, -4.0, 2.0]));
        assert!(!is_impossible(&[0.0; 3], &[0.0; 3]) && is_impossible(&[0.0; 3], &[0.0, 1e-3, 0.0]));
    }
}
