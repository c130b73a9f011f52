//! The report of a comparison: plain data here, one writer per format in the files beside this one.
//!
//! [`Report`] is what `report.json` holds; the other formats are views of it. Nothing in it depends on the day of the
//! run but [`Provenance::date`], so two runs that measured the same quality differ only in that and in their speeds.

mod answer;
mod columns;
mod csv;
mod html;
mod markdown;
mod memory;
mod plot;
mod provenance;
#[cfg(test)]
mod sample;
mod speed;

pub(crate) use answer::Answer;
pub(crate) use columns::terminal;
pub(crate) use memory::{Memory, parse_memory};
pub(crate) use provenance::{FileDigest, ImatrixOrigin, Origin, Provenance};
pub(crate) use speed::{Speed, Spread, busy};

use crate::exit::{self, Failure};
use pythia_convert::output::{AtomicFile, MadeFolders, Naming, check_target};
use pythia_runtime::machine::Machine;
use pythia_runtime::{Arithmetic, TextForm};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What `report.json` says about its own layout. Raised when a field changes its meaning or goes away.
pub(crate) const FORMAT: &str = "pythia-compare/2";

/// A comparison of quantization levels of one model on one text.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Always [`FORMAT`].
    pub(crate) format: &'static str,
    /// The model: a folder's or file's name, without its place on this machine.
    pub(crate) source: String,
    /// What made the report, when, and from what.
    pub(crate) provenance: Provenance,
    /// Where the levels ran.
    pub(crate) machine: Machine,
    /// What was scored.
    pub(crate) protocol: Protocol,
    /// How the levels ran.
    pub(crate) arithmetic: Arithmetic,
    /// Name of the level that the others are compared with.
    pub(crate) base: String,
    /// Whether each level's speed and memory were measured in a process of its own. If not, [`Speed::peak_rss_bytes`]
    /// includes what the program had allocated before.
    pub(crate) process_per_level: bool,
    /// Which speeds other programs, or chance, may have changed, in a sentence; `None` if all are steady.
    pub(crate) busy: Option<String>,
    /// What most people want to know.
    pub(crate) answer: Answer,
    /// The base and the levels, the largest file first.
    pub(crate) levels: Vec<Level>,
}

/// Which tokens were scored.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Protocol {
    /// `llama`: disjoint chunks of `n_ctx` tokens, the second half of each scored.
    pub(crate) name: String,
    /// Name of the text file.
    pub(crate) text: String,
    /// What it has of byte order mark and CR LF, and whether they were left out.
    pub(crate) text_form: TextForm,
    /// SHA-256 of the text file, hexadecimal.
    pub(crate) text_sha256: String,
    /// Tokens in a chunk.
    pub(crate) n_ctx: usize,
    /// Chunks evaluated.
    pub(crate) chunks: usize,
    /// Tokens whose probability counts.
    pub(crate) tokens_scored: u64,
}

/// One file of the comparison.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Level {
    /// Its name in tables and plots: `Q4_0`, `Q4_0 imatrix`.
    pub(crate) name: String,
    /// Name of the file; of a split model, of the first.
    pub(crate) file: String,
    /// Every file of the level, with its digest.
    pub(crate) files: Vec<FileDigest>,
    /// Size of all its files.
    pub(crate) file_bytes: u64,
    /// Bits of all tensor data per parameter.
    pub(crate) bits_per_weight: f64,
    /// The same over the transformer blocks alone, without the two vocabulary matrices and the final norm.
    pub(crate) bits_per_weight_blocks: f64,
    /// The importance matrix that it was quantized with.
    pub(crate) imatrix: Option<ImatrixOrigin>,
    /// The options that changed its mix of types, as one types them.
    pub(crate) recipe: Option<String>,
    /// Block formats that its weights were in before.
    pub(crate) requantized: Vec<String>,
    /// What it takes to run beside its file, computed.
    pub(crate) memory: Memory,
    /// Perplexity; the standard error is that of the text as a sample, common to all levels.
    pub(crate) perplexity: Estimate,
    /// The distance to the base. `None` for the base itself.
    pub(crate) against_base: Option<AgainstBase>,
    /// How fast it runs, and in how much memory.
    #[serde(flatten)]
    pub(crate) speed: Speed,
}

/// How far a level is from the base, on the same tokens.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct AgainstBase {
    /// Perplexity minus the base's; the standard error is of the paired difference.
    pub(crate) perplexity_delta: Estimate,
    /// The same in percent of the base's perplexity; the standard error is of the paired difference too.
    pub(crate) perplexity_delta_percent: Estimate,
    /// Mean Kullback-Leibler divergence from the base's prediction, in nats per token.
    pub(crate) kld_mean: Estimate,
    /// 99th percentile of the divergence.
    pub(crate) kld_p99: f64,
    /// Largest divergence at any token.
    pub(crate) kld_max: f64,
    /// Share of tokens where both predict the same most likely token, 0 to 1.
    pub(crate) same_top: Estimate,
}

