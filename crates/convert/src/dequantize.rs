//! From GGUF back to a Hugging Face checkpoint.
//!
//! Every tensor is decoded, rows of queries, keys and values are put back in the order of heads, and the folder
//! contains what Transformers (4 and 5) needs to load it. All threads read, decode and write chunks by position, so
//! memory does not depend on the size of the model.

mod config;
mod header;

use crate::Error;
use crate::file::{Elems, GgufFile};
use crate::output::{AtomicFile, AtomicFolder, check_folder, recover_folder};
use crate::pipeline::{CHUNK_ELEMS, Chunked, PassOptions, Pipeline};
use crate::qkv::QkvOrder;
use header::Header;
use pythia_gguf::{TensorInfo, keys};
use pythia_schema::{Hparams, TensorSpec, Transform};
use pythia_tensor::TensorType;
use pythia_tokenizer::Vocab;
use std::ops::Range;
use std::path::Path;

/// The files that the folder can have. A folder with any other file is not replaced.
const FILES: &[&str] = &["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"];

/// What to write.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How all tensors are stored: F32, F16 or BF16.
    pub dtype: TensorType,
    /// The text of `tokenizer.json`. The caller provides it, because rebuilding one needs the tokenizer.
    pub tokenizer_json: Option<String>,
    /// Replace an existing checkpoint.
    pub force: bool,
}

/// A file of the folder that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedFile {
    /// Its name.
    pub name: &'static str,
    /// Its size.
    pub n_bytes: u64,
}

/// Writes the model in `file` to the folder `target`, which appears whole or not at all.
///
/// # Errors
/// If the file is not a complete model of this architecture, a value does not fit the dtype, `target` is not empty, the
/// system refuses a read or write, or it is cancelled.
pub fn dequantize(
    file: &GgufFile,
    target: &Path,
    settings: &Settings,
    options: &PassOptions<'_>,
) -> Result<Vec<ExportedFile>, Error> {
    let malformed = |source| Error::Input { path: file.path().to_owned(), source };
    let hparams = Hparams::from_metadata(&file.gguf().metadata).map_err(malformed)?;
    let bound = pythia_schema::bind(&hparams, file.gguf()).map_err(malformed)?;
    let has_vocab = file.gguf().metadata.get(keys::TOKENIZER_MODEL).is_some();
    let vocab = has_vocab.then(|| Vocab::from_metadata(&file.gguf().metadata).map_err(malformed)).transpose()?;
    if settings.dtype.is_quantized() {
        return Err(Error::Request(format!("a checkpoint cannot hold {}, wanted F32, F16 or BF16", settings.dtype)));
    }
    let inputs = file.paths();
    recover_folder(target, FILES, settings.force)?
        .iter()
        .for_each(|leftover| options.progress.note(&leftover.to_string()));
    check_folder(target, FILES, &inputs, settings.force)?;

    let folder = AtomicFolder::create(target, FILES)?;
    let mut written = vec![write_weights(file, &hparams, &bound, &folder, settings, options)?];
    let texts = [
        ("config.json", Some(config::model(&hparams, vocab.as_ref(), settings.dtype))),
        ("tokenizer.json", settings.tokenizer_json.clone()),
        ("tokenizer_config.json", vocab.as_ref().filter(|_| settings.tokenizer_json.is_some()).map(config::tokenizer)),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            written.push(write_text(&folder, name, &text)?);
        }
    }
    if options.cancel.is_raised() {
        return Err(Error::Cancelled);
    }
    check_folder(target, FILES, &inputs, settings.force)?;
    folder.commit(settings.force)?;
    Ok(written)
}

fn write_text(folder: &AtomicFolder, name: &'static str, text: &str) -> Result<ExportedFile, Error> {
    let file = folder.create_file(name, text.len() as u64)?;
    file.write_at(text.as_bytes(), 0)?;
    file.commit(false)?;
    Ok(ExportedFile { name, n_bytes: text.len() as u64 })
}

