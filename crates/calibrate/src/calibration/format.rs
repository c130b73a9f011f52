//! The file: names of its keys and tensors, and the order of what is in it.
//!
//! ```text
//! token_embd.weight.out_metric      F32 [n_embd (n_embd + 1) / 2]
//! TENSOR.out_metric.BLOCK           F32 [rows (rows + 1) / 2]     every matrix of the blocks
//! TENSOR.in_moment                  F32 [cols (cols + 1) / 2]     the same and `output.weight`, if collected
//! ```
//! A symmetric matrix is stored as its upper triangle, row by row. A run that is not finished is kept in the same form,
//! with sums instead of means.

use super::METRIC_ROWS;
use pythia_gguf::{Array, Error, Gguf, Metadata, Value, keys};
use pythia_schema::{Hparams, Kind, TensorId, TensorSpec};
use pythia_tensor::TensorType;
use pythia_text::hex;
use sha2::{Digest, Sha256};
use std::ops::Range;

/// The [type](keys::TYPE) of a calibration file.
pub(super) const COMPLETE: &str = "calibration";
/// That of a run that is not finished.
pub(super) const PARTIAL: &str = "calibration.partial";

const VERSION: &str = "calibration.version";
const CURRENT_VERSION: u32 = 1;
const PROGRAM: &str = "calibration.program";
const FINGERPRINT: &str = "calibration.model.fingerprint";
const TEXT: &str = "calibration.text.name";
const TOKENS_SHA256: &str = "calibration.tokens.sha256";
const N_CTX: &str = "calibration.context_length";
const SEED: &str = "calibration.seed";
const INPUTS: &str = "calibration.inputs";
const TOKENS: &str = "calibration.tokens";
/// Of a partial file: windows in each total, in the order of the totals.
const DONE: &str = "calibration.windows_done";

/// What a calibration was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// Name of the model.
    pub model: String,
    /// SHA-256 of the model's norms and biases, hexadecimal: [`Network::fingerprint`](crate::network::Network).
    pub fingerprint: String,
    /// Name of the text, without its folder.
    pub text: String,
    /// SHA-256 of the tokens, each as four bytes, little-endian; hexadecimal.
    pub tokens_sha256: String,
    /// Seed of the labels.
    pub seed: u64,
    /// Windows of the text.
    pub windows: usize,
    /// Program that made the file, and its version.
    pub program: String,
}

/// The metadata.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    /// Of the model, with the GELU that it was computed with.
    pub(super) hparams: Hparams,
    pub(super) provenance: Provenance,
    pub(super) n_ctx: usize,
    /// Whether second moments of inputs are there.
    pub(super) inputs: bool,
    /// Whole windows, at least one.
    pub(super) tokens: Vec<u32>,
}

impl Header {
    pub(super) fn to_metadata(&self, kind: &str) -> Metadata {
        let mut metadata = Metadata::new();
        self.hparams.to_metadata(&mut metadata);
        metadata.insert(keys::TYPE, kind);
        metadata.insert(keys::NAME, self.provenance.model.as_str());
        metadata.insert(VERSION, CURRENT_VERSION);
        metadata.insert(PROGRAM, self.provenance.program.as_str());
        metadata.insert(FINGERPRINT, self.provenance.fingerprint.as_str());
        metadata.insert(TEXT, self.provenance.text.as_str());
        metadata.insert(TOKENS_SHA256, self.provenance.tokens_sha256.as_str());
        metadata.insert(N_CTX, self.n_ctx as u32);
        metadata.insert(SEED, self.provenance.seed);
        metadata.insert(INPUTS, self.inputs);
        metadata.insert(TOKENS, Value::Array(Array::U32(self.tokens.clone())));
        metadata
    }

