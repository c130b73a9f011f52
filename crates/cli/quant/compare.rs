//! `pythia-quant compare`: what each quantization level costs. [`pythia_compare`] does the work.

pub(super) mod watch;

use super::convert::check_adapter;
use super::{measure_level, quantizer};
use crate::device::DeviceArgs;
use crate::exit::{self, Failure};
use crate::input::{
    self, Located, SourceOptions, TaskOptions, TextOptions, check_gguf, parse_memory_size, parse_threads,
};
use pythia_compare::{Base, CheckpointBase, Comparison, Request, Rounding, Worker, check_n_ctx, report};
use pythia_convert::Level;
use pythia_eval::Work;
use pythia_model::{Activations, Gelu, Options};
use pythia_runtime::{Text, parse_activations, parse_gelu};
use pythia_show::Width;
use std::path::PathBuf;
use watch::Watch;

/// Compare quantization levels of a model on a text: size, perplexity, divergence, speed, memory
///
/// Converts missing levels into a cache folder, compares every level with the base, prints a table, and writes
/// report.html, report.md, report.csv and report.json.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Checkpoint (a Hugging Face folder, or OWNER/NAME[@REVISION] on the Hub), or a GGUF file, which becomes the base
    source: PathBuf,
    /// Further GGUF files to compare; the first file of a split model
    #[arg(value_name = "GGUF")]
    files: Vec<PathBuf>,
    /// Levels to convert from the source [default: F16,Q8_0,Q6_K,Q5_K_M,Q4_K_M,Q4_0,Q3_K_M,Q2_K]
    #[arg(short = 't', long = "type", value_delimiter = ',', value_name = "TYPE")]
    types: Vec<Level>,
    /// Text to evaluate, UTF-8; - for standard input
    #[arg(short = 'f', long = "file", value_name = "TEXT")]
    text: PathBuf,
    #[command(flatten)]
    text_options: TextOptions,
    /// Merge a LoRA adapter into the checkpoint first, as convert does; this includes the base
    #[arg(long, value_name = "ADAPTER")]
    lora: Option<PathBuf>,
    /// Level that the others are compared with [default: the type of the checkpoint]
    #[arg(long, value_name = "TYPE")]
    base: Option<Level>,
    /// Importance matrix for converting levels, from `pythia-quant imatrix`
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// How levels are rounded: each of them is made in each of these ways, which the report sets side by side [default:
    /// imatrix with --imatrix, otherwise plain]
    #[arg(long, value_enum, value_delimiter = ',', hide_possible_values = true, value_name = "plain,imatrix,feedback")]
    quantizer: Vec<Way>,
    /// Calibration file for the quantizer feedback, from `pythia-quant calibrate`
    #[arg(long, value_name = "FILE")]
    calibration: Option<PathBuf>,
    /// Accept source weights that are already quantized; they are rounded a second time
    #[arg(long)]
    allow_requantize: bool,
    /// Tokens per chunk; 0 for the base's context length
    #[arg(short = 'c', long = "ctx", visible_alias = "ctx-size", value_name = "N", default_value_t = 512)]
    n_ctx: usize,
    /// Evaluate only the first N chunks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    chunks: Option<u64>,
    /// Name the best level that runs in SIZE of memory, such as 4G, 4GiB or 512M; separate several by commas
    ///
    /// The file, the key-value cache for 2048 tokens (or for the model's context if that is smaller), the buffers of a
    /// batch and the program are counted. Without this option, common memory sizes are reported that only some levels
    /// fit into.
    #[arg(long, value_name = "SIZE", value_delimiter = ',', value_parser = parse_memory_size)]
    fit: Vec<u64>,
    #[command(flatten)]
    tasks: TaskOptions,
    /// Folder for the report
    #[arg(short, long, value_name = "DIR", default_value = "pythia-compare")]
    output: PathBuf,
    /// Folder for converted files and measurements [default: in ~/.cache, see `pythia-quant cache`]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Measure everything again, without results of earlier runs
    #[arg(long)]
    fresh: bool,
    /// Threads [default: one per core]; changes only speeds
    #[arg(long, value_name = "N", value_parser = parse_threads, default_value = "0", hide_default_value = true)]
    threads: usize,
    /// Activations in products with quantized weights: int8 (rounded), or f32, which leaves only the error of the
    /// weights but takes about three times as long
    #[arg(long, value_name = "int8|f32", value_parser = parse_activations, default_value = "int8")]
    activations: Activations,
    /// Form of GELU [default: what the file says, or erf]; llama.cpp always computes tanh
    #[arg(long, value_name = "erf|tanh", value_parser = parse_gelu)]
    gelu: Option<Gelu>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print the report as JSON instead of the table
    #[arg(long)]
    json: bool,
    /// Replace an existing report
    #[arg(long)]
    force: bool,
    /// Print only the table, warnings and errors
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    source_options: SourceOptions,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    check_n_ctx(args.n_ctx)?;
    let watch = Watch::new(args.quiet);
    let named = [&args.text, &args.source].into_iter().chain(&args.imatrix).chain(&args.calibration).chain(&args.files);
    report::Files::check(&args.output, &input::files(named.map(PathBuf::as_path)), args.force)?;
    let text = args.text_options.open(&args.text)?.rereadable()?;
    // Before the folder of the report is created, because it could be mistaken for a checkpoint with an id of the Hub.
    let located = args.source_options.locate(&args.source, args.quiet)?;
    let files = report::Files::create(&args.output, &exit::Notes { quiet: args.quiet })?;
    let mut comparison = Comparison::prepare(args.request(located, text)?)?;
    report::Files::check(&args.output, comparison.inputs(), args.force)?;
    comparison.convert(&watch)?;
    let report = comparison.run(&args.device.find()?, &watch)?;
    let paths = files.write(&report, args.force)?;
    comparison.finish();
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    if !args.quiet {
        exit::note(format_args!("report: {}", paths.join(", ")));
    }
    if args.json { exit::print_json(&report) } else { exit::print(&report::terminal(&report, Width::of_stdout())) }
}

