//! Speed and memory of one file, in a process of its own: the hidden subcommand `measure-level`.
//!
//! What a process has allocated before stays on its heap and counts as memory of whatever comes after. So `compare`
//! starts its own program again for each level. The child opens the file, measures and prints a line of JSON.

use crate::device::DeviceArgs;
use crate::exit::{self, Failure};
use crate::input::parse_threads;
use crate::report::Speed;
use crate::run::bench::measure::Stopwatch;
use pythia_model::{Activations, Gelu, Options};
use pythia_runtime::machine::{ProcessorTime, peak_rss, reset_peak_rss};
use pythia_runtime::{Arithmetic, Device, parse_activations, parse_gelu};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Name of the subcommand.
pub(super) const COMMAND: &str = "measure-level";

/// Tokens of the prompt.
const PREFILL_TOKENS: usize = 512;
/// Repetitions of the prompt at least and at most, after one that does not count ...
const PREFILL_RUNS: std::ops::RangeInclusive<usize> = 2..=5;
/// ... and no further ones after this time.
const PREFILL_TIME: Duration = Duration::from_secs(4);
/// Tokens generated, one after the other ...
const DECODE_TOKENS: usize = 48;
/// ... in as many parts, whose rates give the spread.
const DECODE_PARTS: usize = 4;

/// Measure one file for `compare`
///
/// Ends when its standard input does, so that it never outlives the process that started it.
#[derive(Debug, clap::Args)]
pub(in crate::quant) struct Args {
    file: PathBuf,
    #[arg(long, value_parser = parse_threads, default_value = "0")]
    threads: usize,
    #[arg(long, value_parser = parse_activations, default_value = "int8")]
    activations: Activations,
    #[arg(long, value_parser = parse_gelu)]
    gelu: Option<Gelu>,
    #[command(flatten)]
    device: DeviceArgs,
}

/// What was measured.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Measured {
    /// Prompt tokens per second, of each repetition.
    prefill: Vec<f64>,
    /// Seconds that each generated token took.
    decode_seconds: Vec<f64>,
    contention: Option<f64>,
    peak_rss_bytes: Option<u64>,
    gpu_bytes: Option<u64>,
}

/// The arguments that make a child measure `file` with these settings on `device`.
pub(super) fn arguments(file: &Path, device: &Device, options: &Options) -> Vec<OsString> {
    let Arithmetic { activations, gelu, .. } = Arithmetic::of(options);
    let settings = [
        ("--threads", options.threads.to_string()),
        ("--activations", activations.to_owned()),
        ("--device", device.argument()),
    ];
    // Where none is asked for, each file has its own.
    let gelu = options.gelu.map(|_| ("--gelu", gelu.to_owned()));
    let settings = settings.into_iter().chain(gelu);
    let settings = settings.flat_map(|(name, value)| [name.into(), value.into()]);
    // The file comes last, after what ends the options: its name may begin with a dash.
    [COMMAND.into()].into_iter().chain(settings).chain(["--".into(), file.into()]).collect()
}

/// The subcommand.
pub(in crate::quant) fn run(args: &Args) -> Result<(), Failure> {
    std::thread::spawn(|| {
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        std::process::exit(130);
    });
    let options =
        Options { threads: args.threads, activations: args.activations, gelu: args.gelu, ..Options::default() };
    let measured = measure(&args.device.find()?, &args.file, &options)?;
    exit::print_json_line(&serde_json::to_value(measured).map_err(Failure::io)?)
}

/// Opens the file and measures it in this process.
pub(super) fn measure(device: &Device, file: &Path, options: &Options) -> Result<Measured, Failure> {
    reset_peak_rss();
    let model = device.open(file, options)?;
    let n_ctx = PREFILL_TOKENS.min(model.hparams().n_ctx);
    let mut stopwatch = Stopwatch::new(&model, n_ctx)?;
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
    /// As a report has it.
    pub(super) fn speed(self) -> Speed {
        Speed {
            contention: self.contention,
            peak_rss_bytes: self.peak_rss_bytes,
            gpu_bytes: self.gpu_bytes,
            ..Speed::of(&self.prefill, &self.decode_seconds, DECODE_PARTS)
        }
    }
}
