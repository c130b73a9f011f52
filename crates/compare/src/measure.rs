//! Measures speed and memory of one file in this process.

use crate::Error;
use crate::bench::Stopwatch;
use crate::report::Speed;
use pythia_model::Options;
use pythia_runtime::Device;
use pythia_runtime::machine::{ProcessorTime, peak_rss, reset_peak_rss};
use pythia_task::Cancel;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::{Duration, Instant};

/// Tokens of the prompt.
const PREFILL_TOKENS: usize = 512;
/// Least and most repetitions of the prompt, after a warm-up run ...
const PREFILL_RUNS: std::ops::RangeInclusive<usize> = 2..=5;
/// ... and no new repetition after this time.
const PREFILL_TIME: Duration = Duration::from_secs(4);
/// Number of generated tokens ...
const DECODE_TOKENS: usize = 48;
/// ... in this many parts, whose rates give the spread.
const DECODE_PARTS: usize = 4;

/// The measurements. A [`Worker`](crate::Worker) prints them as JSON.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Measured {
    /// Prompt tokens per second, of each repetition.
    prefill: Vec<f64>,
    /// Seconds that each generated token took.
    decode_seconds: Vec<f64>,
    contention: Option<f64>,
    peak_rss_bytes: Option<u64>,
    gpu_bytes: Option<u64>,
}

/// Opens a file and measures it in this process: a prompt of 512 tokens several times, then the generation of 48.
///
/// # Errors
/// If the file cannot be opened or run, or `cancel` is raised.
pub fn measure(device: &Device, file: &Path, options: &Options, cancel: &Cancel) -> Result<Measured, Error> {
    reset_peak_rss();
    let model = device.open(file, options)?;
    let n_ctx = PREFILL_TOKENS.min(model.hparams().n_ctx);
    let mut stopwatch = Stopwatch::new(&model, n_ctx, cancel)?;
    stopwatch.prefill(n_ctx)?;
    let before = ProcessorTime::now();
    let mut prefill = Vec::new();
    let start = Instant::now();
    while prefill.len() < *PREFILL_RUNS.start()
        || (prefill.len() < *PREFILL_RUNS.end() && start.elapsed() < PREFILL_TIME)
    {
        prefill.push(n_ctx as f64 / stopwatch.prefill(n_ctx)?.as_secs_f64());
    }
    let decode = stopwatch.decode(DECODE_TOKENS.min(n_ctx))?;
    let contention = before.zip(ProcessorTime::now()).map(|(before, after)| after.waited_since(before));
    Ok(Measured {
        prefill,
        decode_seconds: decode.iter().map(Duration::as_secs_f64).collect(),
        contention,
        peak_rss_bytes: peak_rss(),
        gpu_bytes: device.allocated(),
    })
}

impl Measured {
    /// The form for a report.
    pub(crate) fn speed(self) -> Speed {
        Speed {
            contention: self.contention,
            peak_rss_bytes: self.peak_rss_bytes,
            gpu_bytes: self.gpu_bytes,
            ..Speed::of(&self.prefill, &self.decode_seconds, DECODE_PARTS)
        }
    }
}