/// A way to round levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Way {
    Plain,
    Imatrix,
    Feedback,
}

impl Args {
    /// The ways to round, with what they need.
    fn roundings(&self) -> Result<Vec<Rounding>, Failure> {
        if self.calibration.is_some() && !self.quantizer.contains(&Way::Feedback) {
            let problem = "--calibration is for the quantizer feedback, which --quantizer does not name";
            return Err(Failure::usage(problem));
        }
        let rounding = |way: &Way| match way {
            Way::Plain => Ok(Rounding::Plain),
            Way::Imatrix => Ok(Rounding::Imatrix),
            Way::Feedback => {
                let calibration = quantizer::open_calibration(self.calibration.as_deref())?;
                Ok(Rounding::By(quantizer::feedback(calibration)))
            }
        };
        self.quantizer.iter().map(rounding).collect()
    }

    fn request(&self, source: Located, text: Text) -> Result<Request, Failure> {
        let base = self.base(source)?;
        self.files.iter().try_for_each(|path| check_gguf(path))?;
        self.imatrix.iter().try_for_each(|path| input::check_file(path))?;
        Ok(Request {
            levels: self.types.clone(),
            files: self.files.clone(),
            imatrix: self.imatrix.clone(),
            quantizers: self.roundings()?,
            allow_requantize: self.allow_requantize,
            n_ctx: self.n_ctx,
            max_chunks: self.chunks.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
            fit: self.fit.clone(),
            tasks: self.works()?,
            options: Options {
                threads: self.threads,
                activations: self.activations,
                gelu: self.gelu,
                ..Options::default()
            },
            worker: Worker::this_program([measure_level::COMMAND]).ok(),
            cache: self.cache.clone(),
            fresh: self.fresh,
            program: (super::PROGRAM.to_owned(), command_line()),
            cancel: exit::catch_interrupts().clone(),
            ..Request::new(base, text)
        })
    }

    /// The documents of the tasks.
    fn works(&self) -> Result<Vec<Work>, Failure> {
        if self.tasks.tasks.is_empty() {
            return Ok(Vec::new());
        }
        self.tasks.load(&self.tasks.selection()?, self.source_options.is_offline(), self.quiet)
    }

    fn base(&self, source: Located) -> Result<Base, Failure> {
        let Located { path, stem: name, owner, revision } = source;
        if input::is_gguf(&path)? {
            let shown = path.display();
            return match (&self.base, &self.lora) {
                (Some(_), _) => Err(Failure::usage(format_args!(
                    "{shown}: is a GGUF file, so it is the base; --base needs a checkpoint"
                ))),
                (_, Some(_)) => Err(Failure::usage(format_args!("{shown}: is a GGUF file; --lora needs a checkpoint"))),
                (None, None) => Ok(Base::Gguf(path)),
            };
        }
        self.lora.iter().try_for_each(|adapter| check_adapter(adapter))?;
        let (variant, level, lora) = (self.source_options.variant().map(str::to_owned), self.base, self.lora.clone());
        Ok(Base::Checkpoint(CheckpointBase { path, variant, level, lora, name, owner, revision }))
    }
}

/// As it was typed, but for where the program lies on this machine.
fn command_line() -> Vec<String> {
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    std::iter::once(super::PROGRAM.to_owned()).chain(words).collect()
}
