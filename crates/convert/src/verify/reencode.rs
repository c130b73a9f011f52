//! The bytes of a file against those that encoding the source anew gives.
//!
//! Encoders are deterministic and are those of the reference, so most files, of this project or of llama.cpp, are equal to
//! the byte, and what differs is damage. Not so where tensors were encoded with importances that are not at hand, from
//! quantized weights, or by another program: then most blocks differ, and all that can be said of one is whether its
//! type can make such an error at all. Between the two are other builds of the reference, which round a few blocks
//! otherwise, to the same effect: a block that is far worse than ours among many that are equal is damaged.

use super::{BytePlace, expected};
use crate::file::Elems;
use crate::metadata::{IMATRIX_SHA256, REQUANTIZED, VERSION};
use crate::{Error, ImatrixFile};
use pythia_gguf::Metadata;
use pythia_schema::TensorSpec;
use pythia_tensor::TensorType;

/// How sure it is that encoding the source anew gives the bytes of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Certainty {
    /// This version of this project wrote it, from weights that were not quantized.
    Sure,
    /// Another program or version did.
    Likely,
    /// From quantized weights: it does not.
    No,
}

/// What made the tensors of a file, as far as it tells.
pub(super) struct Encoder {
    certainty: Certainty,
    /// Of each spec; none if the file was made without, or with an importance matrix that is not at hand.
    importance: Vec<Option<Vec<f32>>>,
}

impl Encoder {
    /// Goes by the metadata of the file; `imatrix` is what its tensors were encoded with, if that is at hand.
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
        // Our files say whether there was one. Those of others may, or may not.
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
        Ok(Self { certainty, importance })
    }

    /// Compares blocks of the tensor number `index`: as they are in the file, and their source.
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

    /// What the blocks of a whole tensor say. `place` finds a byte of a block, both by number.
    pub(super) fn judge(&self, blocks: &Blocks, place: impl Fn(u64, usize) -> BytePlace) -> Encoded {
        // Importances, other weights or another algorithm change nearly every block.
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

/// The first byte at which a block is not the candidate; the first of all if there is no candidate.
fn first_difference(stored: &[u8], candidate: Option<&[u8]>) -> Option<usize> {
    let Some(candidate) = candidate else { return Some(0) };
    // Comparing whole blocks first is what makes equal files fast.
    if stored == candidate {
        return None;
    }
    stored.iter().zip(candidate).position(|(a, b)| a != b)
}

/// An error larger than this many times the largest magnitude of the block is none that an encoder makes: values that it
/// gives up become zero, or the smallest of a grid with the wrong sign.
const LARGEST_ERROR: f32 = 2.0;

fn is_impossible(original: &[f32], values: &[f32]) -> bool {
    let largest = original.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    original.iter().zip(values).any(|(a, b)| (a - b).abs() > LARGEST_ERROR * largest)
}

/// How many times the square error of ours a block may have that another build of the same encoder made.
const WORSE: f64 = 4.0;

fn is_worse(ty: TensorType, original: &[f32], values: &[f32], ours: &[f32]) -> bool {
    let square_error = |values: &[f32]| original.iter().zip(values).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
    let square: f64 = original.iter().map(|x| f64::from(*x).powi(2)).sum();
    // A block that ours happens to hit exactly is no measure of others.
    square_error(values) > WORSE * square_error(ours).max(expected::nmse(ty) * square)
}

/// Blocks of one sort.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Count {
    n: u64,
    /// The first of them, and the first byte in it that is not as it would be.
    first: Option<(u64, usize)>,
}

impl Count {
    fn add(&mut self, place: (u64, usize)) {
        self.n += 1;
        self.first.get_or_insert(place);
    }

    /// Adds what `other` has counted from block `start` on.
    fn append(&mut self, other: Self, start: u64) {
        self.n += other.n;
        self.first = self.first.or(other.first.map(|(block, byte)| (start + block, byte)));
    }
}

/// What the blocks of a tensor, or a part of it, are like.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Blocks {
    n: u64,
    /// Other bytes than encoding anew gives.
    different: Count,
    /// And far larger an error.
    worse: Count,
    /// Errors that no encoder makes.
    impossible: Count,
}

impl Blocks {
    /// Adds the blocks that follow.
    pub(super) fn append(&mut self, next: &Self) {
        self.different.append(next.different, self.n);
        self.worse.append(next.worse, self.n);
        self.impossible.append(next.impossible, self.n);
        self.n += next.n;
    }
}

/// What comparing a tensor with its source encoded anew came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Encoded {
    /// Every byte is equal.
    Equal,
    /// It was encoded in another way: with importances that are not at hand, from quantized weights, by another program.
    /// No block has an error that its type cannot make.
    Otherwise,
    /// Some blocks are wrong.
    Wrong(WrongBlocks),
}

/// What is wrong with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It has other bytes than the source encoded anew, in a file where all should be equal.
    Different,
    /// It has other bytes and more than twice the error, in a tensor of which most blocks are equal.
    Worse,
    /// Its error is more than twice its largest weight.
    Impossible,
}

/// Blocks of a tensor that no encoder has made of the source.
#[derive(Clone, Debug, PartialEq)]
pub struct WrongBlocks {
    /// What is wrong with them.
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
            Fault::Different => "are not what encoding the source gives",
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
