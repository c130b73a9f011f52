//! Compares a file with its source: the error of every tensor, and whether rounding explains it.

use super::contents::place;
use super::reencode::{Blocks, Encoded, Encoder};
use super::{Problem, expected};
use crate::deviation::Deviation;
use crate::file::{Elems, GgufFile, byte_range};
use crate::pipeline::{CHUNK_ELEMS, Chunked, PassOptions, Pipeline};
use crate::{Error, ImatrixFile, Provenance, Source, SourceTensor};
use pythia_gguf::{Metadata, TensorInfo, Value, keys};
use pythia_schema::Hparams;
use pythia_tensor::TensorType;
use std::fmt;

/// The result of [`against`].
#[derive(Clone, Debug, PartialEq)]
pub struct Against {
    /// Differences that show another model, then the suspect tensors.
    pub problems: Vec<Problem>,
    /// Name of the quantizer that rounded matrices together, if the file states one. Those are not re-encoded.
    pub quantizer: Option<String>,
    /// All tensors, the worst relative error first. Empty if the two models have different tensors.
    pub tensors: Vec<TensorError>,
}

/// The error of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorError {
    /// Its name in GGUF.
    pub name: String,
    /// How the file stores it.
    pub ty: TensorType,
    /// How the source stores it.
    pub source: TensorType,
    /// Deviation of the file's values from the source's.
    pub deviation: Deviation,
    /// The largest plausible relative RMS error for the type, if known.
    pub limit: Option<f64>,
    /// How its bytes compare with a new encoding of the source.
    pub encoded: Encoded,
}

impl TensorError {
    /// Whether every value equals the source's.
    pub fn is_identical(&self) -> bool {
        self.deviation.is_zero()
    }

    /// Whether the error is larger than rounding to the type causes.
    pub fn is_suspect(&self) -> bool {
        let relative = self.deviation.relative_rms().unwrap_or(f64::INFINITY);
        self.deviation.n_not_finite > 0 || self.limit.is_some_and(|limit| relative > limit)
    }
}

/// Why it is suspect, on one line.
impl fmt::Display for TensorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, ty, source, deviation, limit, .. } = self;
        write!(f, "tensor {name:?}: ")?;
        if deviation.n_not_finite > 0 {
            return write!(f, "{} values are not finite, here or in the source", deviation.n_not_finite);
        }
        match deviation.relative_rms() {
            Some(relative) => write!(f, "relative RMS error {relative:.2e}")?,
            None => write!(f, "RMS error {:.2e} where the source is zero", deviation.rms())?,
        }
        match limit {
            Some(0.0) => write!(f, ", wanted none: {ty} holds {source} exactly"),
            Some(limit) => write!(f, ", wanted at most {limit:.2e} for {ty} made from {source}"),
            None => Ok(()),
        }
    }
}

/// Compares `file`, a model of `hparams`, with its source, whose tensors are F32, F16 or BF16. Compares values, and
/// bytes with a new encoding of the source. A file made with an importance matrix needs `imatrix` for that. Matrices
/// that a [quantizer](crate::Quantizer) rounded together cannot be encoded again: only their errors are compared.
///
/// # Errors
/// If the source lacks a tensor or has quantized ones, `imatrix` does not fit or is not the one that the file was made
/// with, something cannot be read, or it is cancelled.
pub fn against(
    file: &GgufFile,
    hparams: &Hparams,
    source: &dyn Source,
    imatrix: Option<&ImatrixFile>,
    options: &PassOptions<'_>,
) -> Result<Against, Error> {
    let source_hparams = source.hparams();
    source_hparams.check()?;
    let mut problems = different_keys(hparams, &source_hparams);
    let (file_says, source_says) = (&file.gguf().metadata, &source.metadata(&Provenance::default())?);
    problems.extend(different_text(file_says, source_says, keys::TOKENS, "token"));
    problems.extend(different_text(file_says, source_says, keys::MERGES, "merge"));
    let specs = pythia_schema::tensors(hparams);
    if specs != pythia_schema::tensors(&source_hparams) {
        return Ok(Against { problems, quantizer: None, tensors: Vec::new() });
    }
    let bound = pythia_schema::bind(hparams, file.gguf());
    let bound = bound.map_err(|source| Error::Input { path: file.path().to_owned(), source })?;
    let sources = source.resolve(&specs)?;
    if let Some(quantized) = sources.iter().find(|tensor| tensor.ty.is_quantized()) {
        let path = source.inputs().first().map(|path| path.display().to_string()).unwrap_or_default();
        let reason =
            format!("{:?} is {}, wanted F32, F16 or BF16 to measure errors against", quantized.name, quantized.ty);
        return Err(Error::Request(format!("{path}: tensor {reason}")));
    }
    let encoder = Encoder::of(&file.gguf().metadata, imatrix, &specs)?;
    let types = bound.iter().filter_map(|tensor| tensor.ty.known()).filter(|ty| ty.is_quantized());
    let limit_together = expected::limit_together(types);
    let pipeline = Pipeline::new(options)?;
    let mut tensors = Vec::with_capacity(specs.len());
    for (index, (tensor, original)) in bound.into_iter().zip(&sources).enumerate() {
        let measure = Measure { file, tensor, source, original, encoder: &encoder, limit_together, index };
        tensors.push(measure.run(&pipeline)?);
    }
    // A tensor without a relative error deviates from zeros, which is worst. The sort is stable.
    let key = |tensor: &TensorError| tensor.deviation.relative_rms().unwrap_or(f64::INFINITY);
    tensors.sort_by(|a, b| key(b).total_cmp(&key(a)));
    problems.extend(tensors.iter().filter_map(problem));
    Ok(Against { problems, quantizer: encoder.together.map(|together| together.name), tensors })
}

