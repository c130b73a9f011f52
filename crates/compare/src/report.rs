//! The report of a comparison. The data are here; each output format has its own file.
//!
//! [`Report`] is the content of `report.json`; the other formats are views of it. Only [`Provenance::date`] depends on
//! the day of the run, so two reports of the same quality differ only in the date and in speeds.

mod answer;
mod columns;
mod csv;
mod files;
mod html;
mod markdown;
mod memory;
mod plot;
mod provenance;
#[cfg(test)]
mod sample;
mod series;
mod speed;
mod tasks;

pub use answer::{Answer, Fit, GoodEnough};
pub use columns::terminal;
pub use files::Files;
pub use memory::Memory;
pub use provenance::{FileDigest, ImatrixOrigin, Origin, Provenance, QuantizerOrigin};
pub use series::{LevelRow, SeriesKld, SideBySide};
pub(crate) use speed::busy;
pub use speed::{Speed, Spread};
pub use tasks::{LevelTasks, TaskValue, Tasks};

use crate::Error;
use pythia_runtime::eval::{AgainstBase, Estimate};
use pythia_runtime::machine::Machine;
use pythia_runtime::{Arithmetic, TextForm};
use serde::Serialize;

/// Version of the layout of `report.json`. It changes when a field changes its meaning or is removed.
pub const FORMAT: &str = "pythia-compare/2";

/// A comparison of quantization levels of one model on one text.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Always [`FORMAT`].
    pub format: &'static str,
    /// The model: the name of a folder or file, without its path.
    pub source: String,
    /// The program, the date and the sources.
    pub provenance: Provenance,
    /// Where the levels ran.
    pub machine: Machine,
    /// What was scored.
    pub protocol: Scored,
    /// How the levels ran.
    pub arithmetic: Arithmetic,
    /// Name of the level that the others are compared with.
    pub base: String,
    /// Whether speed and memory of each level were measured in a separate process. If not, [`Speed::peak_rss_bytes`]
    /// includes earlier allocations of the program.
    pub process_per_level: bool,
    /// A sentence about unsteady speeds, if there are any.
    pub busy: Option<String>,
    /// The series of levels that were rounded in several ways; `None` if no level was.
    pub side_by_side: Option<SideBySide>,
    /// What the files have in tasks; left out if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<Tasks>,
    /// Answers to the most common questions.
    pub answer: Answer,
    /// The base and the levels, the largest file first.
    #[serde(rename = "levels")]
    pub entries: Vec<Entry>,
}

/// Which tokens were scored.
#[derive(Clone, Debug, Serialize)]
pub struct Scored {
    /// `llama`: disjoint chunks of `n_ctx` tokens, the second half of each scored.
    pub name: String,
    /// Name of the text file.
    pub text: String,
    /// Its byte order mark and CR LF line ends, and whether they were left out.
    pub text_form: TextForm,
    /// SHA-256 of the text file, hexadecimal.
    pub text_sha256: String,
    /// Tokens in a chunk.
    pub n_ctx: usize,
    /// Chunks evaluated.
    pub chunks: usize,
    /// Tokens whose probability counts.
    pub tokens_scored: u64,
}

