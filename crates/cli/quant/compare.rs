//! `pythia-quant compare`: what quantization costs, level by level.
//!
//! 1. The request is checked: files, context, text.
//! 2. `cache`: the checkpoint is converted to the levels that an earlier run has not left behind, in one pass.
//! 3. `facts`: what the files are, with their digests.
//! 4. `speed`: each level in a process of its own (`probe`): prefill, decode, memory.
//! 5. `quality`: all levels against the base, window by window, in one process.
//! 6. [`crate::report`]: the table on stdout, four files in a folder.

mod cache;
mod facts;
mod probe;
mod quality;
mod speed;

pub(super) use probe::{Args as ProbeArgs, run as run_probe};

use crate::device::DeviceArgs;
use crate::exit::{self, Failure};
use crate::input::{self, Located, SourceOptions, parse_threads};
use crate::report::{self, Arithmetic, Origin, Provenance, Report, parse_activations, parse_gelu};
use cache::Cache;
use facts::{Facts, Variant};
use pythia_checkpoint::{Checkpoint, Dtype};
use pythia_convert::{Level, Source};
use pythia_gguf::{FileType, Metadata, keys, shard_prefix};
use pythia_model::{Activations, Gelu, Options};
use pythia_runtime::eval::Protocol;
use std::path::{Path, PathBuf};

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
    /// Levels to make from the checkpoint [default: F16,Q8_0,Q6_K,Q5_K_M,Q4_K_M,Q4_0,Q3_K_M,Q2_K]
    #[arg(short = 't', long = "type", value_delimiter = ',', value_name = "TYPE")]
    types: Vec<Level>,
    /// Text to evaluate, UTF-8
    #[arg(short = 'f', long = "file", value_name = "TEXT")]
    text: PathBuf,
    /// Level that the others are compared with [default: the type of the checkpoint]
    #[arg(long, value_name = "TYPE")]
    base: Option<Level>,
    /// Tokens in a chunk
    #[arg(short = 'c', long = "ctx", visible_alias = "ctx-size", value_name = "N", default_value_t = 512)]
    n_ctx: usize,
    /// Evaluate the first N chunks only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    chunks: Option<u64>,
    /// Folder for the report
    #[arg(short, long, value_name = "DIR", default_value = "pythia-compare")]
    output: PathBuf,
    /// Folder that converted files are kept in
    #[arg(long, value_name = "DIR", default_value = ".pythia-cache")]
    cache: PathBuf,
    /// Threads [default: one per core]; results but for speeds do not depend on it
    #[arg(long, value_name = "N", value_parser = parse_threads, default_value = "0", hide_default_value = true)]
    threads: usize,
    /// How activations enter products with quantized weights
    #[arg(long, value_name = "int8|f32", value_parser = parse_activations, default_value = "int8")]
    activations: Activations,
    /// Which GELU: erf is the model's own, tanh is llama.cpp's
    #[arg(long, value_name = "erf|tanh", value_parser = parse_gelu, default_value = "erf")]
    gelu: Gelu,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print the report as JSON instead of the table
    #[arg(long)]
    json: bool,
    /// Replace a report that exists
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    source_options: SourceOptions,
}

/// Levels of a comparison that asks for none: the block formats of 4 to 8 bits.
const DEFAULT_LEVELS: [Level; 8] =
    [Level::F16, Level::Q8_0, Level::Q6_K, Level::Q5_K_M, Level::Q4_K_M, Level::Q4_0, Level::Q3_K_M, Level::Q2_K];

/// A file of the comparison.
struct Contestant {
    /// Its name in the report.
    name: String,
    /// Where it is.
    path: PathBuf,
}

/// Everything that a run needs, made when the request is known to be sound.
struct Prepared {
    /// Name of the model.
    source: String,
    /// What its base was made from.
    origin: Origin,
    /// The base, then the levels.
    contestants: Vec<Contestant>,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let protocol = quality::protocol(args)?;
    let inputs: Vec<PathBuf> = [&args.text, &args.source].into_iter().chain(&args.files).cloned().collect();
    Report::check_targets(&args.output, &inputs, args.force)?;
    let text = input::text(&args.text)?;
    // Before the report's folder is made, which could be taken for a checkpoint called by an id of the Hub.
    let located = args.source_options.locate(&args.source, false)?;
    let files = report::Files::create(&args.output)?;
    let Prepared { source, origin, contestants } = prepare(args, located, protocol, &text)?;
    let options = options(args);
    let paths: Vec<&Path> = contestants.iter().map(|contestant| contestant.path.as_path()).collect();
    let device = args.device.find()?.settle(&paths, &options)?;
    let facts = contestants.iter().map(|c| Facts::read(&c.path)).collect::<Result<Vec<_>, _>>()?;
    let speeds = speed::measure(&device, &contestants, &options, false)?;
    let quality = quality::measure(args, &device, protocol, &contestants, &options, &text)?;
    let base = contestants[0].name.clone();
    let names = contestants.iter().map(|contestant| contestant.name.as_str());
    let report = Report {
        format: report::FORMAT,
        source,
        provenance: Provenance::of(super::PROGRAM, origin),
        machine: quality.machine,
        protocol: quality.protocol,
        arithmetic: Arithmetic::of(&options),
        base,
        process_per_level: speeds.process_per_level,
        busy: report::busy(names.zip(&speeds.levels)),
        levels: levels(&contestants, facts, quality.levels, speeds.levels),
    };
    let paths = files.write(&report, args.force)?;
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    exit::note(format_args!("report: {}", paths.join(", ")));
    if args.json { exit::print_json(&report) } else { exit::print(&report::terminal(&report)) }
}

