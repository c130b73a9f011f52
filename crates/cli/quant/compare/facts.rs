//! What is in a file, apart from how it performs: sizes, digests, how it was quantized.

use super::super::cache::digests::Digests;
use super::super::cache::folder::Folder;
use super::Contestant;
use crate::exit::{self, Failure};
use crate::input::check_file;
use crate::report::{FileDigest, ImatrixOrigin};
use pythia_gguf::{Gguf, Metadata, TensorInfo};
use pythia_schema::block_part;
use std::path::Path;

/// What the files of a level say of themselves.
pub(super) struct Facts {
    pub(super) files: Vec<FileDigest>,
    /// Bits of all tensor data per parameter.
    pub(super) bits_per_weight: f64,
    /// The same over the transformer blocks alone.
    pub(super) bits_per_weight_blocks: f64,
    pub(super) variant: Variant,
}

/// How a file was quantized, where that is not told by its level.
#[derive(Clone, Default)]
pub(super) struct Variant {
    pub(super) imatrix: Option<ImatrixOrigin>,
    /// Options that changed the mix of types.
    pub(super) recipe: Option<String>,
    /// Block formats that tensors were decoded from.
    pub(super) requantized: Vec<String>,
}

impl Facts {
    /// Of the model whose first file is `path`. Every byte is read, unless the digest is known.
    fn of(path: &Path, digests: &mut Digests) -> Result<Self, Failure> {
        check_file(path)?;
        let (gguf, files) = pythia_gguf::open(path).map_err(pythia_convert::Error::from)?;
        let cancel = exit::catch_interrupts();
        Ok(Self {
            files: files.iter().map(|file| digests.of(&file.path, cancel)).collect::<Result<_, _>>()?,
            bits_per_weight: bits_per_weight(&gguf, |_| true),
            bits_per_weight_blocks: bits_per_weight(&gguf, |tensor| block_part(&tensor.name).is_some()),
            variant: Variant::of(&gguf.metadata),
        })
    }

    /// The digests of its files, which say what it is.
    pub(super) fn id(&self) -> String {
        self.files.iter().map(|file| file.sha256.as_str()).collect::<Vec<_>>().join("+")
    }

    /// Size of all files.
    pub(super) fn file_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// The facts about all levels.
pub(super) fn read(contestants: &[Contestant], folder: Option<&Folder>) -> Result<Vec<Facts>, Failure> {
    let mut digests = Digests::open(folder);
    let facts = contestants.iter().map(|contestant| Facts::of(&contestant.path, &mut digests)).collect();
    digests.keep();
    facts
}

impl Variant {
    /// What a file says.
    pub(super) fn of(metadata: &Metadata) -> Self {
        let recipe = metadata.str("pythia_quant.recipe").ok().flatten().map(str::to_owned);
        let requantized = metadata.strings("pythia_quant.requantized").ok().flatten();
        Self {
            imatrix: ImatrixOrigin::of_file(metadata),
            recipe,
            requantized: requantized.map(<[String]>::to_vec).unwrap_or_default(),
        }
    }

    /// The words that tell it from a plain file of its level, each with a space before it.
    pub(super) fn suffix(&self) -> String {
        let words = [(self.imatrix.is_some(), " imatrix"), (self.recipe.is_some(), " mixed")];
        words.into_iter().filter(|(applies, _)| *applies).map(|(_, word)| word).collect()
    }
}

/// Bits per weight of the tensors that `included` picks.
fn bits_per_weight(gguf: &Gguf, included: impl Fn(&TensorInfo) -> bool) -> f64 {
    let tensors = gguf.tensors().iter().filter(|tensor| included(tensor));
    let (bytes, elems) = tensors.fold((0, 0), |sum, tensor| (sum.0 + tensor.n_bytes, sum.1 + tensor.n_elems()));
    8.0 * bytes as f64 / elems as f64
}
