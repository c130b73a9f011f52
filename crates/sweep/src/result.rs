//! The result of a cell: a file of JSON that appears whole or not at all.

use crate::id::CellId;
use pythia_compare::report::{FileDigest, TaskValue};
use pythia_runtime::eval::{AgainstBase, Estimate, WindowSums};
use serde::{Deserialize, Serialize};

/// Version of the layout of a result.
pub const FORMAT: &str = "pythia-cell/1";

/// What became of a cell.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CellResult {
    /// Always [`FORMAT`].
    pub format: String,
    /// Id of the cell.
    pub cell: CellId,
    /// What the cell is, for readers without the manifest.
    pub of: Named,
    /// The values, or why there are none.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Where and when it was computed. Nothing else in the result depends on that.
    pub run: Run,
}

/// What a cell is, in words.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Named {
    /// Name of the model.
    pub model: String,
    /// The revision.
    pub revision: String,
    /// N of `stepN`.
    pub step: Option<u64>,
    /// The level, or `base`.
    pub level: String,
    /// How it is rounded.
    pub quantizer: String,
    /// What is measured.
    pub measure: String,
}

/// Values or an error.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Outcome {
    /// The values.
    Done(Box<Done>),
    /// Why there are none.
    Failed(Failed),
}

/// The values of a cell.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Done {
    /// The file that was measured.
    pub file: FileFacts,
    /// On a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextScore>,
    /// In tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<Vec<TaskValue>>,
    /// `MODEL@REVISION` of the checkpoint that was read, if it is another one with the same files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub computed_at: Option<String>,
}

/// Facts about a file.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct FileFacts {
    /// Its level; of the base too.
    pub level: String,
    /// Its files with their digests.
    pub files: Vec<FileDigest>,
    /// Bits of all tensor data per parameter.
    pub bits_per_weight: f64,
    /// The same over the transformer blocks alone.
    pub bits_per_weight_blocks: f64,
}

/// A file on a text.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TextScore {
    /// Chunks evaluated.
    pub chunks: usize,
    /// Tokens scored.
    pub tokens: u64,
    /// Sum of the negative log-likelihoods of the scored tokens, in nats.
    #[serde(deserialize_with = "pythia_runtime::eval::nan_if_null")]
    pub nll_sum: f64,
    /// Perplexity.
    pub perplexity: Estimate,
    /// The distance to the base; `None` for the base itself.
    pub against_base: Option<AgainstBase>,
    /// Sums over each chunk, if the sweep keeps them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_sums: Option<Vec<WindowSums>>,
}

/// Why a cell has no values.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Failed {
    /// The class of the error.
    pub class: ErrorClass,
    /// What happened, one line.
    pub message: String,
    /// How often it was tried.
    pub attempts: u32,
}

/// Classes of errors, by what helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorClass {
    /// The checkpoint could not be downloaded.
    Download,
    /// The system refused: no space, no permission, a device that fails.
    System,
    /// There was not enough memory.
    Memory,
    /// A file is damaged, or not what it should be.
    Corrupt,
    /// Weights or predictions are not finite.
    Numeric,
    /// The request does not fit the checkpoint, such as a context longer than the model's.
    Request,
}

impl ErrorClass {
    /// Whether the same command may succeed later.
    pub fn may_pass(self) -> bool {
        matches!(self, Self::Download | Self::System | Self::Memory)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Download => "download",
            Self::System => "system",
            Self::Memory => "memory",
            Self::Corrupt => "corrupt",
            Self::Numeric => "numeric",
            Self::Request => "request",
        }
    }
}

/// Where and when a cell was computed.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Run {
    /// The program, with its version.
    pub program: String,
    /// Name of the machine.
    pub host: String,
    /// The device that the model ran on.
    pub device: String,
    /// The instruction set.
    pub isa: String,
    /// Threads.
    pub threads: usize,
    /// When its group began, UTC: `2026-11-30T08:00:00Z`.
    pub started: String,
    /// Seconds that the cells of its group took together, downloads and conversion included.
    pub group_seconds: f64,
    /// Seconds of all cores in that time.
    pub group_cpu_seconds: f64,
    /// Peak resident memory of the process so far, in bytes; 0 if the system does not tell.
    pub peak_rss_bytes: u64,
}

impl CellResult {
    /// The values, if there are any.
    pub fn done(&self) -> Option<&Done> {
        match &self.outcome {
            Outcome::Done(done) => Some(done),
            Outcome::Failed(_) => None,
        }
    }

    /// The error, if there is one.
    pub fn failed(&self) -> Option<&Failed> {
        match &self.outcome {
            Outcome::Done(_) => None,
            Outcome::Failed(failed) => Some(failed),
        }
    }
}