fn options(args: &Args) -> Options {
    Options { threads: args.threads, activations: args.activations, gelu: args.gelu, ..Options::default() }
}

/// Checks the whole request, then converts what is missing.
fn prepare(args: &Args, located: Located, protocol: Protocol, text: &str) -> Result<Prepared, Failure> {
    let Located { path, stem: named, owner, revision } = located;
    if input::is_gguf(&path)? {
        if !args.types.is_empty() || args.base.is_some() {
            let source = path.display();
            return Err(Failure::usage(format_args!("{source}: is a GGUF file; --type and --base need a checkpoint")));
        }
        let base = input::gguf(&path)?.metadata;
        let mut contestants = vec![Contestant { name: level_name(&base, &path), path: path.clone() }];
        add_files(args, &base, &mut contestants)?;
        quality::check(args, protocol, &base, text)?;
        return Ok(Prepared { source: stem(&path), origin: Origin::of_file(&base), contestants });
    }
    let checkpoint = args.source_options.open(&path)?;
    Report::check_targets(&args.output, &checkpoint.inputs(), args.force)?;
    if checkpoint.tokenizer().is_none() {
        let source = path.display();
        return Err(Failure::data(format_args!(
            "{source}: has no tokenizer.json, nor vocab.json with merges.txt, without which no text can be scored"
        )));
    }
    let levels = wanted_levels(args, &checkpoint);
    check_count(levels.len() + args.files.len())?;
    let cache = Cache::plan(&checkpoint, &levels, args)?;
    let mut contestants = cache.contestants();
    add_files(args, cache.base_metadata()?, &mut contestants)?;
    quality::check(args, protocol, cache.base_metadata()?, text)?;
    cache.fill(&checkpoint, &args.files, args.threads)?;
    let known = Origin::of_file(cache.base_metadata()?);
    let origin = Origin { owner: owner.or_else(|| cache.owner().map(str::to_owned)), revision, ..known };
    Ok(Prepared { source: named.unwrap_or_else(|| cache.name().to_owned()), origin, contestants })
}

/// Adds the GGUF files that the command line names beside the source.
fn add_files(args: &Args, base: &Metadata, contestants: &mut Vec<Contestant>) -> Result<(), Failure> {
    for path in &args.files {
        let metadata = input::gguf(path)?.metadata;
        let name = level_name(&metadata, path);
        // Two files of a level are told apart by their own names.
        let is_taken = |name: &str| contestants.iter().any(|c| c.name == name);
        let name = if is_taken(&name) { stem(path) } else { name };
        if is_taken(&name) {
            return Err(Failure::usage(format_args!("{}: a file of this name is compared already", path.display())));
        }
        quality::check_level(args, base, path, &metadata)?;
        contestants.push(Contestant { name, path: path.clone() });
    }
    check_count(contestants.len())
}

fn check_count(files: usize) -> Result<(), Failure> {
    if files < 2 {
        return Err(Failure::usage(
            "there is only the base; --type or further GGUF files give levels to compare with it",
        ));
    }
    Ok(())
}

/// The base, then the levels asked for, each once.
fn wanted_levels(args: &Args, checkpoint: &Checkpoint) -> Vec<Level> {
    let base = args.base.unwrap_or_else(|| native_level(checkpoint));
    let asked = match args.types.is_empty() {
        true if args.files.is_empty() => &DEFAULT_LEVELS[..],
        _ => &args.types,
    };
    let mut levels = vec![base];
    for &level in asked {
        if !levels.contains(&level) {
            levels.push(level);
        }
    }
    levels
}

/// The level that keeps the checkpoint's weights as they are.
fn native_level(checkpoint: &Checkpoint) -> Level {
    let has = |dtype| checkpoint.tensors().any(|tensor| tensor.dtype == dtype && tensor.shape.len() > 1);
    match (has(Dtype::F32), has(Dtype::BF16), has(Dtype::F16)) {
        (true, ..) | (_, true, true) => Level::F32,
        (_, true, _) => Level::BF16,
        _ => Level::F16,
    }
}

/// What a GGUF file is called in the report: `Q4_0`, `Q4_0 imatrix`.
fn level_name(metadata: &Metadata, path: &Path) -> String {
    file_level(metadata, path) + &Variant::of(metadata).suffix()
}

/// What a GGUF file says it is: `Q4_0`; its own name if it does not say.
fn file_level(metadata: &Metadata, path: &Path) -> String {
    let id = metadata.u32(keys::FILE_TYPE).ok().flatten();
    id.and_then(FileType::from_id).map_or_else(|| stem(path), |ty| ty.name().to_owned())
}

/// The name of a file without its ending, and without its number if it is one of several.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    match shard_prefix(&name) {
        Some(prefix) => prefix.to_owned(),
        None => path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
    }
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
        perplexity: quality.perplexity,
        against_base: quality.against_base,
        speed,
    });
    let mut rows: Vec<report::Level> = rows.collect();
    // Stable: among files of one size the base is first, then the order asked for counts.
    rows.sort_by_key(|level| std::cmp::Reverse(level.file_bytes));
    rows
}
