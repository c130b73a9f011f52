//! The metadata block of a file.
//!
//! Nothing here depends on time, machine or the output's path. Of a checkpoint's path, only the names of folders count,
//! for the model's name. Keys under `general.` and `gptneox.` are those of the GGUF specification, keys under
//! `quantize.` are llama.cpp's. Ours are under `pythia_quant.`:
//!
//! | Key | Type | Value |
//! | --- | --- | --- |
//! | `version` | string | version of the program that wrote the file |
//! | `source.name`, `source.revision` | string | the checkpoint's name and commit |
//! | `source.config_sha256` | string | SHA-256 of `config.json` |
//! | `source.weights`, `source.weights_sha256` | strings | names and, on request, SHA-256 of the weight files |
//! | `lora.name` | string | the folder of the LoRA adapter that was merged |
//! | `lora.config_sha256`, `lora.weights_sha256` | string | SHA-256 of its two files |
//! | `recipe` | string | the options that changed the mix of types, as on a command line |
//! | `requantized` | strings | block formats that tensors were decoded from |
//! | `imatrix.sha256` | string | SHA-256 of the importance matrix file |
//! | `quantizer` | string | the [quantizer](crate::Quantizer) that rounded the matrices together |
//! | `quantizer.vectors` | bool | true if it changed norms or biases too; else absent |
//! | `quantizer.*`, `calibration.*` | any | what it records about its settings and its calibration |
//!
//! The metadata of a GGUF source are kept, except for keys that describe how its tensors are stored.

use crate::source::CheckpointSource;
use crate::{ImatrixFile, Level, LoraFacts, Provenance, Quantizer, Recipe, Source};
use pythia_gguf::{Metadata, keys};
use pythia_tensor::TensorType;
use std::ops::Range;

/// Version of the program that wrote the file.
pub const VERSION: &str = "pythia_quant.version";
/// The options that changed the mix of types.
pub const RECIPE: &str = "pythia_quant.recipe";
/// The block formats that tensors were decoded from.
pub const REQUANTIZED: &str = "pythia_quant.requantized";
/// SHA-256 of the importance matrix file.
pub const IMATRIX_SHA256: &str = "pythia_quant.imatrix.sha256";
/// The quantizer that rounded the matrices.
pub const QUANTIZER: &str = "pythia_quant.quantizer";
/// Start of the keys about how the quantizer worked.
pub const QUANTIZER_DETAILS: &str = "pythia_quant.quantizer.";
/// Whether the quantizer changed norms or biases.
pub const QUANTIZER_VECTORS: &str = "pythia_quant.quantizer.vectors";
/// Start of the keys about what the quantizer was calibrated on.
pub const CALIBRATION: &str = "pythia_quant.calibration.";
/// Start of the keys about the checkpoint: its `name`, `revision`, `config_sha256`, `weights` and `weights_sha256`.
pub const SOURCE: &str = "pythia_quant.source.";
/// Keys that llama.cpp writes after quantizing with an importance matrix.
const QUANTIZE_IMATRIX: &str = "quantize.imatrix.";

/// Metadata that a file has in addition to its source's: how its tensors are stored.
pub(crate) struct Facts<'a> {
    pub(crate) level: Level,
    pub(crate) recipe: &'a Recipe,
    /// Whether any tensor is in a block format.
    pub(crate) quantized: bool,
    /// The block formats that tensors were decoded from.
    pub(crate) requantized: &'a [TensorType],
    /// The importance matrix, if an encoder used it.
    pub(crate) imatrix: Option<&'a ImatrixFile>,
    /// The quantizer, if it has a matrix to round.
    pub(crate) quantizer: Option<&'a dyn Quantizer>,
}

