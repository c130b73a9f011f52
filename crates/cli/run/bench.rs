//! `pythia-run bench`: prompt processing and generation by the clock, as llama-bench does it, and how far both are
//! from what the machine can do.

pub(crate) mod measure;
mod output;
mod result;
mod work;

use crate::device::DeviceArgs;
use crate::exit::{self, Failure};
use crate::input::{check_gguf, parse_threads};
use crate::progress::{Bar, Unit};
use measure::{Stopwatch, median};
use output::Format;
use pythia_gguf::FileType;
use pythia_model::{Activations, BATCH_TOKENS, Model, Options};
use pythia_runtime::device::{CPU, Limits};
use pythia_runtime::machine::Machine;
use pythia_runtime::{Arithmetic, parse_activations};
use pythia_show::{Width, iso_time};
use pythia_task::Cancel;
use result::{Setup, Share, TestResult, rate};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use work::Work;

/// Measure speed as llama-bench does, and its share of this machine's limits
///
/// ppN processes a prompt of N tokens, tgN generates N tokens one by one. Generation reads every weight once per token,
/// so it is held against the read bandwidth of memory: `reached` is the bytes of all tensors but the embedding table,
/// times tokens per second. A prompt is held against the int8 rate of the processor, or with float weights or
/// `--activations f32` against its f32 rate: `reached` is 2 operations per weight of the blocks' matrices for each token,
/// and per weight of the output matrix once. The limits are measured first, with the same threads; those of a GPU are the
/// speed of copies in its memory and the rates of its tensor cores and float units. Above 100 % the weights fit in a
/// cache.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// GGUF files; of a split model, the first
    #[arg(value_name = "FILE", required_unless_present = "model")]
    files: Vec<PathBuf>,
    /// The same as an option, separated by commas
    #[arg(short, long, value_name = "FILE", value_delimiter = ',', conflicts_with = "files")]
    model: Vec<PathBuf>,
    /// Lengths of prompts to process; 0 for none
    #[arg(short = 'p', long, value_name = "N", value_delimiter = ',', default_value = "512")]
    n_prompt: Vec<usize>,
    /// Numbers of tokens to generate; 0 for none
    #[arg(short = 'n', long, value_name = "N", value_delimiter = ',', default_value = "128")]
    n_gen: Vec<usize>,
    /// Repetitions of each test, after one that does not count
    #[arg(short, long, value_name = "N", default_value_t = 5)]
    repetitions: usize,
    /// Numbers of threads; 0 for as many as there are
    #[arg(short, long, value_name = "N", value_parser = parse_threads, value_delimiter = ',', default_value = "0")]
    threads: Vec<usize>,
    /// How activations enter a product
    #[arg(long, value_name = "int8|f32", value_parser = parse_activations, default_value = "int8")]
    activations: Activations,
    #[command(flatten)]
    device: DeviceArgs,
    /// Form of the output [default: md, without the columns that do not fit]
    #[arg(short, long, value_enum)]
    output: Option<Format>,
    /// Print JSON: the same as -o json
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

impl Args {
    fn paths(&self) -> &[PathBuf] {
        if self.model.is_empty() { &self.files } else { &self.model }
    }

    /// `None` stands for a table that fits.
    fn format(&self) -> Option<Format> {
        if self.json { Some(Format::Json) } else { self.output }
    }
}

/// One test of a model, before it is run.
#[derive(Clone, Copy, Debug)]
enum Test {
    /// A prompt of this many tokens.
    Prefill(usize),
    /// This many tokens one by one.
    Decode(usize),
}

/// The subcommand.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let prefills = args.n_prompt.iter().map(|&n| Test::Prefill(n));
    let decodes = args.n_gen.iter().map(|&n| Test::Decode(n));
    let tests: Vec<Test> = prefills.chain(decodes).filter(|test| test.tokens() > 0).collect();
    if tests.is_empty() || args.repetitions == 0 {
        return Err(Failure::usage("nothing to measure: every -p and -n is 0, or -r is 0"));
    }
    let cancel = exit::catch_interrupts();
    let runs = args.paths().len() * args.threads.len() * tests.len() * (args.repetitions + 1);
    let bar = Bar::new(runs as u64, Unit::Items("runs"), false);
    let device = args.device.find()?;
    let mut limits_of: Vec<(String, Limits)> = Vec::new();
    let mut results = Vec::new();
    for path in args.paths() {
        for &threads in &args.threads {
            let options = Options { threads, activations: args.activations, ..Options::default() };
            check_gguf(path)?;
            let model = device.open(path, &options)?;
            check_room(&tests, &model, path)?;
            let place = place(&model);
            let limits = match limits_of.iter().find(|(of, _)| *of == place) {
                Some(known) => known.1,
                None => {
                    bar.message("the machine's limits");
                    let measured = device.limits(&model)?;
                    limits_of.push((place, measured));
                    measured
                }
            };
            for &test in &tests {
                bar.message(format!("{} {}", path.display(), test.name()));
                let bench = Bench { path, model: &model, limits, repetitions: args.repetitions, bar: &bar, cancel };
                results.push(bench.run(test)?);
            }
        }
    }
    bar.finish();
    if args.format().is_none_or(|format| format == Format::Md) {
        limits_of.iter().for_each(|(place, limits)| exit::note(limits_note(place, limits)));
    }
    exit::print(&match args.format() {
        Some(format) => output::render(&results, format),
        None => output::fitted(&results, Width::of_stdout()),
    })
}

