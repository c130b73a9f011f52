//! `pythia-quant compare`: what quantization costs, level by level.
//!
//! 1. `cache`: the checkpoint is converted to the levels that an earlier run has not left behind, in one pass.
//! 2. `speed`: each level alone: prefill, decode, memory.
//! 3. `quality`: all levels against the base, window by window, in one process.
//! 4. [`crate::report`]: the table on stdout, four files in a folder.

mod cache;
mod quality;
mod speed;

use crate::exit::{self, Failure};
use crate::report::{self, Arithmetic, Machine, Report, parse_activations, parse_gelu};
use pythia_checkpoint::{Checkpoint, Dtype};
use pythia_convert::Level;
use pythia_gguf::{FileType, Gguf, TensorInfo, keys};
use pythia_model::{Activations, Gelu, Model, Options};
use std::path::{Path, PathBuf};

/// Compare the quantization levels of a model on a text: size, perplexity, divergence, speed
///
/// Converts what is missing into a cache folder, runs every level against the base, prints a table and writes
/// report.html, report.md, report.csv and report.json.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Checkpoint (a Hugging Face folder), or a GGUF file, which is then the base
    source: PathBuf,
    /// GGUF files to compare too
    #[arg(value_name = "GGUF")]
    files: Vec<PathBuf>,
    /// Levels to make from the checkpoint [default: F16,Q8_0,Q6_K,Q5_1,Q5_0,Q4_1,Q4_0]
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
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    threads: usize,
    /// How activations enter products with quantized weights
    #[arg(long, value_name = "int8|f32", value_parser = parse_activations, default_value = "int8")]
    activations: Activations,
    /// Which GELU: erf is the model's own, tanh is llama.cpp's
    #[arg(long, value_name = "erf|tanh", value_parser = parse_gelu, default_value = "erf")]
    gelu: Gelu,
    /// Print the report as JSON instead of the table
    #[arg(long)]
    json: bool,
    /// Replace a report that exists
    #[arg(long)]
    force: bool,
}

/// Levels of a comparison that asks for none: the block formats of 4 to 8 bits.
const DEFAULT_LEVELS: [Level; 7] =
    [Level::F16, Level::Q8_0, Level::Q6_K, Level::Q5_1, Level::Q5_0, Level::Q4_1, Level::Q4_0];

