//! `--quantizer` and its calibration, for every command that quantizes.

use super::calibrate::{self, Job};
use crate::exit::Failure;
use crate::input::{TextOptions, check_file};
use pythia_calibrate::calibration::Calibration;
use pythia_convert::output::{AtomicFile, check_target};
use pythia_convert::{Level, Provenance, Source};
use pythia_gguf::keys;
use pythia_model::Gelu;
use pythia_quantizer::{Feedback, Report, Settings};
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
    /// Write what feedback did to each matrix, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// A quantizer that is ready.
pub(super) struct Ready {
    pub(super) feedback: Arc<Feedback>,
    /// What it reads.
    pub(super) inputs: Vec<PathBuf>,
    /// Holds the calibration, if that was made here.
    _folder: Option<TempDir>,
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

/// The quantizer by a calibration. `gelu` replaces the form of GELU that the model asks for.
pub(super) fn feedback(calibration: Calibration, gelu: Option<Gelu>) -> Arc<Feedback> {
    Arc::new(Feedback::new(calibration, Settings::default(), gelu))
}

impl QuantizerOptions {
    /// Checks what can be checked before anything is opened.
    pub(super) fn check(&self, force: bool) -> Result<(), Failure> {
        let files = [&self.calibration, &self.calibrate];
        match self.quantizer {
            Named::Plain => {
                let given = [
                    (self.calibration.is_some(), "--calibration"),
                    (self.calibrate.is_some(), "--calibrate"),
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
            Named::Feedback => {
                self.calibration.iter().try_for_each(|path| check_file(path))?;
                let inputs: Vec<PathBuf> = files.into_iter().flatten().cloned().collect();
                Ok(self.report.iter().try_for_each(|path| check_target(path, &inputs, force))?)
            }
        }
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
        Ok(Some(Ready { feedback: feedback(calibration, None), inputs, _folder: folder }))
    }

    /// Writes the file of `--report`, about files by level.
    pub(super) fn write_report(&self, reports: &[(Level, Report)], force: bool) -> Result<(), Failure> {
        let Some(path) = &self.report else { return Ok(()) };
        let files = reports.iter().map(|(level, report)| JsonFile::new(*level, report)).collect();
        let report = JsonReport { quantizer: Feedback::NAME, files };
        let json = serde_json::to_string_pretty(&report).map_err(|e| Failure::io(format_args!("report: {e}")))? + "\n";
        let file = AtomicFile::create(path, 0)?;
        file.write_at(json.as_bytes(), 0)?;
        Ok(file.commit(force)?)
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
        settings: calibrate::Settings::default(),
        threads,
        gelu: None,
        quiet,
    };
    job.run(|_| Ok(()))?.collected.write(target, false)?;
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