impl Test {
    fn tokens(self) -> usize {
        match self {
            Self::Prefill(n) | Self::Decode(n) => n,
        }
    }

    fn name(self) -> String {
        match self {
            Self::Prefill(n) => format!("pp{n}"),
            Self::Decode(n) => format!("tg{n}"),
        }
    }
}

/// A model that was trained with fewer positions would run, but nobody would use it so.
fn check_room(tests: &[Test], model: &Model, path: &Path) -> Result<(), Failure> {
    let n_ctx = model.hparams().n_ctx;
    match tests.iter().find(|test| test.tokens() > n_ctx) {
        None => Ok(()),
        Some(test) => {
            let file = path.display();
            Err(Failure::usage(format_args!(
                "{file}: {} does not fit the model's context of {n_ctx} tokens",
                test.name()
            )))
        }
    }
}

/// What the limits of a model's machine depend on.
fn place(model: &Model) -> String {
    if model.device() == CPU { format!("threads {}", model.threads()) } else { model.device().to_owned() }
}

fn limits_note(place: &str, limits: &Limits) -> String {
    let Limits { gigabytes_per_second: memory, int8_gigaops_per_second: int8, f32_gigaops_per_second: f32 } = *limits;
    let (int8, f32) = (rate(int8, "GOP/s", int8), rate(f32, "GOP/s", f32));
    format!("limits, {place}: memory {memory:.1} GB/s, int8 {int8}, f32 {f32}")
}

/// A model about to be measured.
struct Bench<'a> {
    path: &'a Path,
    model: &'a Model,
    limits: Limits,
    repetitions: usize,
    bar: &'a Bar,
    cancel: &'a Cancel,
}

impl Bench<'_> {
    fn run(&self, test: Test) -> Result<TestResult, Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut stopwatch = Stopwatch::new(self.model, test.tokens())?;
        let mut samples = Vec::new();
        // The first run brings weights into memory and does not count.
        for _ in 0..=self.repetitions {
            if self.cancel.is_raised() {
                return Err(Failure::interrupted());
            }
            let time: Duration = match test {
                Test::Prefill(n) => stopwatch.prefill(n)?,
                Test::Decode(n) => stopwatch.decode(n)?.iter().sum(),
            };
            samples.push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
            self.bar.advance(1);
        }
        samples.remove(0);
        let (n_prompt, n_gen) = match test {
            Test::Prefill(n) => (n, 0),
            Test::Decode(n) => (0, n),
        };
        let mut result = TestResult {
            setup: self.setup(),
            n_prompt,
            n_gen,
            test_time: iso_time(now.as_secs()),
            samples_ns: samples,
            share: Share { reached: 0.0, limit: 0.0, unit: "" },
        };
        result.share = self.share(test, median(&result.samples_ts()));
        Ok(result)
    }

    /// How near a speed is to the limit that bounds such a test.
    fn share(&self, test: Test, tokens_per_second: f64) -> Share {
        let work = Work::of(self.model.gguf());
        match test {
            Test::Prefill(n) => Share {
                reached: work.prefill_ops(n) / n as f64 * tokens_per_second / 1e9,
                limit: if work.is_quantized && self.model.options().activations == Activations::Int8 {
                    self.limits.int8_gigaops_per_second
                } else {
                    self.limits.f32_gigaops_per_second
                },
                unit: "GOP/s",
            },
            Test::Decode(_) => Share {
                reached: work.decode_bytes * tokens_per_second / 1e9,
                limit: self.limits.gigabytes_per_second,
                unit: "GB/s",
            },
        }
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

/// What the file says its type is.
fn file_type(model: &Model) -> &'static str {
    let id = model.gguf().metadata.u32(pythia_gguf::keys::FILE_TYPE).ok().flatten();
    id.and_then(FileType::from_id).map_or("unknown type", FileType::name)
}
