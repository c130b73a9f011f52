//! Checks a GGUF file: by itself, by its digests, and against its source.
//!
//! [`GgufFile::open`] has already refused what the container's rules forbid: tensors that are outside the file, are not
//! aligned, overlap or leave holes. This module finds the other problems, all of them and not only the first.

mod against;
mod contents;
mod expected;
mod reencode;

pub use against::{Against, TensorError, against};
pub use reencode::{Encoded, Fault, WrongBlocks};

use crate::Error;
use crate::digest::{self, Digests, Sidecar};
use crate::file::GgufFile;
use crate::pipeline::{PassOptions, Pipeline};
use crate::provenance::base_name;
use pythia_gguf::keys;
use pythia_schema::Hparams;
use pythia_tensor::TensorType;
use pythia_text::Escaper;
use pythia_tokenizer::Vocab;
use std::collections::HashMap;
use std::fmt::{self, Write};
use std::path::PathBuf;

/// A byte of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BytePlace {
    /// Bytes from the start of its file.
    pub offset: u64,
    /// Base name of that file, where the model is split over several.
    pub part: Option<String>,
}

impl fmt::Display for BytePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}", self.offset)?;
        match &self.part {
            Some(part) => write!(f, " of {part}"),
            None => Ok(()),
        }
    }
}

/// A problem of a model. Displayed as one line, without the name of the file.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Problem {
    /// Metadata or tensors are not those of a model of this architecture.
    Model(pythia_gguf::Error),
    /// Bytes follow the last tensor of a file and its padding.
    Trailing {
        /// Where they start.
        place: BytePlace,
        /// How many there are.
        n_bytes: u64,
    },
    /// Padding is not all zeros, so something was written beyond the end of a tensor.
    Padding {
        /// The tensor before it.
        tensor: String,
        /// Where the first byte is that is not zero.
        place: BytePlace,
    },
    /// Blocks decode to infinite values or NaN.
    NotFinite {
        /// The tensor.
        tensor: String,
        /// Name of its type.
        ty: &'static str,
        /// How many blocks do.
        n_blocks: u64,
        /// How many it has.
        of: u64,
        /// The first that does.
        block: u64,
        /// Where that block starts.
        place: BytePlace,
    },
    /// The SHA-256 differs from that in the sidecar.
    Digest {
        /// The tensor; `None` for the whole file.
        tensor: Option<String>,
        /// Base name of the file, where the model is split over several.
        part: Option<String>,
        /// The computed digest.
        found: String,
        /// The digest in the sidecar.
        wanted: String,
    },
    /// The sidecar cannot be used.
    Sidecar {
        /// The sidecar.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The tokenizer is inconsistent, or the embedded `tokenizer.json` and the other keys differ. [`verify`] does not
    /// find this, because it knows nothing of tokenizers; callers can add it.
    Tokenizer(String),
    /// File and source are not the same model.
    OtherModel {
        /// The key or the token that differs.
        what: String,
        /// What the file has.
        found: String,
        /// What the source has.
        wanted: String,
    },
    /// The error of a tensor is larger than rounding to its type causes.
    Suspect(TensorError),
    /// Blocks of a tensor that no encoder makes from the source.
    Blocks {
        /// The tensor.
        tensor: String,
        /// How the file stores it.
        ty: TensorType,
        /// Which blocks.
        wrong: WrongBlocks,
    },
}

impl Problem {
    /// The tensor concerned, if there is one.
    pub fn tensor(&self) -> Option<&str> {
        match self {
            Self::Model(e) => match e.place() {
                pythia_gguf::Place::Tensor(name) => Some(name),
                _ => None,
            },
            Self::Padding { tensor, .. } | Self::NotFinite { tensor, .. } | Self::Blocks { tensor, .. } => Some(tensor),
            Self::Digest { tensor, .. } => tensor.as_deref(),
            Self::Suspect(error) => Some(&error.name),
            Self::Trailing { .. } | Self::Sidecar { .. } | Self::Tokenizer(_) | Self::OtherModel { .. } => None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut Escaper::line(f);
        match self {
            Self::Model(e) => write!(f, "{e}"),
            Self::Trailing { place, n_bytes } => {
                write!(f, "{n_bytes} bytes from {place} on, wanted none after the last tensor")
            }
            Self::Padding { tensor, place } => {
                write!(f, "padding after tensor {tensor:?}: {place} is not zero")
            }
            Self::NotFinite { tensor, ty, n_blocks, of, block, place } => write!(
                f,
                "tensor {tensor:?}: {n_blocks} of {of} {ty} blocks hold values that are not finite, the first is block \
                 {block} at {place}"
            ),
            Self::Digest { tensor, part, found, wanted } => {
                match (tensor, part) {
                    (Some(tensor), _) => write!(f, "tensor {tensor:?}")?,
                    (None, Some(part)) => write!(f, "the whole file {part}")?,
                    (None, None) => f.write_str("the whole file")?,
                }
                write!(f, ": found SHA-256 {found}, wanted {wanted}")
            }
            Self::Sidecar { path, reason } => write!(f, "{}: {reason}", pythia_text::path(path)),
            Self::Tokenizer(reason) => f.write_str(reason),
            Self::OtherModel { what, found, wanted } => {
                write!(f, "{what}: found {found}, wanted {wanted} as in the source")
            }
            Self::Suspect(error) => write!(f, "{error}"),
            Self::Blocks { tensor, ty, wrong } => write!(f, "tensor {tensor:?}: {}", wrong.describe(*ty)),
        }
    }
}

/// The result of [`verify`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Problems, in the order of the file.
    pub problems: Vec<Problem>,
    /// Remarks about unusual but valid contents, one line each.
    pub warnings: Vec<String>,
    /// The model, if metadata and tensors are those of one.
    pub hparams: Option<Hparams>,
    /// The digests of each file, if they were requested or any of the files has a sidecar; otherwise empty.
    pub digests: Vec<Digests>,
    /// The existing sidecars.
    pub sidecars: Vec<PathBuf>,
}

