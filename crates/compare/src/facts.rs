//! Facts about a file: sizes, digests, how it was quantized.

use crate::cache::digests::Digests;
use crate::cache::folder::Folder;
use crate::report::{FileDigest, ImatrixOrigin, QuantizerOrigin};
use crate::{Candidate, Error, Rounding};
use pythia_convert::metadata::{RECIPE, REQUANTIZED};
use pythia_gguf::{Gguf, Metadata, TensorInfo};
use pythia_schema::block_part;
use pythia_task::Cancel;
use std::path::Path;

/// Facts about the files of a model.
pub(crate) struct Facts {
    pub(crate) files: Vec<FileDigest>,
    /// Bits of all tensor data per parameter.
    pub(crate) bits_per_weight: f64,
    /// The same over the transformer blocks alone.
    pub(crate) bits_per_weight_blocks: f64,
    pub(crate) variant: Variant,
}

/// How a file was quantized, in addition to its level.
#[derive(Clone, Default)]
pub(crate) struct Variant {
    pub(crate) imatrix: Option<ImatrixOrigin>,
    pub(crate) quantizer: Option<QuantizerOrigin>,
    /// Options that changed the mix of types.
    pub(crate) recipe: Option<String>,
    /// Block formats that tensors were decoded from.
    pub(crate) requantized: Vec<String>,
}

impl Facts {
    /// Reads the facts about the model whose first file is `path`. Reads every byte, unless the digest is known.
    fn of(path: &Path, digests: &mut Digests, cancel: &Cancel) -> Result<Self, Error> {
        let (gguf, files) = pythia_gguf::open(path)?;
        Ok(Self {
            files: files.iter().map(|file| digests.of(&file.path, cancel)).collect::<Result<_, _>>()?,
            bits_per_weight: bits_per_weight(&gguf, |_| true),
            bits_per_weight_blocks: bits_per_weight(&gguf, |tensor| block_part(&tensor.name).is_some()),
            variant: Variant::of(&gguf.metadata),
        })
    }

    /// The digests of its files, which identify it.
    pub(crate) fn id(&self) -> String {
        self.files.iter().map(|file| file.sha256.as_str()).collect::<Vec<_>>().join("+")
    }

    /// Size of all files.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// Reads the facts about all files.
pub(crate) fn read(candidates: &[Candidate], folder: Option<&Folder>, cancel: &Cancel) -> Result<Vec<Facts>, Error> {
    let mut digests = Digests::open(folder.map(Folder::path));
    let facts = candidates.iter().map(|candidate| Facts::of(&candidate.path, &mut digests, cancel)).collect();
    digests.keep();
    facts
}

impl Variant {
    /// Reads the metadata of a file.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let recipe = metadata.str(RECIPE).ok().flatten().map(str::to_owned);
        let requantized = metadata.strings(REQUANTIZED).ok().flatten();
        Self {
            imatrix: ImatrixOrigin::of_file(metadata),
            quantizer: QuantizerOrigin::of_file(metadata),
            recipe,
            requantized: requantized.map(<[String]>::to_vec).unwrap_or_default(),
        }
    }

    /// How it was rounded: the quantizer, or how the encoders were used.
    pub(crate) fn series(&self) -> String {
        match (&self.quantizer, &self.imatrix) {
            (Some(quantizer), _) => quantizer.name.clone(),
            (None, Some(_)) => Rounding::Imatrix.name().to_owned(),
            (None, None) => Rounding::Plain.name().to_owned(),
        }
    }

    /// The words in which its name differs from that of a plain file of its level, each with a space before it.
    pub(crate) fn suffix(&self) -> String {
        let quantizer = self.quantizer.as_ref().map(|quantizer| format!(" {}", quantizer.name));
        let words = [(self.imatrix.is_some(), " imatrix"), (self.recipe.is_some(), " mixed")];
        let words = words.into_iter().filter(|(applies, _)| *applies).map(|(_, word)| word.to_owned());
        quantizer.into_iter().chain(words).collect()
    }
}

/// Bits per weight of the tensors for which `included` is true.
fn bits_per_weight(gguf: &Gguf, included: impl Fn(&TensorInfo) -> bool) -> f64 {
    let tensors = gguf.tensors().iter().filter(|tensor| included(tensor));
    let (bytes, elems) = tensors.fold((0, 0), |sum, tensor| (sum.0 + tensor.n_bytes, sum.1 + tensor.n_elems()));
    8.0 * bytes as f64 / elems as f64
}