/// One file of the comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Its name in tables and plots: `Q4_0`, `Q4_0 imatrix`.
    pub name: String,
    /// Its type without more words: `Q4_0`.
    pub level: String,
    /// How it was rounded: `plain`, `imatrix` or the name of a quantizer. `None` for the base.
    pub series: Option<String>,
    /// Name of the file; of a split model, of the first.
    pub file: String,
    /// Every file of the level, with its digest.
    pub files: Vec<FileDigest>,
    /// Size of all its files.
    pub file_bytes: u64,
    /// Bits of all tensor data per parameter.
    pub bits_per_weight: f64,
    /// The same over the transformer blocks alone, without the two vocabulary matrices and the final norm.
    pub bits_per_weight_blocks: f64,
    /// The importance matrix that it was quantized with.
    pub imatrix: Option<ImatrixOrigin>,
    /// The quantizer that rounded its matrices together.
    pub quantizer: Option<QuantizerOrigin>,
    /// The options that changed its mix of types, as on a command line.
    pub recipe: Option<String>,
    /// Block formats that its weights were decoded from.
    pub requantized: Vec<String>,
    /// Computed memory to run it, in addition to the file.
    pub memory: Memory,
    /// Perplexity. Its standard error is sampling error, which affects all levels alike.
    pub perplexity: Estimate,
    /// The distance to the base. `None` for the base itself.
    pub against_base: Option<AgainstBase>,
    /// Its mean KLD as a multiple of that of the first series at the same level, where there are series.
    pub kld_of_first_series: Option<f64>,
    /// How fast it runs, and in how much memory.
    #[serde(flatten)]
    pub speed: Speed,
}

impl Report {
    /// The base level.
    pub fn base_entry(&self) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.against_base.is_none())
    }

    /// The content of `report.json`.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn to_json(&self) -> Result<String, Error> {
        Ok(pythia_text::json(&serde_json::to_string_pretty(self)?) + "\n")
    }

    /// Notes on the numbers, for every format. They have code spans as in Markdown. `name` escapes names for the
    /// format.
    pub fn notes(&self, name: impl Fn(&str) -> String) -> Vec<String> {
        let p = &self.protocol;
        let a = &self.arithmetic;
        let activations = match a.activations {
            "f32" => {
                "weights are decoded to f32 and multiplied with f32 activations, so the errors are those of the weights alone"
            }
            _ => {
                "activations are rounded to int8 in blocks of 32 before products with quantized weights (but not with F32, \
                 F16 and BF16 weights), so the errors are those of weights and activations together, as the file runs; \
                 `--activations f32` shows those of the weights alone, in about three times the time"
            }
        };
        let memory = if self.entries.iter().all(|entry| entry.speed.gpu_bytes.is_some()) {
            "Peak memory is the GPU memory that weights, cache and buffers of a level take while its speed is measured."
        } else if self.process_per_level {
            "Peak memory is that of a separate process that opens only this level and measures its speed; it includes \
             pages of the mapped file."
        } else {
            "Levels could not be measured in separate processes, so peak memory includes earlier allocations."
        };
        let mut notes = vec![
            format!(
                "Protocol `{}`: {} disjoint chunks of {} tokens of {}, with the second half of each scored ({} tokens). \
                 Do not compare these perplexities with those of other protocols, context lengths or texts.",
                p.name,
                p.chunks,
                p.n_ctx,
                name(&p.text),
                p.tokens_scored
            ),
            format!("Arithmetic: {activations}. GELU by {}, key-value cache in {}.", a.gelu, a.kv_cache),
            format!(
                "KLD is the divergence from {} as it runs here, over the whole vocabulary, without clipping or rounding. \
                 The same weights give exactly 0. Other files stay above a floor, because activations and the key-value \
                 cache are rounded. Better weights cannot improve a level at that floor.",
                name(&self.base)
            ),
            "The +- after a perplexity is sampling error and affects all levels alike. Compare levels by the +- of the \
             difference, which is computed token by token. Both treat tokens as independent."
                .to_owned(),
            format!("{memory} Speeds are medians of a short run on this machine: {}.", name(&self.machine.to_string())),
        ];
        notes.extend(self.footnotes().iter().map(|note| name(note)));
        notes.push(name(&self.provenance.to_string()));
        notes
    }

    /// Explanations of the marks in the short table, a line each.
    pub fn footnotes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let differences = self.entries.iter().filter_map(|entry| entry.against_base.as_ref());
        if differences.map(|against| against.perplexity_delta_percent).any(Estimate::may_be_chance) {
            notes.push("~ less than two standard errors from the base: may be chance".to_owned());
        }
        notes.extend(self.busy.clone());
        notes
    }
}