/// The metadata of a file made from a source with the metadata `model`.
pub(crate) fn of_file(model: &Metadata, facts: &Facts<'_>) -> Metadata {
    // The types follow the other facts of this namespace, as in files that come from a checkpoint at once.
    let n_general = model.iter().take_while(|(key, _)| key.starts_with("general.")).count();
    let mut metadata = Metadata::new();
    let carry_over = |metadata: &mut Metadata, range: Range<usize>| {
        let pairs = model.iter().skip(range.start).take(range.len());
        pairs.filter(|(key, _)| !is_about_types(key)).for_each(|(key, value)| metadata.insert(key, value.clone()));
    };
    carry_over(&mut metadata, 0..n_general);
    metadata.insert(keys::FILE_TYPE, facts.level.file_type().id());
    if facts.quantized {
        metadata.insert(keys::QUANTIZATION_VERSION, keys::CURRENT_QUANTIZATION_VERSION);
    }
    carry_over(&mut metadata, n_general..model.len());
    metadata.insert(VERSION, env!("CARGO_PKG_VERSION"));
    if !facts.recipe.is_default() {
        metadata.insert(RECIPE, facts.recipe.to_string());
    }
    if !facts.requantized.is_empty() {
        metadata.insert(REQUANTIZED, requantized(model, facts.requantized));
    }
    if let Some(imatrix) = facts.imatrix {
        insert_imatrix(&mut metadata, imatrix);
    }
    if let Some(quantizer) = facts.quantizer {
        insert_quantizer(&mut metadata, quantizer);
    }
    metadata
}

/// Whether a key describes how tensors are stored, and is dropped when they are encoded again.
fn is_about_types(key: &str) -> bool {
    let keys = [keys::FILE_TYPE, keys::QUANTIZATION_VERSION, RECIPE, IMATRIX_SHA256, QUANTIZER];
    keys.contains(&key) || key.starts_with(QUANTIZE_IMATRIX) || is_of_quantizer(key)
}

/// Whether a key is one that a quantizer may record.
pub(crate) fn is_of_quantizer(key: &str) -> bool {
    key.starts_with(CALIBRATION) || key.starts_with(QUANTIZER_DETAILS)
}