/// The problem of a tensor, if there is one: the whole tensor or some blocks.
fn problem(tensor: &TensorError) -> Option<Problem> {
    match &tensor.encoded {
        _ if tensor.is_suspect() => Some(Problem::Suspect(tensor.clone())),
        Encoded::Wrong(wrong) => {
            Some(Problem::Blocks { tensor: tensor.name.clone(), ty: tensor.ty, wrong: wrong.clone() })
        }
        Encoded::Equal | Encoded::Otherwise | Encoded::Together => None,
    }
}

/// A tensor and its source.
struct Measure<'a> {
    file: &'a GgufFile,
    tensor: &'a TensorInfo,
    source: &'a dyn Source,
    original: &'a SourceTensor,
    encoder: &'a Encoder,
    /// Limit for the relative error of a matrix that was rounded together with others.
    limit_together: f64,
    /// Its number in the list of specs.
    index: usize,
}

/// Buffers of one worker, reused from chunk to chunk.
#[derive(Default)]
struct Scratch {
    found: Elems,
    wanted: Elems,
    anew: Elems,
}

impl Measure<'_> {
    fn run(&self, pipeline: &Pipeline<'_>) -> Result<TensorError, Error> {
        let Self { file, tensor, source, original, .. } = *self;
        let ty = tensor.ty.known().ok_or_else(|| Error::tensor(&tensor.name, "is of a type that cannot be decoded"))?;
        let row_elems = original.row_elems() as u64;
        let step = (CHUNK_ELEMS / row_elems.max(1)).max(1);
        let len = original.n_rows() as u64;
        let span = Chunked { name: &tensor.name, len, step, progress_bytes: tensor.n_bytes };
        let parts = pipeline.map(span, |rows, scratch: &mut Scratch| {
            let Scratch { found, wanted, anew } = scratch;
            let elems = rows.start * row_elems..rows.end * row_elems;
            found.read(file, tensor, ty, &elems)?;
            source.read_rows(original, rows.start as usize..rows.end as usize, &mut wanted.bytes)?;
            wanted.decode(original.ty, found.values.len());
            let mut deviation = Deviation::default();
            deviation.add(&wanted.values, &found.values);
            Ok((deviation, self.encoder.compare(self.index, ty, found, &wanted.values, anew)))
        })?;
        let (mut deviation, mut blocks) = (Deviation::default(), Blocks::default());
        for (part, its_blocks) in &parts {
            deviation = deviation.merge(part);
            blocks.append(its_blocks);
        }
        let is_matrix = original.shape.len() > 1;
        let together = self.encoder.together.as_ref().is_some_and(|together| together.has(ty, is_matrix));
        let encoded = self.encoder.judge(&blocks, together, |block, byte| {
            let elem = block * ty.block_elems() as u64;
            place(file, tensor.file, byte_range(tensor, &(elem..elem)).start + byte as u64)
        });
        let limit = match encoded {
            // A vector that was changed has no type that its error could come from.
            Encoded::Together => is_matrix.then_some(self.limit_together),
            _ => expected::limit(ty, original.ty),
        };
        Ok(TensorError { name: tensor.name.clone(), ty, source: original.ty, deviation, limit, encoded })
    }
}

/// The hyperparameters that differ.
fn different_keys(file: &Hparams, source: &Hparams) -> Vec<Problem> {
    let metadata = |hparams: &Hparams| {
        let mut metadata = Metadata::new();
        hparams.to_metadata(&mut metadata);
        metadata
    };
    let (file, source) = (metadata(file), metadata(source));
    // Some keys exist only in files of models that need them.
    let others = source.iter().filter(|(key, _)| file.get(key).is_none());
    let all = file.iter().chain(others).map(|(key, _)| key);
    let different = all.filter(|key| file.get(key) != source.get(key));
    let problem = |key: &str| Problem::OtherModel {
        what: format!("key '{key}'"),
        found: plain(file.get(key)),
        wanted: plain(source.get(key)),
    };
    different.map(problem).collect()
}

/// A value of a hyperparameter, which is a number, a truth value or a name.
fn plain(value: Option<&Value>) -> String {
    match value {
        Some(Value::U32(v)) => v.to_string(),
        Some(Value::F32(v)) => v.to_string(),
        Some(Value::Bool(v)) => v.to_string(),
        Some(Value::String(v)) => format!("{v:?}"),
        Some(other) => other.type_name(),
        None => "none".to_owned(),
    }
}

/// The first token or merge that differs, where both have a vocabulary.
fn different_text(file: &Metadata, source: &Metadata, key: &str, what: &str) -> Option<Problem> {
    let (Ok(Some(file)), Ok(Some(source))) = (file.strings(key), source.strings(key)) else {
        return None;
    };
    let n = file.len().max(source.len());
    let at = (0..n).find(|&id| file.get(id) != source.get(id))?;
    let shown = |texts: &[String]| texts.get(at).map_or(format!("no such {what}"), |text| format!("{text:?}"));
    Some(Problem::OtherModel { what: format!("{what} {at}"), found: shown(file), wanted: shown(source) })
}