fn write_weights(
    file: &GgufFile,
    hparams: &Hparams,
    bound: &[&TensorInfo],
    folder: &AtomicFolder,
    settings: &Settings,
    options: &PassOptions<'_>,
) -> Result<ExportedFile, Error> {
    const NAME: &str = "model.safetensors";
    let specs = pythia_schema::tensors(hparams);
    let header = Header::new(&specs, settings.dtype);
    let out = folder.create_file(NAME, header.n_bytes)?;
    out.write_at(&header.bytes, 0)?;
    let pipeline = Pipeline::new(options)?;
    let order = QkvOrder { n_head: hparams.n_head, head_dim: hparams.head_dim() };
    for ((spec, tensor), &offset) in specs.iter().zip(bound).zip(&header.offsets) {
        let order = match spec.transform {
            Transform::None => None,
            Transform::RegroupQkv => Some(order),
        };
        Restore { file, tensor, out: &out, offset, dtype: settings.dtype, order }.run(&pipeline, spec)?;
    }
    out.commit(false)?;
    Ok(ExportedFile { name: NAME, n_bytes: header.n_bytes })
}

/// A tensor to write.
struct Restore<'a> {
    file: &'a GgufFile,
    tensor: &'a TensorInfo,
    out: &'a AtomicFile,
    /// Its position in `out`.
    offset: u64,
    dtype: TensorType,
    order: Option<QkvOrder>,
}

/// Buffers of one worker, reused from chunk to chunk.
#[derive(Default)]
struct Scratch {
    elems: Elems,
    encoded: Vec<u8>,
}

impl Restore<'_> {
    fn run(&self, pipeline: &Pipeline<'_>, spec: &TensorSpec) -> Result<(), Error> {
        // The elements of a vector count as rows, because those of a bias belong to the rows of its matrix.
        let (n_rows, row_elems) = match spec.shape[..] {
            [rows, cols] => (rows as u64, cols as u64),
            _ => (spec.n_elems() as u64, 1),
        };
        let step = (CHUNK_ELEMS / row_elems).max(1);
        let span = Chunked { name: &spec.gguf, len: n_rows, step, progress_bytes: self.tensor.n_bytes };
        pipeline.map(span, |rows, scratch| self.rows(rows, row_elems, scratch))?;
        Ok(())
    }

    /// Decodes, encodes and writes some rows.
    fn rows(&self, rows: Range<u64>, row_elems: u64, scratch: &mut Scratch) -> Result<(), Error> {
        // The reader has checked that rows are whole blocks.
        let elems = rows.start * row_elems..rows.end * row_elems;
        let Scratch { elems: decoded, encoded } = scratch;
        let ty = self.tensor.ty.known().ok_or_else(|| self.error("is of a type that cannot be decoded"))?;
        decoded.read(self.file, self.tensor, ty, &elems)?;
        if ty == self.dtype {
            // Copied bit for bit.
            encoded.clear();
            encoded.extend_from_slice(&decoded.bytes);
        } else {
            encoded.resize(decoded.values.len() * self.dtype.block_bytes(), 0);
            self.dtype.encode(&decoded.values, encoded);
            self.check_overflow(&decoded.values, encoded)?;
        }
        let row_bytes = row_elems as usize * self.dtype.block_bytes();
        let Some(order) = self.order else {
            return self.out.write_at(encoded, self.offset + rows.start * row_bytes as u64);
        };
        let mut rest = &encoded[..];
        for run in order.source_runs(rows.start as usize..rows.end as usize) {
            let (run_bytes, after) = rest.split_at(run.len() * row_bytes);
            self.out.write_at(run_bytes, self.offset + run.start as u64 * row_bytes as u64)?;
            rest = after;
        }
        Ok(())
    }

    /// Refuses finite values that have become infinite. Values that are infinite or NaN in the file are kept.
    fn check_overflow(&self, values: &[f32], encoded: &[u8]) -> Result<(), Error> {
        // The exponent of an infinity, in the upper byte of either half-width type.
        let infinity = match self.dtype {
            TensorType::F16 => 0x7c00,
            TensorType::BF16 => 0x7f80,
            _ => return Ok(()),
        };
        let halves = encoded.as_chunks::<2>().0.iter().map(|bytes| u16::from_le_bytes(*bytes));
        match values.iter().zip(halves).find(|(value, half)| half & infinity == infinity && value.is_finite()) {
            None => Ok(()),
            Some((value, _)) => Err(self.error(format!("holds {value:e}, too large for {} (use F32)", self.dtype))),
        }
    }

    fn error(&self, reason: impl Into<String>) -> Error {
        Error::tensor(&self.tensor.name, reason)
    }
}
