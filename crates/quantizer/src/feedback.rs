//! The quantizer as a conversion calls it.

use crate::error::Error;
use crate::report::Report;
use crate::settings::Settings;
use crate::walk::{Target, Walk};
use pythia_calibrate::calibration::Calibration;
use pythia_calibrate::network::Network;
use pythia_convert::metadata::{CALIBRATION, QUANTIZER_DETAILS};
use pythia_convert::{Level, QuantizeJob, Quantizer, Source};
use pythia_gguf::Value;
use pythia_kernels::{Cpu, Gelu};
use pythia_schema::TensorId;
use pythia_tensor::TensorType;
use pythia_text::Line;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Grows with every change after which the same settings give other bytes. Files that are kept for reuse record it.
const VERSION: u32 = 1;

/// Tokens below which a calibration says little.
const FEW_TOKENS: usize = 8192;

/// Rounds the matrices of a model together, with the inputs that they have behind each other and in the metric of the
/// model's output.
pub struct Feedback {
    calibration: Calibration,
    settings: Settings,
    reports: Mutex<Vec<(Level, Report)>>,
}

impl Feedback {
    /// Its name, as a user types it.
    pub const NAME: &'static str = "feedback";

    /// Rounds by the windows and metrics of `calibration`, for a model with the form of GELU that these were made with.
    pub fn new(calibration: Calibration, settings: Settings) -> Self {
        Self { calibration, settings, reports: Mutex::new(Vec::new()) }
    }

    /// What to say of a calibration on few tokens.
    pub fn doubt(&self) -> Option<String> {
        let tokens = self.calibration.tokens().len();
        (tokens < FEW_TOKENS).then(|| {
            format!(
                "calibrated on {tokens} tokens: with fewer than {FEW_TOKENS}, feedback may be worse than plain; measure \
                 it"
            )
        })
    }

    /// What was done to the files so far, with their levels.
    pub fn reports(&self) -> Vec<(Level, Report)> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn run(&self, job: &QuantizeJob<'_>) -> Result<Report, Error> {
        let network = open(job.source, &self.calibration, job.options.threads)?;
        let target = Placed::new(job);
        let walk = Walk {
            network: &network,
            calibration: &self.calibration,
            settings: &self.settings,
            target: &target,
            alternatives: &[],
            cancel: job.options.cancel,
            progress: job.options.progress,
        };
        walk.run()
    }
}

impl Quantizer for Feedback {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn metadata(&self) -> Vec<(String, Value)> {
        let provenance = self.calibration.provenance();
        let tokens = u32::try_from(self.calibration.tokens().len()).unwrap_or(u32::MAX);
        let calibration = [
            ("sha256", Value::from(self.calibration.sha256())),
            ("text", Value::from(provenance.text.as_str())),
            ("tokens", Value::from(tokens)),
        ];
        let details =
            [("version", Value::from(VERSION)), ("settings", Value::from(self.settings.to_string().as_str()))];
        let calibration = calibration.into_iter().map(|(key, value)| (format!("{CALIBRATION}{key}"), value));
        calibration
            .chain(details.into_iter().map(|(key, value)| (format!("{QUANTIZER_DETAILS}{key}"), value)))
            .collect()
    }

    fn changes_vectors(&self) -> bool {
        self.settings.biases
    }

    fn quantize(&self, job: &QuantizeJob<'_>) -> Result<(), pythia_convert::Error> {
        let report = self.run(job).map_err(|e| match e {
            Error::Convert(e) => *e,
            Error::Cancelled => pythia_convert::Error::Cancelled,
            e => pythia_convert::Error::quantizer(e.kind(), e.to_string()),
        })?;
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).push((job.file_plan().level, report));
        Ok(())
    }
}

/// The model of a source as it was when it was calibrated.
pub(crate) fn open<'s>(
    source: &'s dyn Source,
    calibration: &Calibration,
    threads: usize,
) -> Result<Network<'s>, Error> {
    let cpu = Cpu::new(threads, None).map_err(Error::Isa)?;
    let gelu = if calibration.hparams().gelu_tanh { Gelu::Tanh } else { Gelu::Erf };
    let network = Network::open(source, Arc::new(cpu), Some(gelu))?;
    check(&network, calibration)?;
    Ok(network)
}

/// The type that a matrix is rounded to, if it shall have the type `ty` and is `stored` in another. `None` if it is not
/// rounded.
pub(crate) fn rounded_type(ty: TensorType, stored: TensorType) -> Option<TensorType> {
    (ty.is_quantized() && ty != stored).then_some(ty)
}

/// Checks that a calibration is one of this model.
pub(crate) fn check(network: &Network<'_>, calibration: &Calibration) -> Result<(), Error> {
    let path = pythia_text::path(calibration.path());
    if calibration.is_of(network)? {
        return Ok(());
    }
    let model = Line(&calibration.provenance().model);
    Err(Error::Mismatch(format!("{path}: is the calibration of another model or step, {model}")))
}

/// Tensors at their places in a file.
struct Placed<'j> {
    job: &'j QuantizeJob<'j>,
    /// Index of every tensor in the plan.
    index: HashMap<String, usize>,
}

impl<'j> Placed<'j> {
    fn new(job: &'j QuantizeJob<'j>) -> Self {
        let names = job.plan.tensors.iter().map(|tensor| tensor.name.clone());
        Self { job, index: names.zip(0..).collect() }
    }

    fn index(&self, id: TensorId) -> usize {
        self.index[&id.gguf()]
    }
}

impl Target for Placed<'_> {
    fn ty(&self, id: TensorId) -> Option<TensorType> {
        let index = self.index(id);
        rounded_type(self.job.file_plan().choices[index].ty, self.job.plan.tensors[index].source.ty)
    }

    fn matrix(&self, id: TensorId, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.job.put(self.index(id), bytes)?)
    }

    fn vector(&self, id: TensorId, values: &[f32]) -> Result<(), Error> {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        Ok(self.job.put(self.index(id), &bytes)?)
    }
}
