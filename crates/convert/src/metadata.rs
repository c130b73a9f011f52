//! The metadata block of a converted file.
//!
//! Nothing here depends on time, machine or the output's path; of the checkpoint's path only names count, as the model's
//! name. Keys under `general.` and `gptneox.` are the GGUF specification's; ours are under `pythia_quant.`.

use crate::Level;
use crate::plan::Request;
use pythia_checkpoint::{Checkpoint, TokenKind as SourceKind, TokenizerFile};
use pythia_gguf::schema::gptneox::{self, Hparams};
use pythia_gguf::{Metadata, TokenKind, Vocab, keys};

/// The pre-tokenizer of Pythia as llama.cpp's converter names it. Its regex is GPT-2's, and it adds no BOS.
const PRE_TOKENIZER: &str = "olmo";

/// What the metadata says besides the request.
pub(crate) struct Facts<'a> {
    pub(crate) hparams: &'a Hparams,
    pub(crate) level: Level,
    /// Whether any tensor is in a block format.
    pub(crate) quantized: bool,
}

/// Builds the metadata of one file.
pub(crate) fn build(checkpoint: &Checkpoint, request: &Request, facts: &Facts<'_>) -> Metadata {
    let mut metadata = Metadata::new();
    let source = &request.provenance;
    metadata.insert(keys::ARCHITECTURE, gptneox::ARCH);
    metadata.insert("general.type", "model");
    metadata.insert(keys::NAME, source.name.as_str());
    let name = ModelName::parse(&source.name);
    metadata.insert(keys::BASENAME, name.basename);
    if let Some(finetune) = name.finetune {
        metadata.insert("general.finetune", finetune);
    }
    let computed_size = || size_label(gptneox::parameter_counts(facts.hparams).0);
    metadata.insert(keys::SIZE_LABEL, name.size_label.unwrap_or_else(computed_size));
    if let Some(license) = &source.license {
        metadata.insert(keys::LICENSE, license.as_str());
    }
    metadata.insert(keys::FILE_TYPE, facts.level.file_type().id());
    if facts.quantized {
        metadata.insert(keys::QUANTIZATION_VERSION, keys::CURRENT_QUANTIZATION_VERSION);
    }
    facts.hparams.to_metadata(&mut metadata);
    if let Some(tokenizer) = checkpoint.tokenizer() {
        vocab(tokenizer).to_metadata(&mut metadata);
    }
    insert_provenance(&mut metadata, request);
    metadata
}

fn insert_provenance(metadata: &mut Metadata, request: &Request) {
    let source = &request.provenance;
    metadata.insert("pythia_quant.version", env!("CARGO_PKG_VERSION"));
    metadata.insert("pythia_quant.source.name", source.name.as_str());
    let optional = [("revision", &source.revision), ("config_sha256", &source.config_sha256)];
    for (key, value) in optional {
        if let Some(value) = value {
            metadata.insert(format!("pythia_quant.source.{key}"), value.as_str());
        }
    }
    let lists = [("weights", &source.weight_files), ("weights_sha256", &source.weights_sha256)];
    for (key, values) in lists.into_iter().filter(|(_, values)| !values.is_empty()) {
        metadata.insert(format!("pythia_quant.source.{key}"), values.clone());
    }
    if !request.recipe.is_default() {
        metadata.insert("pythia_quant.recipe", request.recipe.to_string());
    }
}

fn vocab(tokenizer: &TokenizerFile) -> Vocab {
    Vocab {
        tokens: tokenizer.tokens.clone(),
        kinds: tokenizer.kinds.iter().map(|&kind| token_kind(kind)).collect(),
        merges: tokenizer.merges.clone(),
        bos: tokenizer.bos,
        eos: tokenizer.eos,
        unk: tokenizer.unk,
        pre: PRE_TOKENIZER.to_owned(),
        huggingface_json: Some(tokenizer.json.clone()),
    }
}

fn token_kind(kind: SourceKind) -> TokenKind {
    match kind {
        SourceKind::Normal => TokenKind::Normal,
        SourceKind::Control => TokenKind::Control,
        SourceKind::UserDefined => TokenKind::UserDefined,
        SourceKind::Unused => TokenKind::Unused,
    }
}

/// `pythia-70m-deduped` taken apart as the GGUF naming convention has it.
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