/// A mean and its standard error.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Estimate {
    /// The mean.
    pub(crate) value: f64,
    /// Its standard error, tokens taken as independent.
    pub(crate) se: f64,
}

impl Estimate {
    /// Whether it is below two standard errors: a difference that chance alone may have made.
    pub(crate) fn may_be_chance(self) -> bool {
        self.value.abs() < 2.0 * self.se
    }
}

impl Report {
    /// The base level.
    pub(crate) fn base_level(&self) -> Option<&Level> {
        self.levels.iter().find(|level| level.against_base.is_none())
    }

    /// Sentences that belong beside the numbers, in every format. They have code spans as in Markdown; `name` makes names,
    /// which may be anything, fit for the format.
    pub(crate) fn notes(&self, name: impl Fn(&str) -> String) -> Vec<String> {
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
        let memory = if self.levels.iter().all(|level| level.speed.gpu_bytes.is_some()) {
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
    pub(crate) fn footnotes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let differences = self.levels.iter().filter_map(|level| level.against_base.as_ref());
        if differences.map(|against| against.perplexity_delta_percent).any(Estimate::may_be_chance) {
            notes.push("~ less than two standard errors from the base: may be chance".to_owned());
        }
        notes.extend(self.busy.clone());
        notes
    }

    /// Whether [`Files`] can be put into `dir`: found out before hours of work, not after.
    ///
    /// # Errors
    /// If one of them is one of `inputs`, no regular file, or exists while `force` is off.
    pub(crate) fn check_targets(dir: &Path, inputs: &[PathBuf], force: bool) -> Result<(), Failure> {
        paths(dir).iter().try_for_each(|path| check_target(path, inputs, force)).map_err(Failure::from)
    }
}

/// The files of a report to come: `report.json`, `.csv`, `.md` and `.html`, each of which appears whole or not at all.
pub(crate) struct Files {
    files: Vec<AtomicFile>,
    /// After the files, which lie in them: an unused folder goes when it is empty.
    made: MadeFolders,
}

impl Files {
    /// Starts them in `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// If a folder or file cannot be made.
    pub(crate) fn create(dir: &Path) -> Result<Self, Failure> {
        let made = MadeFolders::create(dir)?;
        let files = paths(dir).iter().map(|path| AtomicFile::create(path, 0)).collect::<Result<Vec<_>, _>>()?;
        files.iter().flat_map(AtomicFile::removed).for_each(exit::note);
        Ok(Self { files, made })
    }

    /// Fills them and gives them their names; returns those.
    ///
    /// # Errors
    /// If a file cannot be written, or exists while `force` is off.
    pub(crate) fn write(self, report: &Report, force: bool) -> Result<Vec<PathBuf>, Failure> {
        let json = pythia_text::json(&serde_json::to_string_pretty(report).map_err(Failure::io)?) + "\n";
        let contents = [json, csv::render(report), markdown::render(report), html::render(report)];
        for (file, content) in self.files.iter().zip(&contents) {
            file.write_at(content.as_bytes(), 0)?;
        }
        let paths = self.files.iter().map(|file| file.target().to_owned()).collect();
        // Last, when there is no more room to be found for anything.
        let _naming = Naming::begin();
        self.files.into_iter().try_for_each(|file| file.commit(force))?;
        self.made.keep()?;
        Ok(paths)
    }
}

/// What [`Files`] are called in `dir`; in the order of their contents.
fn paths(dir: &Path) -> [PathBuf; 4] {
    ["json", "csv", "md", "html"].map(|extension| dir.join("report").with_extension(extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_four_files_and_replaces_them() {
        let dir = tempfile::tempdir().unwrap();
        let report = sample::report(7);
        let write = |dir: &Path, force| Files::create(dir)?.write(&report, force);
        write(dir.path(), true).unwrap();
        let paths = write(&dir.path().join("deeper/still"), false).unwrap();
        assert_eq!(paths.len(), 4);
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&paths[0]).unwrap()).unwrap();
        assert_eq!(json["format"], FORMAT);
        assert_eq!(json["levels"].as_array().unwrap().len(), 7);
        assert!(json["levels"][0]["against_base"].is_null());
        assert!(json["levels"][1]["against_base"]["kld_mean"]["se"].is_f64());
        write(dir.path(), true).unwrap();
        let left = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, 5, "four files and a folder, no temporary file left");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = Files::create(&file).err().unwrap();
        assert!(error.to_string().contains("file"), "{error}");
    }
}
