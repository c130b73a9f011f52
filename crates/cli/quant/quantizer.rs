//! `--quantizer` and its calibration, for every command that quantizes.

use super::calibrate;
use crate::exit::{self, Failure};
use crate::input::{TextOptions, check_file};
use pythia_calibrate::calibration::{self, Calibration, Job};
use pythia_convert::output::{AtomicFile, check_target};
use pythia_convert::{Budget, Level, PassOptions, Provenance, Source};
use pythia_gguf::keys;
use pythia_quantizer::{Allocate, Allocation, Feedback, Report, Settings};
use pythia_task::Progress;
use pythia_tensor::TensorType;
use regex::Regex;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// The quantizers of a conversion. An importance matrix is an option of the plain one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Named {
    Plain,
    Feedback,
}

/// How matrices are rounded.
#[derive(Debug, clap::Args)]
pub(super) struct QuantizerOptions {
    /// How matrices are rounded: plain, row by row to the bytes of llama.cpp; or feedback, layer after layer, with the
    /// inputs that the rounded layers before leave them, to the smallest change of the model's predictions
    ///
    /// feedback keeps the types, and so the size of a file and the programs that run it. It needs a calibration.
    #[arg(long, value_enum, default_value = "plain", hide_possible_values = true, value_name = "plain|feedback")]
    quantizer: Named,
    /// Calibration file for feedback, from `pythia-quant calibrate`
    #[arg(long, value_name = "FILE", conflicts_with = "calibrate")]
    calibration: Option<PathBuf>,
    /// Calibrate feedback on this text first, as `pythia-quant calibrate` does without options
    #[arg(long, value_name = "TEXT")]
    calibrate: Option<PathBuf>,
    /// Choose the types of the matrices for the smallest divergence within this size: 4.8MB or 5MiB of file, 5.2bpw
    /// (bits per weight), or same-as:LEVEL. TYPE, which must be one, is the level to start from
    ///
    /// The types are printed as rules for --tensor-type-file, which llama-quantize reads too. Takes several times as long
    /// as rounding. Matrices that --tensor-type names keep that type.
    #[arg(long, value_name = "SIZE")]
    budget: Option<Budget>,
    /// With --budget, give no matrix more bits per weight than this type has
    #[arg(long, value_name = "TYPE", requires = "budget")]
    max_type: Option<TensorType>,
    /// With --budget, leave the matrices whose GGUF name matches REGEX in the type of the level; may be repeated
    #[arg(long, value_name = "REGEX", requires = "budget", value_parser = parse_regex)]
    keep: Vec<Regex>,
    /// Write what feedback did to each matrix, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// A quantizer that is ready.
pub(super) struct Ready {
    pub(super) feedback: Arc<Feedback>,
    pub(super) calibration: Calibration,
    /// What it reads.
    pub(super) inputs: Vec<PathBuf>,
    /// Holds the calibration, if that was made here.
    _folder: Option<TempDir>,
}

/// What `--budget` came to.
pub(super) struct Allocated {
    pub(super) budget: Budget,
    pub(super) allocation: Allocation,
}

/// Choices of types that are rounded and measured before the best is taken.
const TRIES: usize = 5;

/// For clap: a regular expression.
fn parse_regex(text: &str) -> Result<Regex, String> {
    // The last line states the problem.
    Regex::new(text).map_err(|e| e.to_string().lines().last().unwrap_or_default().trim().to_owned())
}

/// The error for feedback without a calibration.
fn no_calibration() -> Failure {
    Failure::usage(
        "--quantizer feedback needs a calibration: run `pythia-quant calibrate MODEL -f TEXT` and give its file with \
         --calibration calibration.gguf",
    )
}

/// Opens the calibration file of an option.
pub(super) fn open_calibration(path: Option<&Path>) -> Result<Calibration, Failure> {
    let path = path.ok_or_else(no_calibration)?;
    check_file(path)?;
    Ok(Calibration::open(path)?)
}

/// The quantizer by a calibration.
pub(super) fn feedback(calibration: Calibration) -> Arc<Feedback> {
    Arc::new(Feedback::new(calibration, Settings::default()))
}

impl QuantizerOptions {
    /// Checks what can be checked before anything is opened, for so many types.
    pub(super) fn check(&self, n_types: usize, force: bool) -> Result<(), Failure> {
        let files = [&self.calibration, &self.calibrate];
        match self.quantizer {
            Named::Plain => {
                let given = [
                    (self.calibration.is_some(), "--calibration"),
                    (self.calibrate.is_some(), "--calibrate"),
                    (self.budget.is_some(), "--budget"),
                    (self.report.is_some(), "--report"),
                ];
                match given.into_iter().find(|(is_given, _)| *is_given) {
                    Some((_, option)) => Err(Failure::usage(format_args!("{option} is for --quantizer feedback"))),
                    None => Ok(()),
                }
            }
            Named::Feedback if files.iter().all(|file| file.is_none()) => Err(Failure::usage(
                "--quantizer feedback needs a calibration: --calibrate TEXT makes one on the way, and `pythia-quant \
                 calibrate MODEL -f TEXT` makes a file for --calibration",
            )),
            Named::Feedback if self.budget.is_some() && n_types > 1 => {
                Err(Failure::usage("--budget is for one TYPE, the level to start from"))
            }
            Named::Feedback => {
                self.calibration.iter().try_for_each(|path| check_file(path))?;
                let inputs: Vec<PathBuf> = files.into_iter().flatten().cloned().collect();
                self.check_report(&inputs, force)
            }
        }
    }