/// A file of the comparison.
struct Contestant {
    /// Its name in the report.
    name: String,
    /// Where it is.
    path: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    check_output(args)?;
    let protocol = quality::protocol(args)?;
    let text = quality::read_text(&args.text)?;
    let (source, contestants) = contestants(args)?;
    let options = options(args);
    // Speed first: what an evaluation leaves on the heap would count as every level's memory.
    let speeds = speed::measure(&contestants, &options)?;
    let quality = quality::measure(args, protocol, &contestants, &options, &text)?;
    let base = open(&contestants[0], &options)?;
    let report = Report {
        format: report::FORMAT,
        source,
        machine: Machine::detect(base.isa_name(), base.threads()),
        protocol: quality.protocol,
        arithmetic: Arithmetic::of(&options),
        base: contestants[0].name.clone(),
        peak_rss_is_per_level: speeds.iter().all(|speed| speed.peak_is_own),
        levels: levels(&contestants, &quality.levels, &speeds),
    };
    let paths = report.write(&args.output).map_err(Failure::io)?;
    eprintln!("report: {}", paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "));
    if args.json { super::print_json(&report) } else { exit::print(&report::terminal_table(&report).to_terminal()) }
}

/// Found out before hours of work, not after.
fn check_output(args: &Args) -> Result<(), Failure> {
    let existing = report::Report::paths(&args.output).into_iter().find(|path| path.exists());
    match existing {
        Some(path) if !args.force => Err(Failure::usage(format_args!(
            "{}: exists; --force replaces it, -o names another folder",
            path.display()
        ))),
        _ => Ok(()),
    }
}

fn options(args: &Args) -> Options {
    Options { threads: args.threads, activations: args.activations, gelu: args.gelu, ..Options::default() }
}

fn open(contestant: &Contestant, options: &Options) -> Result<Model, Failure> {
    Ok(Model::open(&contestant.path, options)?)
}

/// The name of the source, and all files, the base first.
fn contestants(args: &Args) -> Result<(String, Vec<Contestant>), Failure> {
    let (source, mut contestants) = if is_gguf(&args.source)? {
        if !args.types.is_empty() || args.base.is_some() {
            let source = args.source.display();
            return Err(Failure::usage(format_args!("{source}: is a GGUF file; --type and --base need a checkpoint")));
        }
        let base = Contestant { name: file_level(&args.source)?, path: args.source.clone() };
        (stem(&args.source), vec![base])
    } else {
        let checkpoint = Checkpoint::open(&args.source)?;
        let levels = wanted_levels(args, &checkpoint);
        check_count(levels.len() + args.files.len())?;
        let converted = cache::converted(&checkpoint, &levels, args)?;
        (converted.name, converted.files)
    };
    for path in &args.files {
        let name = file_level(path)?;
        // Two files of a level are told apart by their own names.
        let is_taken = |name: &str| contestants.iter().any(|c| c.name == name);
        let name = if is_taken(&name) { stem(path) } else { name };
        if is_taken(&name) {
            return Err(Failure::usage(format_args!("{}: a file of this name is compared already", path.display())));
        }
        contestants.push(Contestant { name, path: path.clone() });
    }
    check_count(contestants.len())?;
    Ok((source, contestants))
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

/// By its first bytes, so that a wrong name does not matter. A folder is none.
fn is_gguf(path: &Path) -> Result<bool, Failure> {
    use std::io::Read;
    let at = |e: std::io::Error| Failure::at(path, &e);
    if std::fs::metadata(path).map_err(at)?.is_dir() {
        return Ok(false);
    }
    let mut magic = Vec::new();
    std::fs::File::open(path).and_then(|file| file.take(4).read_to_end(&mut magic)).map_err(at)?;
    Ok(magic == b"GGUF")
}

/// What a GGUF file says it is: `Q4_0`; its own name if it does not say.
fn file_level(path: &Path) -> Result<String, Failure> {
    let map = pythia_tensor::FileMap::open(path).map_err(|e| Failure::at(path, &e))?;
    let gguf = Gguf::parse(&map).map_err(|e| Failure::data(format_args!("{}: {e}", path.display())))?;
    let id = gguf.metadata.u32(keys::FILE_TYPE).ok().flatten();
    Ok(id.and_then(FileType::from_id).map_or_else(|| stem(path), |ty| ty.name().to_owned()))
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The rows of the report.
fn levels(contestants: &[Contestant], qualities: &[quality::Quality], speeds: &[speed::Speed]) -> Vec<report::Level> {
    let rows = contestants.iter().zip(qualities).zip(speeds).map(|((contestant, quality), speed)| report::Level {
        name: contestant.name.clone(),
        file: contestant.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        file_bytes: quality.file_bytes,
        bits_per_weight: quality.bits_per_weight,
        bits_per_weight_blocks: quality.bits_per_weight_blocks,
        perplexity: quality.perplexity,
        against_base: quality.against_base.clone(),
        prefill_tokens_per_second: speed.prefill,
        decode_tokens_per_second: speed.decode,
        peak_rss_bytes: speed.peak_rss_bytes,
    });
    rows.collect()
}

/// Bits per weight of the tensors that `included` picks.
fn bits_per_weight(gguf: &Gguf, included: impl Fn(&TensorInfo) -> bool) -> f64 {
    let tensors = gguf.tensors().iter().filter(|tensor| included(tensor));
    let (bytes, elems) = tensors.fold((0, 0), |sum, tensor| (sum.0 + tensor.n_bytes, sum.1 + tensor.n_elems()));
    8.0 * bytes as f64 / elems as f64
}
