//! What quantizers need of a checkpoint: importances and calibrations, on the calibration text of the sweep.

use crate::ErrorClass;
use crate::classify::Stop;
use crate::group::{self, Group};
use crate::spec::PLAIN;
use pythia_calibrate::calibration::{Calibration, Job, Settings};
use pythia_calibrate::imatrix;
use pythia_compare::{Comparison, Request, Rounding};
use pythia_convert::output::AtomicFile;
use pythia_convert::{CheckpointSource, Provenance};
use pythia_model::BATCH_TOKENS;
use pythia_quantizer::{Feedback, Settings as FeedbackSettings};
use pythia_runtime::Tokenizer;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Chunks that importances are collected on.
const CHUNKS: usize = 64;
/// Tokens of such a chunk, where the model's context is not shorter.
const N_CTX: usize = 512;

/// The quantizers of a group.
pub(crate) struct Prepared {
    /// An importance matrix, if a recipe wants one.
    pub(crate) imatrix: Option<PathBuf>,
    feedback: Option<Arc<Feedback>>,
}

impl Prepared {
    /// The way to round that is called `name`.
    pub(crate) fn rounding(&self, name: &str) -> Result<Rounding, Stop> {
        let missing = || Stop::fault(ErrorClass::Request, format!("no quantizer is called {name}"));
        match name {
            PLAIN => Ok(Rounding::Plain),
            "imatrix" => Ok(Rounding::Imatrix),
            Feedback::NAME => self.feedback.clone().map(|feedback| Rounding::By(feedback)).ok_or_else(missing),
            _ => Err(missing()),
        }
    }
}

/// The preparation of a group.
pub(crate) struct Preparation<'a, 'g> {
    pub(crate) group: &'a Group<'g>,
    /// The first comparison of the group.
    pub(crate) first: &'a Request,
}

impl Preparation<'_, '_> {
    /// Makes what the recipes of the sweep want. What an earlier run has left in the work folder is taken.
    pub(crate) fn run(&self) -> Result<Prepared, Stop> {
        let spec = &self.group.sweep.manifest().spec;
        let is_wanted = |name: &str| spec.recipes.iter().any(|recipe| recipe.quantizer == name);
        let imatrix = is_wanted("imatrix").then(|| self.imatrix()).transpose()?;
        let feedback = is_wanted(Feedback::NAME).then(|| self.feedback()).transpose()?;
        Ok(Prepared { imatrix, feedback })
    }

    fn text(&self) -> Result<pythia_runtime::Text, Stop> {
        let text = self.group.sweep.manifest().spec.calibration.as_ref();
        let missing = || Stop::fault(ErrorClass::Request, "the sweep has no calibration text");
        group::open(self.group.sweep, text.ok_or_else(missing)?)
    }

    /// Collects importances from the base.
    fn imatrix(&self) -> Result<PathBuf, Stop> {
        let path = self.group.work.join("imatrix.gguf");
        if path.exists() {
            return Ok(path);
        }
        let options = self.group.options;
        let measured = self.group.sweep.manifest().spec.measures.iter().find_map(|measure| match measure {
            crate::Measure::Text { text, .. } => Some(text),
            crate::Measure::Tasks { .. } => None,
        });
        let measured = measured.ok_or_else(|| Stop::fault(ErrorClass::Request, "the sweep has no text"))?;
        let n_ctx = self.first.n_ctx;
        let plain = Request { levels: self.first.levels.clone(), n_ctx, ..self.group.request(measured)? };
        let mut comparison = Comparison::prepare(plain)?;
        comparison.convert(options.observer)?;
        let base = &comparison.candidates()[0].path;
        let model = options.device.open(base, &self.first.options).map_err(pythia_runtime::Error::from)?;
        let tokenizer = Tokenizer::from_gguf(&model.gguf().metadata).map_err(pythia_runtime::Error::from)?;
        let text = self.text()?;
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
        write(&path, &bytes)?;
        Ok(path)
    }

    /// Calibrates the quantizer.
    fn feedback(&self) -> Result<Arc<Feedback>, Stop> {
        let path = self.group.work.join("calibration.gguf");
        if !path.exists() {
            let options = self.group.options;
            let source = CheckpointSource::open_variant(&self.group.path, None)?;
            let provenance = Provenance::gather(source.checkpoint(), false, &options.cancel)?;
            let job = Job {
                source: &source,
                provenance: &provenance,
                name: &provenance.name,
                path: &self.group.path,
                text: &self.text()?,
                settings: Settings::default(),
                threads: options.threads,
                gelu: self.first.options.gelu,
                program: options.program.clone(),
                cancel: options.cancel.clone(),
            };
            options.observer.step("calibration");
            let progress = options.observer.begin(pythia_compare::Stage::Calibrate);
            let done = job.run(|_| Ok::<(), Stop>(()), &*progress)?;
            done.collected.write(&path, true, &())?;
        }
        Ok(Arc::new(Feedback::new(Calibration::open(&path)?, FeedbackSettings::default())))
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Stop> {
    let file = AtomicFile::create(path, 0, &())?;
    file.write_at(bytes, 0)?;
    Ok(file.commit(true)?)
}
