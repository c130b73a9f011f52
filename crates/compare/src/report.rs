//! The report of a comparison: plain data here, one writer per format in the files beside this one.
//!
//! [`Report`] is what `report.json` holds; the other formats are views of it. Nothing in it depends on the day of the
//! run but [`Provenance::date`], so two runs that measured the same quality differ only in that and in their speeds.

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
mod speed;

pub use answer::{Answer, Fit, GoodEnough};
pub use columns::terminal;
pub use files::Files;
pub use memory::Memory;
pub use provenance::{FileDigest, ImatrixOrigin, Origin, Provenance};
pub(crate) use speed::busy;
pub use speed::{Speed, Spread};

use crate::Error;
use pythia_runtime::eval::{AgainstBase, Estimate};
use pythia_runtime::machine::Machine;
use pythia_runtime::{Arithmetic, TextForm};
use serde::Serialize;

/// What `report.json` says about its own layout. Raised when a field changes its meaning or goes away.
pub const FORMAT: &str = "pythia-compare/2";

/// A comparison of quantization levels of one model on one text.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Always [`FORMAT`].
    pub format: &'static str,
    /// The model: a folder's or file's name, without its place on this machine.
    pub source: String,
    /// What made the report, when, and from what.
    pub provenance: Provenance,
    /// Where the levels ran.
    pub machine: Machine,
    /// What was scored.
    pub protocol: Scored,
    /// How the levels ran.
    pub arithmetic: Arithmetic,
    /// Name of the level that the others are compared with.
    pub base: String,
    /// Whether each level's speed and memory were measured in a process of its own. If not, [`Speed::peak_rss_bytes`]
    /// includes what the program had allocated before.
    pub process_per_level: bool,
    /// Which speeds other programs, or chance, may have changed, in a sentence; `None` if all are steady.
    pub busy: Option<String>,
    /// What most people want to know.
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
    /// What it has of byte order mark and CR LF, and whether they were left out.
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
    /// The options that changed its mix of types, as one types them.
    pub recipe: Option<String>,
    /// Block formats that its weights were in before.
    pub requantized: Vec<String>,
    /// What it takes to run beside its file, computed.
    pub memory: Memory,
    /// Perplexity; the standard error is that of the text as a sample, common to all levels.
    pub perplexity: Estimate,
    /// The distance to the base. `None` for the base itself.
    pub against_base: Option<AgainstBase>,
    /// How fast it runs, and in how much memory.
    #[serde(flatten)]
    pub speed: Speed,
}

impl Report {
    /// The base level.
    pub fn base_entry(&self) -> Option<&Entry> {
        self.entries.iter().find(|level| level.against_base.is_none())
    }

    /// What `report.json` holds.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn to_json(&self) -> Result<String, Error> {
        Ok(pythia_text::json(&serde_json::to_string_pretty(self)?) + "\n")
    }

    /// Sentences that belong beside the numbers, in every format. They have code spans as in Markdown; `name` makes names,
    /// which may be anything, fit for the format.
    pub fn notes(&self, name: impl Fn(&str) -> String) -> Vec<String> {
        let p = &self.protocol;
        let a = &self.arithmetic;
        let activations = match a.activations {
            "f32" => {
                "weights are decoded and multiplied with f32 activations, so the error shown is that of the weights alone"
            }
            _ => {
                "activations are rounded to int8 in blocks of 32 before products with quantized weights (F32, F16 and BF16 \
                 weights see f32), so the error shown is that of weights and activations together, as the file runs; \
                 `--activations f32` shows that of the weights alone, at about three times the time"
            }
        };
        let memory = if self.entries.iter().all(|level| level.speed.gpu_bytes.is_some()) {
            "Peak memory is what weights, cache and scratch of this level take of the GPU's memory while its speed is \
             measured."
        } else if self.process_per_level {
            "Peak memory is that of a process of its own that opens this level alone and measures its speed; pages of the \
             mapped file count."
        } else {
            "No process could be started for each level, so that peak memory includes what this one had allocated before."
        };
        let mut notes = vec![
            format!(
                "Protocol `{}`: {} disjoint chunks of {} tokens of {}, the second half of each scored ({} tokens). \
                 Perplexities of other protocols, contexts or texts cannot be compared with these.",
                p.name,
                p.chunks,
                p.n_ctx,
                name(&p.text),
                p.tokens_scored
            ),
            format!("Arithmetic: {activations}. GELU by {}, key-value cache in {}.", a.gelu, a.kv_cache),
            format!(
                "KLD is measured from {} as it runs here, over the whole vocabulary, without clipping or rounding: the same \
                 weights give exactly 0. Other files cannot come arbitrarily near: the rounding of activations and of the \
                 key-value cache puts a floor under them, and a level at that floor has nothing left to gain in its weights.",
                name(&self.base)
            ),
            "The +- after a perplexity is sampling error and affects all levels alike. Compare levels by the +- of the \
             difference, which is computed token by token. Both take tokens as independent."
                .to_owned(),
            format!("{memory} Speeds are medians of a short run on this machine: {}.", name(&self.machine.to_string())),
        ];
        notes.extend(self.footnotes().iter().map(|note| name(note)));
        notes.push(name(&self.provenance.to_string()));
        notes
    }

    /// What explains the marks of the short table, a line each.
    pub fn footnotes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let differences = self.entries.iter().filter_map(|level| level.against_base.as_ref());
        if differences.map(|against| against.perplexity_delta_percent).any(Estimate::may_be_chance) {
            notes.push("~ less than two standard errors from the base: may be chance".to_owned());
        }
        notes.extend(self.busy.clone());
        notes
    }
}