    /// Checks that the report of `--report` is none of the files that are `taken`.
    pub(super) fn check_report(&self, taken: &[PathBuf], force: bool) -> Result<(), Failure> {
        Ok(self.report.iter().try_for_each(|path| check_target(path, taken, force))?)
    }

    /// The quantizer, with a calibration of `source`, called `name`; `None` for the encoders alone.
    pub(super) fn ready(
        &self,
        source: &dyn Source,
        provenance: &Provenance,
        threads: usize,
        quiet: bool,
    ) -> Result<Option<Ready>, Failure> {
        if self.quantizer == Named::Plain {
            return Ok(None);
        }
        let inputs = [&self.calibration, &self.calibrate].into_iter().flatten().cloned().collect();
        let (calibration, folder) = match &self.calibrate {
            None => (open_calibration(self.calibration.as_deref())?, None),
            Some(text) => {
                let folder = TempDir::new().map_err(|e| Failure::at(&std::env::temp_dir(), &e))?;
                let file = folder.path().join("calibration.gguf");
                calibrate(source, provenance, text, &file, threads, quiet)?;
                (Calibration::open(&file)?, Some(folder))
            }
        };
        Ok(Some(Ready { feedback: feedback(calibration.clone()), calibration, inputs, _folder: folder }))
    }

    /// Chooses types within `--budget`, and adds them to the rules of `request`. `None` without the option.
    pub(super) fn allocate(
        &self,
        source: &dyn Source,
        ready: &Ready,
        request: &mut pythia_convert::Request,
        options: PassOptions<'_>,
    ) -> Result<Option<Allocated>, Failure> {
        let (Some(budget), [(level, _)]) = (self.budget, &request.files[..]) else { return Ok(None) };
        let level = *level;
        // What the user has chosen stays.
        let chosen = request.recipe.rules.iter().map(|rule| rule.pattern().clone());
        let keep = self.keep.iter().cloned().chain(chosen).collect();
        let wanted = Allocate { level, budget, max_type: self.max_type, keep, tries: TRIES };
        let settings = Settings::default();
        let allocation = pythia_quantizer::allocate(source, &ready.calibration, &settings, request, &wanted, options)?;
        request.recipe.rules.extend(allocation.rules.iter().cloned());
        Ok(Some(Allocated { budget, allocation }))
    }

    /// Writes the file of `--report`, about files by level.
    pub(super) fn write_report(
        &self,
        reports: &[(Level, Report)],
        force: bool,
        progress: &dyn Progress,
    ) -> Result<(), Failure> {
        let Some(path) = &self.report else { return Ok(()) };
        let files = reports.iter().map(|(level, report)| JsonFile::new(*level, report)).collect();
        let report = JsonReport { quantizer: Feedback::NAME, files };
        let json = serde_json::to_string_pretty(&report).map_err(|e| Failure::io(format_args!("report: {e}")))? + "\n";
        Ok(AtomicFile::write(path, json.as_bytes(), force, progress)?)
    }
}

/// Calibrates on the windows of a text, with the settings that `pythia-quant calibrate` has without options.
fn calibrate(
    source: &dyn Source,
    provenance: &Provenance,
    text: &Path,
    target: &Path,
    threads: usize,
    quiet: bool,
) -> Result<(), Failure> {
    let text = TextOptions::default().open(text)?;
    let text = if quiet { text.watched(|_| ()) } else { text };
    let metadata = source.metadata(provenance)?;
    let path = source.inputs().into_iter().next().unwrap_or_default();
    let job = Job {
        source,
        provenance,
        name: metadata.str(keys::NAME).ok().flatten().unwrap_or_default(),
        path: &path,
        text: &text,
        settings: calibration::Settings::default(),
        threads,
        gelu: None,
        program: calibrate::program(),
        cancel: exit::catch_interrupts().clone(),
    };
    job.run(|_| Ok::<(), Failure>(()), &calibrate::bar(quiet))?.collected.write(target, false, &())?;
    Ok(())
}

/// The file of `--report`.
#[derive(Serialize)]
struct JsonReport<'a> {
    quantizer: &'static str,
    files: Vec<JsonFile<'a>>,
}

/// What was done to one file.
#[derive(Serialize)]
struct JsonFile<'a> {
    #[serde(rename = "type")]
    level: &'static str,
    #[serde(flatten)]
    report: &'a Report,
}

impl<'a> JsonFile<'a> {
    fn new(level: Level, report: &'a Report) -> Self {
        Self { level: level.name(), report }
    }
}
