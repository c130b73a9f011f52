//! What a sweep measures at every checkpoint.

use crate::Error;
use serde::{Deserialize, Serialize};

/// Name of the recipe that the others are compared with: the checkpoint in its own type.
pub const BASE: &str = "base";
/// Name of the rounding with an importance matrix.
pub const IMATRIX: &str = "imatrix";
/// Name of the rounding by the encoders alone.
pub const PLAIN: &str = "plain";

/// What is made of every checkpoint, and what is measured of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Spec {
    /// The base first, then the levels.
    pub recipes: Vec<Recipe>,
    /// Texts and tasks, at least one text.
    pub measures: Vec<Measure>,
    /// The text that importances and calibrations are computed on, from each checkpoint's own activations.
    pub calibration: Option<TextFile>,
    /// Level of the base; `None` for the type of the weights.
    pub base_level: Option<String>,
    /// Activations in products with quantized weights: `int8` or `f32`.
    pub activations: String,
    /// Form of GELU; `None` for what the checkpoint says.
    pub gelu: Option<String>,
    /// Whether results have the sums over each chunk.
    #[serde(default)]
    pub keeps_chunks: bool,
}

/// A file that is made of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub struct Recipe {
    /// The level, such as `Q4_0`; [`BASE`] for the base.
    pub level: String,
    /// How it is rounded: `plain`, `imatrix` or the name of a quantizer.
    pub quantizer: String,
}

/// What is measured of a file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Measure {
    /// Perplexity on a text, and divergence from the base.
    Text {
        /// The text.
        text: TextFile,
        /// Tokens per chunk. Chunks are disjoint, and the second half of each is scored (the protocol `llama`).
        n_ctx: usize,
        /// Only so many chunks.
        max_chunks: Option<usize>,
    },
    /// Tasks, all together.
    Tasks {
        /// Names of tasks and groups.
        names: Vec<String>,
        /// Examples before each document; `None` for what the task says.
        shots: Option<usize>,
        /// Only so many documents of each task.
        limit: Option<usize>,
        /// Folder or file of local datasets, relative to the sweep's folder; `None` for the Hub.
        data: Option<String>,
        /// SHA-256 of what is asked, what is right, and how it is measured.
        sha256: String,
    },
}

/// A text that all checkpoints are measured on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct TextFile {
    /// Its name without folders.
    pub name: String,
    /// Its path; relative ones from the sweep's folder.
    pub path: String,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    /// Whether a byte order mark is left out, and CR LF read as LF.
    pub unix_text: bool,
}

impl Spec {
    /// The texts that are measured, each with its tokens per chunk.
    pub fn texts(&self) -> impl Iterator<Item = (&TextFile, usize)> {
        self.measures.iter().filter_map(|measure| match measure {
            Measure::Text { text, n_ctx, .. } => Some((text, *n_ctx)),
            Measure::Tasks { .. } => None,
        })
    }
}

impl TextFile {
    /// Checks the digest of what was read.
    pub(crate) fn check(&self, sha256: &str) -> Result<(), Error> {
        if sha256 != self.sha256 {
            let name = &self.name;
            return Err(Error::Data(format!(
                "{name}: the text has changed since the sweep was planned; plan another one"
            )));
        }
        Ok(())
    }
}

impl Recipe {
    /// The base.
    pub fn base() -> Self {
        Self { level: BASE.to_owned(), quantizer: PLAIN.to_owned() }
    }

    /// Whether it is the base.
    pub fn is_base(&self) -> bool {
        self.level == BASE
    }

    /// Its name in tables: `Q4_0`, `Q4_0 imatrix`.
    pub fn name(&self) -> String {
        if self.quantizer == PLAIN { self.level.clone() } else { format!("{} {}", self.level, self.quantizer) }
    }
}

impl Measure {
    /// Its name in tables: that of the text, with the tokens per chunk; or `tasks`.
    pub fn name(&self) -> String {
        match self {
            Self::Text { text, n_ctx, .. } => format!("{}:{n_ctx}", text.name),
            Self::Tasks { .. } => "tasks".to_owned(),
        }
    }
}
