//! `pythia-quant compare`: what quantization costs, level by level.
//!
//! 1. `prepare`: the request is checked: files, context, text.
//! 2. `levels`: what an earlier run has not left in the cache is made from the checkpoint or file, in one pass.
//! 3. `facts`: what the files are, with their digests.
//! 4. `speed`: each level in a process of its own (`probe`): prefill, decode, memory.
//! 5. `quality`: all levels against the base, window by window, in one process.
//! 6. [`crate::report`]: the table on stdout, four files in a folder.

mod facts;
mod journals;
mod levels;
mod prepare;
mod probe;
mod quality;
mod speed;

pub(super) use probe::{Args as ProbeArgs, run as run_probe};

use crate::device::DeviceArgs;
use crate::exit::{self, Failure};
use crate::input::{self, SourceOptions, TextOptions, parse_threads};
use crate::progress::Log;
use crate::report::{self, Answer, Provenance, Report, parse_memory};
use facts::Facts;
use prepare::{Prepared, prepare};
use pythia_convert::Level;
use pythia_model::{Activations, Gelu, Options};
use pythia_runtime::{parse_activations, parse_gelu};
use pythia_show::Width;
use quality::Evaluation;
use speed::KeptSpeeds;
use std::fmt::Display;
use std::path::PathBuf;

/// Compare the quantization levels of a model on a text: size, perplexity, divergence, speed
///
/// Converts what is missing into a cache folder, runs every level against the base, prints a table and writes
/// report.html, report.md, report.csv and report.json.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Checkpoint (a Hugging Face folder, or a model of the Hub: OWNER/NAME[@REVISION]), or a GGUF file, which is then
    /// the base
    source: PathBuf,
    /// GGUF files to compare too; of a split model, the first
    #[arg(value_name = "GGUF")]
    files: Vec<PathBuf>,
    /// Levels to make from the source [default: F16,Q8_0,Q6_K,Q5_K_M,Q4_K_M,Q4_0,Q3_K_M,Q2_K]
    #[arg(short = 't', long = "type", value_delimiter = ',', value_name = "TYPE")]
    types: Vec<Level>,
    /// Text to evaluate, UTF-8; - for standard input
    #[arg(short = 'f', long = "file", value_name = "TEXT")]
    text: PathBuf,
    #[command(flatten)]
    text_options: TextOptions,
    /// Merge this LoRA adapter into the checkpoint first, as convert does; the base level has it too
    #[arg(long, value_name = "ADAPTER")]
    lora: Option<PathBuf>,
    /// Level that the others are compared with [default: the type of the checkpoint]
    #[arg(long, value_name = "TYPE")]
    base: Option<Level>,
    /// Importance matrix for the levels that are made: which columns matter how much, from `pythia-quant imatrix`
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// Also make levels from weights that are quantized already: they are rounded a second time
    #[arg(long)]
    allow_requantize: bool,
    /// Tokens in a chunk; 0 for the base's context
    #[arg(short = 'c', long = "ctx", visible_alias = "ctx-size", value_name = "N", default_value_t = 512)]
    n_ctx: usize,
    /// Evaluate the first N chunks only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    chunks: Option<u64>,
    /// Say which level is the best that runs in SIZE of memory, such as 4G, 4GiB or 512M; several are separated by commas
    ///
    /// Counted are the file, the key-value cache of 2048 tokens (or of the model's context if that is smaller), the
    /// buffers of a batch, and the program. Without it, the usual sizes that some levels fit into and others do not.
    #[arg(long, value_name = "SIZE", value_delimiter = ',', value_parser = parse_memory)]
    fit: Vec<u64>,
    /// Folder for the report
    #[arg(short, long, value_name = "DIR", default_value = "pythia-compare")]
    output: PathBuf,
    /// Folder that made files and measurements are kept in [default: one in ~/.cache, see `pythia-quant cache`]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Measure everything anew: what an earlier run has measured is not used
    #[arg(long)]
    fresh: bool,
    /// Threads [default: one per core]; results but for speeds do not depend on it
    #[arg(long, value_name = "N", value_parser = parse_threads, default_value = "0", hide_default_value = true)]
    threads: usize,
    /// How activations enter products with quantized weights: rounded to int8, or as f32, so that the weights' error is the
    /// only one; that takes about three times as long
    #[arg(long, value_name = "int8|f32", value_parser = parse_activations, default_value = "int8")]
    activations: Activations,
    /// Which GELU [default: the file's own, which is erf unless it says tanh]; llama.cpp always computes tanh
    #[arg(long, value_name = "erf|tanh", value_parser = parse_gelu)]
    gelu: Option<Gelu>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print the report as JSON instead of the table
    #[arg(long)]
    json: bool,
    /// Replace a report that exists
    #[arg(long)]
    force: bool,
    /// Print nothing but the table, warnings and errors
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    source_options: SourceOptions,
}

