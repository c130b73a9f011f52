//! What made a report, when, and from what.

use pythia_convert::metadata::{CALIBRATION, IMATRIX_SHA256, QUANTIZER, SOURCE};
use pythia_gguf::Metadata;
use pythia_show::iso_time;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// What a report was made with.
#[derive(Clone, Debug, Serialize)]
pub struct Provenance {
    /// The program and its version: `pythia-quant 0.1.0`.
    pub program: String,
    /// When the report was finished, UTC: `2026-11-29T08:40:00Z`. `SOURCE_DATE_EPOCH` takes the place of the clock.
    pub date: String,
    /// The command line, a word each.
    pub command: Vec<String>,
    /// The checkpoint that the base was made from.
    pub origin: Origin,
}

/// Facts about a checkpoint in addition to its contents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// The base name of its folder, or the name of the Hub's repository.
    pub name: Option<String>,
    /// The owner of the Hub's repository.
    pub owner: Option<String>,
    /// The branch or tag that was asked for: `step3000`.
    pub revision: Option<String>,
    /// The commit.
    pub commit: Option<String>,
    /// SHA-256 of `config.json`, hexadecimal.
    pub config_sha256: Option<String>,
    /// Names of the weight files.
    pub weights: Vec<String>,
    /// Their SHA-256, where they are known.
    pub weights_sha256: Vec<String>,
}

/// A file by its content.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct FileDigest {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

/// Which importance matrix a file was quantized with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImatrixOrigin {
    /// Name of its file.
    pub file: String,
    /// Name of the text that it was collected on.
    pub dataset: Option<String>,
    /// SHA-256 of its file, hexadecimal; files of llama.cpp do not say.
    pub sha256: Option<String>,
}

/// Which quantizer rounded the matrices of a file together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QuantizerOrigin {
    /// Its name.
    pub name: String,
    /// SHA-256 of its calibration file, hexadecimal, if it had one.
    pub calibration_sha256: Option<String>,
}

impl Provenance {
    /// Of a run that ends now: by which program, and by which command, a word each.
    pub(crate) fn now(program: &str, command: &[String], origin: Origin) -> Self {
        let program = format!("{program} {}", env!("CARGO_PKG_VERSION"));
        Self { program, date: iso_time(seconds_since_1970()), command: command.to_vec(), origin }
    }
}

/// One line: program, date, model, command.
impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Made by {} on {}", self.program, self.date)?;
        let Origin { name, owner, revision, commit, .. } = &self.origin;
        if let Some(name) = name {
            let owner = owner.as_ref().map(|owner| format!("{owner}/")).unwrap_or_default();
            write!(f, " from {owner}{name}")?;
        }
        if let Some(revision) = revision {
            write!(f, ", revision {revision}")?;
        }
        if let Some(commit) = commit {
            write!(f, ", commit {commit}")?;
        }
        f.write_str(".")
    }
}

impl Origin {
    /// What a file says about the checkpoint it was made from.
    pub fn of_file(metadata: &Metadata) -> Self {
        let text = |key: &str| metadata.str(&format!("{SOURCE}{key}")).ok().flatten().map(str::to_owned);
        let list = |key: &str| {
            metadata.strings(&format!("{SOURCE}{key}")).ok().flatten().map(<[String]>::to_vec).unwrap_or_default()
        };
        Self {
            name: text("name"),
            owner: None,
            revision: None,
            commit: text("revision"),
            config_sha256: text("config_sha256"),
            weights: list("weights"),
            weights_sha256: list("weights_sha256"),
        }
    }
}

impl ImatrixOrigin {
    /// What a file says about it; `None` if it was quantized without one.
    pub fn of_file(metadata: &Metadata) -> Option<Self> {
        let text = |key: &str| metadata.str(key).ok().flatten().map(str::to_owned);
        let file = text("quantize.imatrix.file")?;
        // llama.cpp records paths: what else is in them means nothing on other machines.
        let base_name = |path: String| path.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
        Some(Self {
            file: base_name(file),
            dataset: text("quantize.imatrix.dataset").map(base_name),
            sha256: text(IMATRIX_SHA256),
        })
    }
}

impl QuantizerOrigin {
    /// What a file says about it; `None` if its encoders rounded every row alone.
    pub fn of_file(metadata: &Metadata) -> Option<Self> {
        let text = |key: &str| metadata.str(key).ok().flatten().map(str::to_owned);
        Some(Self { name: text(QUANTIZER)?, calibration_sha256: text(&format!("{CALIBRATION}sha256")) })
    }
}

/// The clock, or what <https://reproducible-builds.org/specs/source-date-epoch/> puts in its place.
fn seconds_since_1970() -> u64 {
    let fixed = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse().ok());
    fixed.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_tell_their_origin_and_importance_matrix() {
        let mut metadata = Metadata::new();
        assert_eq!(Origin::of_file(&metadata), Origin::default());
        assert_eq!(ImatrixOrigin::of_file(&metadata), None);
        metadata.insert("pythia_quant.source.name", "pythia-70m");
        metadata.insert("pythia_quant.source.revision", "a39f36b");
        metadata.insert("pythia_quant.source.weights", vec!["model.safetensors".to_owned()]);
        metadata.insert("quantize.imatrix.file", "/home/x/imatrix.gguf");
        metadata.insert("quantize.imatrix.dataset", "c:\\texts\\wiki.txt");
        let origin = Origin::of_file(&metadata);
        assert_eq!((origin.name.as_deref(), origin.commit.as_deref()), (Some("pythia-70m"), Some("a39f36b")));
        assert_eq!(origin.weights, ["model.safetensors"]);
        let imatrix = ImatrixOrigin::of_file(&metadata).unwrap();
        assert_eq!((imatrix.file.as_str(), imatrix.dataset.as_deref()), ("imatrix.gguf", Some("wiki.txt")));
        assert_eq!(imatrix.sha256, None);
    }
}
