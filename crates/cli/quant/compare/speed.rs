//! Speed and memory of each level, alone.

use super::Contestant;
use crate::device::Device;
use crate::exit::{self, Failure};
use crate::progress::{Bar, Unit};
use crate::report::PeakRss;
use crate::run::bench::measure::{Stopwatch, median};
use pythia_model::Options;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Tokens of the prompt.
const PREFILL_TOKENS: usize = 512;
/// Tokens generated.
const DECODE_TOKENS: usize = 48;
/// Repetitions of the prompt at most, after one that does not count ...
const PREFILL_RUNS: usize = 5;
/// ... and no further ones after this time.
const PREFILL_TIME: Duration = Duration::from_secs(4);

/// What a level takes.
pub(super) struct Speed {
    /// Prompt tokens per second, the median.
    pub(super) prefill: f64,
    /// Tokens generated per second, from the median time of a token.
    pub(super) decode: f64,
    /// Peak resident memory, if the system tells it.
    pub(super) peak_rss_bytes: Option<u64>,
    /// What the level takes of the memory of a GPU, if it runs on one.
    pub(super) gpu_bytes: Option<u64>,
    /// Whether that peak is the level's own, rather than the process's until then.
    pub(super) peak_is_own: bool,
}

/// Opens one level after the other.
pub(super) fn measure(device: &Device, contestants: &[Contestant], options: &Options) -> Result<Vec<Speed>, Failure> {
    let cancel = exit::catch_interrupts();
    let bar = Bar::new(contestants.len() as u64, Unit::Items("levels timed"), false);
    let timed = contestants.iter().map(|contestant| {
        if cancel.load(Ordering::Relaxed) {
            return Err(Failure::interrupted());
        }
        bar.message(contestant.name.clone());
        let speed = level(device, contestant, options)?;
        bar.advance(1);
        Ok(speed)
    });
    timed.collect()
}

fn level(device: &Device, contestant: &Contestant, options: &Options) -> Result<Speed, Failure> {
    let peak = PeakRss::reset();
    let model = device.open(&contestant.path, options)?;
    let n_ctx = PREFILL_TOKENS.min(model.hparams().n_ctx);
    let mut stopwatch = Stopwatch::new(&model, n_ctx)?;
    stopwatch.prefill(n_ctx)?;
    let mut prefill = Vec::new();
    let start = Instant::now();
    while prefill.is_empty() || (prefill.len() < PREFILL_RUNS && start.elapsed() < PREFILL_TIME) {
        prefill.push(n_ctx as f64 / stopwatch.prefill(n_ctx)?.as_secs_f64());
    }
    let decode: Vec<f64> = stopwatch.decode(DECODE_TOKENS.min(n_ctx))?.iter().map(Duration::as_secs_f64).collect();
    Ok(Speed {
        prefill: median(&prefill),
        decode: 1.0 / median(&decode),
        peak_rss_bytes: peak.bytes(),
        gpu_bytes: device.allocated(),
        peak_is_own: peak.was_reset(),
    })
}