/// Adds `types` to the earlier block formats that `model` lists.
fn requantized(model: &Metadata, types: &[TensorType]) -> Vec<String> {
    let mut names = model.strings(REQUANTIZED).ok().flatten().unwrap_or_default().to_vec();
    for name in types.iter().map(|ty| ty.name().to_owned()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Names and types are llama.cpp's, except for the digest.
fn insert_imatrix(metadata: &mut Metadata, file: &ImatrixFile) {
    let imatrix = file.imatrix();
    metadata.insert(format!("{QUANTIZE_IMATRIX}file"), file.file_name());
    if let Some(dataset) = file.dataset() {
        metadata.insert(format!("{QUANTIZE_IMATRIX}dataset"), dataset);
    }
    metadata.insert(format!("{QUANTIZE_IMATRIX}entries_count"), imatrix.entries.len() as u32);
    if imatrix.chunk_count > 0 {
        metadata.insert(format!("{QUANTIZE_IMATRIX}chunks_count"), imatrix.chunk_count);
    }
    metadata.insert(IMATRIX_SHA256, file.sha256());
}

fn insert_quantizer(metadata: &mut Metadata, quantizer: &dyn Quantizer) {
    metadata.insert(QUANTIZER, quantizer.name());
    if quantizer.changes_vectors() {
        metadata.insert(QUANTIZER_VECTORS, true);
    }
    quantizer.metadata().into_iter().for_each(|(key, value)| metadata.insert(key, value));
}

/// The metadata of a model from its checkpoint, with the checkpoint's `provenance`.
pub(crate) fn of_checkpoint(
    source: &CheckpointSource,
    provenance: &Provenance,
) -> Result<Metadata, pythia_gguf::Error> {
    of_model(source, provenance, &provenance.name)
}

/// The same for a checkpoint with a merged adapter, which is a model called `name`.
pub(crate) fn of_merged(
    base: &CheckpointSource,
    provenance: &Provenance,
    name: &str,
    lora: &LoraFacts,
) -> Result<Metadata, pythia_gguf::Error> {
    let mut metadata = of_model(base, provenance, name)?;
    metadata.insert("pythia_quant.lora.name", lora.name.as_str());
    metadata.insert("pythia_quant.lora.config_sha256", lora.config_sha256.as_str());
    metadata.insert("pythia_quant.lora.weights_sha256", lora.weights_sha256.as_str());
    Ok(metadata)
}

fn of_model(source: &CheckpointSource, provenance: &Provenance, name: &str) -> Result<Metadata, pythia_gguf::Error> {
    let hparams = source.hparams();
    let mut metadata = Metadata::new();
    metadata.insert(keys::ARCHITECTURE, pythia_schema::ARCH);
    metadata.insert(keys::TYPE, "model");
    metadata.insert(keys::NAME, name);
    let name = ModelName::parse(name);
    metadata.insert(keys::BASENAME, name.basename);
    if let Some(finetune) = name.finetune {
        metadata.insert("general.finetune", finetune);
    }
    let computed_size = || size_label(pythia_schema::parameter_counts(&hparams).0);
    metadata.insert(keys::SIZE_LABEL, name.size_label.unwrap_or_else(computed_size));
    if let Some(license) = &provenance.license {
        metadata.insert(keys::LICENSE, license.as_str());
    }
    hparams.to_metadata(&mut metadata);
    if let Some(tokenizer) = source.tokenizer() {
        tokenizer.vocab.to_metadata(&mut metadata)?;
    }
    metadata.insert(format!("{SOURCE}name"), provenance.name.as_str());
    let optional = [("revision", &provenance.revision), ("config_sha256", &provenance.config_sha256)];
    for (key, value) in optional {
        if let Some(value) = value {
            metadata.insert(format!("{SOURCE}{key}"), value.as_str());
        }
    }
    let lists = [("weights", &provenance.weight_files), ("weights_sha256", &provenance.weights_sha256)];
    for (key, values) in lists.into_iter().filter(|(_, values)| !values.is_empty()) {
        metadata.insert(format!("{SOURCE}{key}"), values.clone());
    }
    Ok(metadata)
}

/// The parts of a name such as `pythia-70m-deduped`, by the GGUF naming convention.
#[derive(Debug, PartialEq, Eq)]
struct ModelName {
    basename: String,
    size_label: Option<String>,
    finetune: Option<String>,
}

impl ModelName {
    fn parse(name: &str) -> Self {
        let parts: Vec<&str> = name.split('-').collect();
        match parts.iter().position(|part| is_size(part)).filter(|&at| at > 0) {
            Some(at) => Self {
                basename: parts[..at].join("-"),
                size_label: Some(parts[at].to_ascii_uppercase()),
                finetune: (at + 1 < parts.len()).then(|| parts[at + 1..].join("-")),
            },
            None => Self { basename: name.to_owned(), size_label: None, finetune: None },
        }
    }
}

/// Whether a part of a name is a parameter count: `70m`, `1.4B`.
fn is_size(part: &str) -> bool {
    let Some(number) = part.strip_suffix(['k', 'K', 'm', 'M', 'b', 'B', 't', 'T']) else { return false };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    [whole, fraction].iter().all(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// A parameter count in at least two digits: `6.8M`, `405M`, `1.4B`.
fn size_label(n_params: u64) -> String {
    const UNITS: [(f64, &str); 4] = [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")];
    let n = n_params as f64;
    let (unit, suffix) = UNITS.into_iter().find(|&(unit, _)| n > unit).unwrap_or(UNITS[3]);
    let scaled = n / unit;
    if scaled < 9.95 { format!("{scaled:.1}{suffix}") } else { format!("{scaled:.0}{suffix}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_at_the_size() {
        let parse = |name| {
            let ModelName { basename, size_label, finetune } = ModelName::parse(name);
            (basename, size_label.unwrap_or_default(), finetune.unwrap_or_default())
        };
        let parts = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(parse("pythia-1.4b"), parts("pythia", "1.4B", ""));
        assert_eq!(parse("pythia-70m-deduped-v0"), parts("pythia", "70M", "deduped-v0"));
        assert_eq!(parse("pythia-docs-6m"), parts("pythia-docs", "6M", ""));
        for name in ["pythia", "70m", "a-.m", "a-1.b", "step-3000"] {
            assert_eq!(parse(name), parts(name, "", ""));
        }
    }

    #[test]
    fn sizes_have_two_digits() {
        for (n, label) in
            [(6_836_224, "6.8M"), (70_426_624, "70M"), (405_334_016, "405M"), (1_414_647_808, "1.4B"), (12, "0.0K")]
        {
            assert_eq!(size_label(n), label);
        }
    }
}