/// The total of the progress that [`verify`] reports.
pub fn progress_bytes(file: &GgufFile, digests: bool) -> u64 {
    let hashed = digests || file.parts().iter().any(|part| digest::sidecar(part.path()).exists());
    file.tensor_bytes() + if hashed { file.n_bytes() } else { 0 }
}

/// Checks a model by itself: structure, metadata and every value. Also computes the digests of its files, if `digests`
/// is set or any `FILE.sha256` exists to compare them with.
///
/// # Errors
/// If a file cannot be read, the threads cannot be started, or it is cancelled. A fault of the model is not an error
/// but a [`Problem`].
pub fn verify(file: &GgufFile, digests: bool, options: &PassOptions<'_>) -> Result<Report, Error> {
    let mut report = Report::default();
    match model(file) {
        Ok(hparams) => report.hparams = Some(hparams),
        Err(e) => report.problems.push(Problem::Model(e)),
    }
    if file.gguf().metadata.get(keys::TOKENIZER_MODEL).is_none() {
        report.warnings.push("no tokenizer in the file".to_owned());
    }
    let pipeline = Pipeline::new(options)?;
    contents::check(file, &pipeline, &mut report)?;
    let sidecars = file.parts().iter().map(|part| Sidecar::read(part.path())).collect::<Result<Vec<_>, _>>()?;
    if digests || sidecars.iter().any(Option::is_some) {
        for (number, (part, sidecar)) in file.parts().iter().zip(sidecars).enumerate() {
            let tensors = file.gguf().tensors().iter().filter(|tensor| tensor.file == number);
            let found = digest::of_tensors(part.path(), tensors, part.n_bytes(), options)?;
            if let Some(sidecar) = sidecar {
                let part = (file.parts().len() > 1).then(|| base_name(part.path()));
                report.problems.extend(compare(&sidecar, part, &found));
                report.sidecars.push(sidecar.path);
            }
            report.digests.push(found);
        }
    }
    Ok(report)
}

/// The hyperparameters, if the header is consistent.
fn model(file: &GgufFile) -> Result<Hparams, pythia_gguf::Error> {
    let metadata = &file.gguf().metadata;
    let hparams = Hparams::from_metadata(metadata)?;
    pythia_schema::bind(&hparams, file.gguf())?;
    if metadata.get(keys::TOKENIZER_MODEL).is_some() {
        Vocab::from_metadata(metadata)?;
    }
    Ok(hparams)
}

/// The differences between the digests of a file and its sidecar. `part` is its name if it is one of several files.
fn compare(sidecar: &Sidecar, part: Option<String>, found: &Digests) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut check = |tensor: Option<&str>, found: &str, wanted: &str| {
        if !found.eq_ignore_ascii_case(wanted) {
            let (found, wanted) = (found.to_owned(), wanted.to_owned());
            let tensor = tensor.map(str::to_owned);
            problems.push(Problem::Digest { tensor, part: part.clone(), found, wanted });
        }
    };
    if let Some(wanted) = &sidecar.whole {
        check(None, &found.whole, wanted);
    }
    let by_name: HashMap<_, _> = found.tensors.iter().map(|(name, digest)| (name, digest)).collect();
    for (tensor, wanted) in &sidecar.tensors {
        check(Some(tensor), by_name.get(tensor).map_or("of nothing", |digest| digest), wanted);
    }
    if sidecar.whole.is_none() {
        let reason = "contains no SHA-256 of the file".to_owned();
        problems.push(Problem::Sidecar { path: sidecar.path.clone(), reason });
    }
    problems
}
