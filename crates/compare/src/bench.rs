//! Measures the speed of prompts and of generation as llama-bench does, and its share of the machine's limits.

mod draft;
mod output;
mod result;
mod stopwatch;
mod work;

pub use draft::{DraftBench, DraftResult};
pub use output::{to_csv, to_json, to_json_lines, to_table};
pub use result::{TestResult, rate};
pub(crate) use stopwatch::{Stopwatch, median};
pub(crate) use work::{Work, spec_bytes};

use crate::Error;
use pythia_gguf::FileType;
use pythia_model::{Activations, BATCH_TOKENS, Model};
use pythia_runtime::Arithmetic;
use pythia_runtime::device::Limits;
use pythia_runtime::machine::Machine;
use pythia_show::iso_time;
use pythia_task::{Cancel, Progress};
use result::{Bound, Setup, Share};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A test of a model.
#[derive(Clone, Copy, Debug)]
pub enum Test {
    /// A prompt of this many tokens.
    Prefill(usize),
    /// This many tokens one by one.
    Decode(usize),
}

impl Test {
    /// Tokens that are processed or generated.
    pub fn tokens(self) -> usize {
        match self {
            Self::Prefill(n) | Self::Decode(n) => n,
        }
    }

    /// Its short name: `pp512` or `tg128`.
    pub fn name(self) -> String {
        match self {
            Self::Prefill(n) => format!("pp{n}"),
            Self::Decode(n) => format!("tg{n}"),
        }
    }
}

/// A model to measure.
pub struct Bench<'a> {
    /// Its file, as results name it.
    pub path: &'a Path,
    /// The model.
    pub model: &'a Arc<Model>,
    /// The limits of its device.
    pub limits: Limits,
    /// Repetitions that count.
    pub repetitions: usize,
    /// Ends a test with an error when it is raised.
    pub cancel: &'a Cancel,
    /// Receives each repetition, including the warm-up; the item is the file and the test.
    pub progress: &'a dyn Progress,
}

impl Bench<'_> {
    /// Runs a test.
    ///
    /// # Errors
    /// If the model cannot have a context of so many tokens, or the test is cancelled.
    pub fn run(&self, test: Test) -> Result<TestResult, Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut stopwatch = Stopwatch::new(self.model, test.tokens(), self.cancel)?;
        let mut samples = Vec::new();
        let item = format!("{} {}", self.path.display(), test.name());
        // The first run loads weights into memory and does not count.
        for _ in 0..=self.repetitions {
            if self.cancel.is_raised() {
                return Err(Error::Cancelled);
            }
            let time: Duration = match test {
                Test::Prefill(n) => stopwatch.prefill(n)?,
                Test::Decode(n) => stopwatch.decode(n)?.iter().sum(),
            };
            samples.push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
            self.progress.advance(&item, 1);
        }
        samples.remove(0);
        let mut result = TestResult {
            setup: self.setup(),
            test,
            test_time: iso_time(now.as_secs()),
            samples_ns: samples,
            share: self.share(test, 0.0),
        };
        result.share = self.share(test, median(&result.samples_ts()));
        Ok(result)
    }

    /// The share of a speed in the limit of such a test.
    fn share(&self, test: Test, tokens_per_second: f64) -> Share {
        let work = Work::of(self.model.gguf());
        let (per_token, bound) = match test {
            Test::Decode(_) => (work.decode_bytes, Bound::Memory),
            Test::Prefill(n) => {
                let is_int8 = work.is_quantized && self.model.options().activations == Activations::Int8;
                (work.prefill_ops(n) / n as f64, if is_int8 { Bound::Int8 } else { Bound::F32 })
            }
        };
        Share::new(per_token * tokens_per_second / 1e9, bound, &self.limits)
    }

    fn setup(&self) -> Setup {
        let model = self.model;
        let tensors = model.gguf().tensors();
        let machine = Machine::of(model);
        let arithmetic = Arithmetic::of(model.options());
        let n_params: u64 = tensors.iter().map(|t| t.n_elems()).sum();
        Setup {
            model_filename: self.path.display().to_string(),
            model_type: format!("gptneox {} {}", in_millions(n_params), file_type(model)),
            model_size: tensors.iter().map(|t| t.n_bytes).sum(),
            model_n_params: n_params,
            device: machine.device,
            cpu: machine.cpu,
            isa: machine.isa,
            threads: machine.threads,
            activations: arithmetic.activations.to_owned(),
            kv_cache: arithmetic.kv_cache.to_owned(),
            is_mapped: !model.is_copied(),
            n_batch: BATCH_TOKENS,
        }
    }
}

fn in_millions(n_params: u64) -> String {
    match n_params as f64 {
        n if n < 1e9 => format!("{:.0}M", n / 1e6),
        n => format!("{:.1}B", n / 1e9),
    }
}

/// The file type that the file states.
fn file_type(model: &Model) -> &'static str {
    FileType::of(&model.gguf().metadata).map_or("unknown type", FileType::name)
}
