//! `pythia-run bench`: the speed of prompts and generation, as llama-bench measures it, as a share of the machine's
//! limits.

mod draft;

use super::drafting::DraftArgs;
use super::model::{Passes, ResidenceArgs};
use crate::device::DeviceArgs;
use crate::exit::{self, Failure};
use crate::input::{check_gguf, parse_threads};
use crate::progress::{Bar, Unit};
use pythia_compare::bench::{self, Bench, Test, TestResult};
use pythia_model::{Activations, KvType, Model, Options};
use pythia_runtime::device::{CPU, Limits};
use pythia_runtime::{parse_activations, parse_kv};
use pythia_show::Width;
use std::path::{Path, PathBuf};

/// Measure speed as llama-bench does, and its share of this machine's limits
///
/// ppN processes a prompt of N tokens, tgN generates N tokens one by one.
///
/// Generation reads every weight once per token, so its limit is the read bandwidth of memory. `reached` is the bytes
/// of all tensors except the embedding table, times tokens per second. More than 100 % means that the weights fit in a
/// cache.
///
/// The limit of a prompt is the int8 rate of the processor, or its f32 rate with float weights or `--activations f32`.
/// `reached` counts 2 operations per token for each weight of the blocks' matrices, and 2 once for each weight of the
/// output matrix.
///
/// With --draft it measures generation with the draft instead, beside the same text without.
///
/// The limits are measured with the same threads before the tests and after them, and the higher ones count: other
/// programs only make them lower. Those of a GPU are the speed of copies in its memory and the rates of its tensor cores
/// and float units.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// GGUF files; the first file of a split model
    #[arg(value_name = "FILE", required_unless_present = "model")]
    files: Vec<PathBuf>,
    /// The files as an option, separated by commas
    #[arg(short, long, value_name = "FILE", value_delimiter = ',', conflicts_with = "files")]
    model: Vec<PathBuf>,
    /// Prompt lengths, separated by commas; 0 for no prompt test
    #[arg(short = 'p', long, value_name = "N", value_delimiter = ',', default_value = "512")]
    n_prompt: Vec<usize>,
    /// Numbers of tokens to generate, separated by commas; 0 for no generation test
    #[arg(short = 'n', long, value_name = "N", value_delimiter = ',', default_value = "128")]
    n_gen: Vec<usize>,
    /// Repetitions of each test, after a warm-up run
    #[arg(short, long, value_name = "N", default_value_t = 5)]
    repetitions: usize,
    /// Numbers of threads, separated by commas; 0 for one per core
    #[arg(short, long, value_name = "N", value_parser = parse_threads, value_delimiter = ',', default_value = "0")]
    threads: Vec<usize>,
    /// Activations in products with quantized weights
    #[arg(long, value_name = "int8|f32", value_parser = parse_activations, default_value = "int8")]
    activations: Activations,
    /// Types of the key-value cache, separated by commas
    #[arg(
        long,
        visible_alias = "cache-type-k",
        value_name = "f16|q8_0|f32",
        value_parser = parse_kv,
        value_delimiter = ',',
        default_value = "f16"
    )]
    kv: Vec<KvType>,
    #[command(flatten)]
    residence: ResidenceArgs,
    #[command(flatten)]
    draft: DraftArgs,
    /// Text that begins what is generated with --draft [default: random tokens]
    #[arg(short = 'f', long = "file", value_name = "FILE", requires = "draft")]
    text: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Format of the output [default: md, without the columns that do not fit]
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

    /// What each file is opened with, one after another.
    fn settings(&self) -> Vec<Options> {
        // Prompts are as fast from the map, and no program that computes nothing else makes a copy.
        let passes = if self.n_gen.iter().any(|&n| n > 0) { Passes::Many } else { Passes::Few };
        let of = |&threads: &usize| {
            let activations = self.activations;
            self.kv.iter().map(move |&kv| {
                let residence = self.residence.residence(passes);
                Options { threads, kv, activations, residence, ..Options::default() }
            })
        };
        self.threads.iter().flat_map(of).collect()
    }

    /// `None` for a table that fits the terminal.
    fn format(&self) -> Option<Format> {
        if self.json { Some(Format::Json) } else { self.output }
    }
}

/// The formats of `-o`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A Markdown table with every column.
    Md,
    /// A list of objects.
    Json,
    /// An object per line.
    Jsonl,
    /// Comma-separated values.
    Csv,
}

/// The subcommand.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if args.draft.is_asked() {
        return draft::run(args);
    }
    let prefills = args.n_prompt.iter().map(|&n| Test::Prefill(n));
    let decodes = args.n_gen.iter().map(|&n| Test::Decode(n));
    let tests: Vec<Test> = prefills.chain(decodes).filter(|test| test.tokens() > 0).collect();
    if tests.is_empty() || args.repetitions == 0 {
        return Err(Failure::usage("nothing to measure: every -p and -n is 0, or -r is 0"));
    }
    let cancel = exit::catch_interrupts();
    let settings = args.settings();
    let runs = args.paths().len() * settings.len() * tests.len() * (args.repetitions + 1);
    let bar = Bar::new(runs as u64, Unit::Items("runs"), false);
    let device = args.device.find()?;
    // By what they depend on.
    let mut limits_of: Vec<(String, Limits)> = Vec::new();
    let mut results: Vec<(String, TestResult)> = Vec::new();
    for path in args.paths() {
        for options in &settings {
            check_gguf(path)?;
            let model = device.open(path, options)?;
            check_room(&tests, &model, path)?;
            let place = place(&model);
            let mut measure = || {
                bar.message("the machine's limits");
                let measured = device.limits(&model)?;
                match limits_of.iter_mut().find(|(of, _)| *of == place) {
                    Some((_, known)) => *known = known.max(measured),
                    None => limits_of.push((place.clone(), measured)),
                }
                Ok::<_, Failure>(measured)
            };
            let limits = measure()?;
            for &test in &tests {
                bar.message(format!("{} {}", path.display(), test.name()));
                let bench =
                    Bench { path, model: &model, limits, repetitions: args.repetitions, cancel, progress: &bar };
                results.push((place.clone(), bench.run(test)?));
            }
            measure()?;
        }
    }
    let against = |(place, mut result): (String, TestResult)| {
        if let Some((_, limits)) = limits_of.iter().find(|(of, _)| *of == place) {
            result.hold_against(limits);
        }
        result
    };
    let results: Vec<TestResult> = results.into_iter().map(against).collect();
    bar.finish();
    if args.format().is_none_or(|format| format == Format::Md) {
        limits_of.iter().for_each(|(place, limits)| exit::note(limits_note(place, limits)));
    }
    exit::print(&output(&results, args.format()))
}

fn output(results: &[TestResult], format: Option<Format>) -> String {
    match format {
        Some(Format::Md) => bench::to_table(results).to_markdown(),
        Some(Format::Json) => bench::to_json(results),
        Some(Format::Jsonl) => bench::to_json_lines(results),
        Some(Format::Csv) => bench::to_csv(results),
        None => {
            let width = Width::of_stdout();
            bench::to_table(results).to_markdown_within(width).with_remark(width, "`-o md` has them")
        }
    }
}

/// Refuses tests longer than the model's context. They would run, but have no practical use.
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
    let (int8, f32) = (bench::rate(int8, "GOP/s", int8), bench::rate(f32, "GOP/s", f32));
    format!("limits, {place}: memory {memory:.1} GB/s, int8 {int8}, f32 {f32}")
}