    pub(super) fn from_metadata(metadata: &Metadata, kind: &str) -> Result<Self, Error> {
        match metadata.str(keys::TYPE)? {
            Some(found) if found == kind => {}
            Some(found) => return Err(Error::key(keys::TYPE, shown(found), format!("'{kind}'"))),
            None => return Err(Error::missing_key(keys::TYPE, format!("'{kind}', as calibration files have it"))),
        }
        match required(VERSION, "the version of the format", metadata.u32(VERSION)?)? {
            CURRENT_VERSION => {}
            found => return Err(Error::key(VERSION, found.to_string(), CURRENT_VERSION.to_string())),
        }
        let hparams = Hparams::from_metadata(metadata)?;
        let n_ctx = required(N_CTX, "the tokens of a window", metadata.u32(N_CTX)?)? as usize;
        if !(1..=hparams.n_ctx).contains(&n_ctx) {
            return Err(Error::key(N_CTX, n_ctx.to_string(), format!("1 to {}, the model's context", hparams.n_ctx)));
        }
        let tokens = match metadata.get(TOKENS) {
            Some(Value::Array(Array::U32(tokens))) => tokens.clone(),
            _ => return Err(Error::key(TOKENS, "no such array", "an array of u32")),
        };
        if tokens.is_empty() || !tokens.len().is_multiple_of(n_ctx) {
            return Err(Error::key(TOKENS, format!("{} tokens", tokens.len()), format!("whole windows of {n_ctx}")));
        }
        if let Some(token) = tokens.iter().find(|&&token| token as usize >= hparams.n_vocab) {
            let wanted = format!("ids below {}, the rows of the vocabulary", hparams.n_vocab);
            return Err(Error::key(TOKENS, format!("id {token}"), wanted));
        }
        let text = |key, what| Ok(required(key, what, metadata.str(key)?)?.to_owned());
        let provenance = Provenance {
            model: text(keys::NAME, "the name of the model")?,
            fingerprint: text(FINGERPRINT, "a digest of the model's norms and biases")?,
            text: text(TEXT, "the name of the text")?,
            tokens_sha256: text(TOKENS_SHA256, "the digest of the tokens")?,
            seed: required(SEED, "the seed of the labels", metadata.u64(SEED)?)?,
            windows: tokens.len() / n_ctx,
            program: text(PROGRAM, "the program that made the file")?,
        };
        let digest = tokens_sha256(&tokens);
        if provenance.tokens_sha256 != digest {
            return Err(Error::key(TOKENS_SHA256, shown(&provenance.tokens_sha256), format!("{digest} of the tokens")));
        }
        let inputs = required(INPUTS, "whether it has moments of inputs", metadata.bool(INPUTS)?)?;
        Ok(Self { hparams, provenance, n_ctx, inputs, tokens })
    }

    /// The key in which a run that was begun with `other` differs. Another program may go on with a run.
    pub(super) fn difference(&self, other: &Self) -> Option<&'static str> {
        let differs = [
            ("general.architecture", self.hparams != other.hparams),
            (FINGERPRINT, self.provenance.fingerprint != other.provenance.fingerprint),
            (N_CTX, self.n_ctx != other.n_ctx),
            (TOKENS, self.tokens != other.tokens),
            (SEED, self.provenance.seed != other.provenance.seed),
            (INPUTS, self.inputs != other.inputs),
        ];
        differs.into_iter().find(|(_, differs)| *differs).map(|(key, _)| key)
    }

    /// Rows of a matrix that has a metric at its output; `None` for others.
    pub(super) fn metric_rows(&self, id: TensorId) -> Option<usize> {
        let known = id.layer.is_some_and(|layer| layer < self.hparams.n_layer) && id.is_matrix();
        known.then(|| TensorSpec::new(id, &self.hparams).shape[0])
    }

    /// Columns of a matrix that has moments at its input; `None` for others.
    pub(super) fn moment_cols(&self, id: TensorId) -> Option<usize> {
        let known = self.metric_rows(id).is_some() || id == TensorId::weight(Kind::Output, None);
        known.then(|| TensorSpec::new(id, &self.hparams).shape[1])
    }
}

/// Matrices with moments, and those of them in a block with metrics, in the order of a forward pass.
pub(super) fn matrices(n_layer: usize) -> impl Iterator<Item = TensorId> {
    TensorId::all(n_layer).filter(|id| id.is_matrix() && id.kind != Kind::TokenEmbd)
}

/// Every tensor of a file, with the rows of its square, in the order of the file. An iterator, because the sizes of a
/// stranger's header may ask for millions.
pub(super) fn squares(header: &Header) -> impl Iterator<Item = (String, usize)> {
    let metrics = matrices(header.hparams.n_layer).flat_map(|id| {
        let rows = header.metric_rows(id).unwrap_or(0);
        blocks(rows).enumerate().map(move |(i, range)| (metric_name(id, i), range.len()))
    });
    let moments = matrices(header.hparams.n_layer).filter(|_| header.inputs);
    let moments = moments.filter_map(|id| Some((moment_name(id), header.moment_cols(id)?)));
    std::iter::once((embedding_name(), header.hparams.n_embd)).chain(metrics).chain(moments)
}