/// A file of the comparison.
struct Contestant {
    /// Its name in the report.
    name: String,
    /// Where it is.
    path: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let log = Log::new(args.quiet);
    quality::check_chunk(args)?;
    let named = [&args.text, &args.source].into_iter().chain(&args.imatrix).chain(&args.files);
    Report::check_targets(&args.output, &input::files(named.map(PathBuf::as_path)), args.force)?;
    // The base runs over it once for each group of levels.
    let text = args.text_options.open(&args.text)?.rereadable()?;
    // Before the report's folder is made, which could be taken for a checkpoint called by an id of the Hub.
    let located = args.source_options.locate(&args.source, args.quiet)?;
    let files = report::Files::create(&args.output)?;
    let Prepared { source, origin, contestants, n_ctx, folder } = prepare(args, located, &text, &log)?;
    let options = options(args);
    let device = args.device.find()?;
    let facts = facts::read(&contestants, folder.as_ref())?;
    let sizes =
        contestants.iter().zip(&facts).map(|(contestant, facts)| (contestant.path.as_path(), facts.file_bytes()));
    let device = device.settle(sizes, &options)?;
    let mut kept = KeptSpeeds::open(folder.as_ref(), &device, &options, args.fresh);
    let speeds = speed::measure(&device, &contestants, &facts, &options, &mut kept, args.quiet, &log)?;
    let evaluation = Evaluation { args, device: &device, n_ctx, options: &options, text: &text, log: &log };
    let quality = evaluation.run(&contestants, &facts, folder.as_ref())?;
    let base = contestants[0].name.clone();
    let names = contestants.iter().map(|contestant| contestant.name.as_str());
    let busy = report::busy(names.zip(&speeds.levels));
    let levels = levels(&contestants, facts, quality.levels, speeds.levels);
    let report = Report {
        format: report::FORMAT,
        source,
        provenance: Provenance::of(super::PROGRAM, origin),
        machine: quality.machine,
        protocol: quality.protocol,
        arithmetic: quality.arithmetic,
        base,
        process_per_level: speeds.process_per_level,
        busy,
        answer: Answer::of(&levels, &args.fit),
        levels,
    };
    let paths = files.write(&report, args.force)?;
    // Those of a finished run are in its report; the next run measures again.
    kept.forget();
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    args.note(format_args!("report: {}", paths.join(", ")));
    if args.json { exit::print_json(&report) } else { exit::print(&report::terminal(&report, Width::of_stdout())) }
}

impl Args {
    /// A remark on stderr.
    fn note(&self, line: impl Display) {
        if !self.quiet {
            exit::note(line);
        }
    }
}

fn options(args: &Args) -> Options {
    Options { threads: args.threads, activations: args.activations, gelu: args.gelu, ..Options::default() }
}

/// The rows of the report, the largest file first.
fn levels(
    contestants: &[Contestant],
    facts: Vec<Facts>,
    qualities: Vec<quality::Quality>,
    speeds: Vec<report::Speed>,
) -> Vec<report::Level> {
    let rows = contestants.iter().zip(facts).zip(qualities).zip(speeds);
    let rows = rows.map(|(((contestant, facts), quality), speed)| report::Level {
        name: contestant.name.clone(),
        file: contestant.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        file_bytes: facts.file_bytes(),
        files: facts.files,
        bits_per_weight: facts.bits_per_weight,
        bits_per_weight_blocks: facts.bits_per_weight_blocks,
        imatrix: facts.variant.imatrix,
        recipe: facts.variant.recipe,
        requantized: facts.variant.requantized,
        memory: quality.memory,
        perplexity: quality.perplexity,
        against_base: quality.against_base,
        speed,
    });
    let mut rows: Vec<report::Level> = rows.collect();
    // Stable: among files of one size the base is first, then the order asked for counts.
    rows.sort_by_key(|level| std::cmp::Reverse(level.file_bytes));
    rows
}
