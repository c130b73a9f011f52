//! What quantizers need of a checkpoint: importances and calibrations, on the calibration text of the sweep.

use crate::classify::Stop;
use crate::id;
use crate::job::{self, Job};
use crate::run::check_text;
use crate::spec::{IMATRIX, PLAIN, TextFile};
use crate::{Error, ErrorClass};
use pythia_calibrate::calibration::{self, Calibration, Settings, partial_path};
use pythia_calibrate::imatrix;
use pythia_compare::{Comparison, Request, Rounding};
use pythia_convert::output::AtomicFile;
use pythia_convert::{CheckpointSource, Provenance};
use pythia_model::BATCH_TOKENS;
use pythia_quantizer::{Feedback, Settings as FeedbackSettings};
use pythia_runtime::Tokenizer;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

/// Chunks that importances are collected on.
const CHUNKS: usize = 64;
/// Tokens of the shortest chunk there may be.
const SHORTEST_CHUNK: usize = 4;
/// Tokens of a chunk of importances, where the model's context is not shorter.
const N_CTX: usize = 512;

/// The quantizers of a group, as far as they were needed.
#[derive(Default)]
pub(crate) struct Prepared {
    imatrix: Option<PathBuf>,
    feedback: Option<Arc<Feedback>>,
}

/// The preparation of a group.
pub(crate) struct Preparation<'a, 'g> {
    pub(crate) job: &'a Job<'g>,
}

impl Preparation<'_, '_> {
    /// Puts the ways to round that are called `names` into a request. What they need is made, unless an earlier run has
    /// left it in the work folder.
    pub(crate) fn put(&self, names: &[&str], prepared: &mut Prepared, request: &mut Request) -> Result<(), Stop> {
        let mut roundings = Vec::new();
        for &name in names {
            roundings.push(match name {
                PLAIN => Rounding::Plain,
                IMATRIX => {
                    if prepared.imatrix.is_none() {
                        prepared.imatrix = Some(self.imatrix()?);
                    }
                    request.imatrix.clone_from(&prepared.imatrix);
                    Rounding::Imatrix
                }
                Feedback::NAME => {
                    let feedback = match &prepared.feedback {
                        Some(known) => known,
                        None => prepared.feedback.insert(self.feedback()?),
                    };
                    Rounding::By(feedback.clone())
                }
                _ => return Err(Stop::fault(ErrorClass::Request, format!("no quantizer is called {name}"))),
            });
        }
        request.quantizers = roundings;
        Ok(())
    }

    /// The text that both are computed on.
    fn text(&self) -> Result<&TextFile, Stop> {
        let text = self.job.sweep.manifest().spec.calibration.as_ref();
        let text = text.ok_or_else(|| Stop::fault(ErrorClass::Request, "the sweep has no calibration text"))?;
        check_text(self.job.sweep, text, &self.job.options.cancel).map_err(|error| match error {
            Error::Cancelled => Stop::Cancelled,
            error => Stop::fault(ErrorClass::System, error.to_string()),
        })?;
        Ok(text)
    }

    /// Where a file is kept. Its name has a digest of all that it depends on besides the checkpoint.
    fn path(&self, kind: &str) -> PathBuf {
        let spec = &self.job.sweep.manifest().spec;
        let text = spec.calibration.as_ref().map(|text| (&text.sha256, text.unix_text));
        let digest = id::hex_of(&(text, &spec.gelu, &spec.base_level, &spec.activations, &self.job.options.program));
        self.job.work.join(format!("{kind}-{digest}.gguf"))
    }

    /// Collects importances from the base.
    fn imatrix(&self) -> Result<PathBuf, Stop> {
        let path = self.path("imatrix");
        if path.exists() {
            return Ok(path);
        }
        let options = self.job.options;
        let text = self.text()?;
        // The base alone. It is not scored, so the length of a chunk does not matter.
        let base = Request { n_ctx: SHORTEST_CHUNK, ..self.job.request(text)? };
        let model_options = base.options.clone();
        let mut comparison = Comparison::prepare(base)?;
        comparison.convert(options.observer)?;
        let base = &comparison.candidates()[0].path;
        let model = options.device.open(base, &model_options).map_err(pythia_runtime::Error::from)?;
        let tokenizer = Tokenizer::from_gguf(&model.gguf().metadata).map_err(pythia_runtime::Error::from)?;
        let text = job::open(self.job.sweep, text)?;
        let mut tokens = text.tokens(&tokenizer, &options.cancel)?;
        let request = imatrix::Request {
            n_ctx: N_CTX.min(model.hparams().n_ctx),
            n_batch: BATCH_TOKENS,
            max_chunks: Some(CHUNKS),
            dataset: text.name(),
            cancel: options.cancel.clone(),
        };
        options.observer.step("importances");
        let progress = options.observer.begin(pythia_compare::Stage::Calibrate);
        let imatrix = imatrix::collect(&model, &request, &mut tokens, &*progress)?;
        let bytes = imatrix.to_gguf().map_err(|e| Stop::fault(ErrorClass::Numeric, e.to_string()))?;
        AtomicFile::write(&path, &bytes, true, &())?;
        Ok(path)
    }

    /// Calibrates the quantizer.
    fn feedback(&self) -> Result<Arc<Feedback>, Stop> {
        let path = self.path("calibration");
        if !path.exists() {
            let work = &self.job.work;
            let refused =
                |e: std::io::Error| Stop::fault(ErrorClass::System, format!("{}: {e}", pythia_text::path(work)));
            fs::create_dir_all(work).map_err(refused)?;
            let options = self.job.options;
            let source = CheckpointSource::open_variant(&self.job.path, None)?;
            let provenance = Provenance::gather(source.checkpoint(), false, &options.cancel)?;
            let calibration = calibration::Job {
                source: &source,
                provenance: &provenance,
                name: &provenance.name,
                path: &self.job.path,
                text: &job::open(self.job.sweep, self.text()?)?,
                settings: Settings::default(),
                threads: options.threads,
                gelu: self.job.model_options()?.gelu,
                program: options.program.clone(),
                cancel: options.cancel.clone(),
            };
            options.observer.step("calibration");
            let progress = options.observer.begin(pythia_compare::Stage::Calibrate);
            // A run that is stopped goes on where it was.
            let keep = |collector: &mut calibration::Collector<'_, '_>| -> Result<(), Stop> {
                Ok(collector.keep_state(partial_path(&path), true).map(drop)?)
            };
            let done = calibration.run(keep, &*progress)?;
            done.collected.write(&path, true, &())?;
        }
        Ok(Arc::new(Feedback::new(Calibration::open(&path)?, FeedbackSettings::default())))
    }
}