/// The rows of each block of the metric of a matrix.
pub(super) fn blocks(rows: usize) -> impl Iterator<Item = Range<usize>> {
    (0..rows).step_by(METRIC_ROWS).map(move |first| first..rows.min(first + METRIC_ROWS))
}

pub(super) fn embedding_name() -> String {
    format!("{}.out_metric", TensorId::weight(Kind::TokenEmbd, None))
}

pub(super) fn metric_name(id: TensorId, block: usize) -> String {
    format!("{id}.out_metric.{block}")
}

pub(super) fn moment_name(id: TensorId) -> String {
    format!("{id}.in_moment")
}

/// Elements of the upper triangle of a square.
pub(super) fn packed_len(rows: usize) -> usize {
    rows * (rows + 1) / 2
}

/// The table of tensors for a [`Layout`](pythia_gguf::Layout).
pub(super) fn table(header: &Header) -> Vec<(String, TensorType, Vec<u64>)> {
    squares(header).map(|(name, rows)| (name, TensorType::F32, vec![packed_len(rows) as u64])).collect()
}

/// Adds the number of windows in each total.
pub(super) fn put_done(metadata: &mut Metadata, done: Vec<u32>) {
    metadata.insert(DONE, Value::Array(Array::U32(done)));
}

/// The number of windows in each of `totals` totals, none above `windows`.
pub(super) fn done(metadata: &Metadata, totals: usize, windows: usize) -> Result<Vec<u32>, Error> {
    match metadata.get(DONE) {
        Some(Value::Array(Array::U32(done)))
            if done.len() == totals && done.iter().all(|&done| done as usize <= windows) =>
        {
            Ok(done.clone())
        }
        _ => Err(Error::key(DONE, "another value", format!("{totals} numbers of windows, at most {windows}"))),
    }
}

/// Checks that every square is there, with its size. Other tensors are ignored.
pub(super) fn check_tensors(gguf: &Gguf, header: &Header) -> Result<(), Error> {
    for (name, rows) in squares(header) {
        let wanted = packed_len(rows) as u64;
        let tensor = gguf.tensor(&name).ok_or_else(|| Error::tensor(&name, "no such tensor", "one"))?;
        if tensor.ty.known() != Some(TensorType::F32) {
            return Err(Error::tensor(&name, format!("type {}", tensor.ty.name()), "F32"));
        }
        if tensor.n_elems() != wanted {
            return Err(Error::tensor(&name, format!("{} values", tensor.n_elems()), wanted.to_string()));
        }
    }
    Ok(())
}

/// A square, from its upper triangle in the file.
pub(super) fn square(gguf: &Gguf, bytes: &[u8], name: &str, rows: usize) -> Result<Vec<f32>, Error> {
    let tensor = gguf.tensor(name).ok_or_else(|| Error::tensor(name, "no such tensor", "one"))?;
    let mut packed = gguf.data(bytes, tensor).as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
    let mut square = vec![0.0; rows * rows];
    for i in 0..rows {
        for j in i..rows {
            let value = packed.next().unwrap_or(f32::NAN);
            if !value.is_finite() || (i == j && value < 0.0) {
                let wanted = if i == j { "a finite value that is not negative" } else { "a finite value" };
                return Err(Error::tensor(name, format!("{value} in row {i}, column {j}"), wanted));
            }
            square[i * rows + j] = value;
            square[j * rows + i] = value;
        }
    }
    Ok(square)
}

/// The upper triangle of a square, each value changed by `value`, as the file has it.
pub(super) fn pack(square: &[f32], rows: usize, value: impl Fn(f32) -> f32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(packed_len(rows) * size_of::<f32>());
    for (i, row) in square.chunks_exact(rows).enumerate() {
        bytes.extend(row[i..].iter().flat_map(|&x| value(x).to_le_bytes()));
    }
    bytes
}

/// SHA-256 of tokens.
pub(super) fn tokens_sha256(tokens: &[u32]) -> String {
    let mut hasher = Sha256::new();
    tokens.iter().for_each(|token| hasher.update(token.to_le_bytes()));
    hex(&hasher.finalize())
}

fn required<T>(key: &str, wanted: &str, value: Option<T>) -> Result<T, Error> {
    value.ok_or_else(|| Error::missing_key(key, wanted))
}

/// A foreign text in an error.
fn shown(text: &str) -> String {
    pythia_text::quoted(text, '\'', 80)
}
