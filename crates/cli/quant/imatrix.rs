//! `pythia-quant imatrix`: collects an importance matrix from a model and a text.

mod report;

use crate::device::DeviceArgs;
use crate::exit::{self, Failure};
use crate::input::{self, TextOptions, parse_threads};
use crate::progress::{Bar, Unit};
use pythia_calibrate::imatrix::{Request, collect};
use pythia_convert::output::{AtomicFile, check_target};
use pythia_gguf::Imatrix;
use pythia_model::{BATCH_TOKENS, Gelu, Options};
use pythia_runtime::{Tokenizer, parse_gelu};
use pythia_show::Width;
use std::path::PathBuf;
use std::time::Instant;

/// Collect an importance matrix: the mean squared input of each column of the weight matrices
///
/// Quantizers weight the errors of a column by it. Use an unquantized model, and a text like those that the model will
/// read; about ten thousand tokens are enough. llama-quantize can use the output too.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Model: a GGUF file, or the first file of a split model
    model: PathBuf,
    /// Text for the model to read, UTF-8; - for standard input
    #[arg(short = 'f', long = "file", value_name = "TEXT")]
    text: PathBuf,
    #[command(flatten)]
    text_options: TextOptions,
    /// File to write
    #[arg(short, long, value_name = "FILE", default_value = "imatrix.gguf")]
    output: PathBuf,
    /// Tokens per chunk; 0 for the model's context length
    #[arg(short = 'c', long = "ctx", visible_alias = "ctx-size", value_name = "N", default_value_t = 512)]
    n_ctx: usize,
    /// Use only the first N chunks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    chunks: Option<u64>,
    /// Maximum number of tokens per batch; does not change the result
    #[arg(short, long, visible_alias = "batch-size", value_name = "N", default_value_t = BATCH_TOKENS)]
    batch: usize,
    /// Threads [default: one per core]; does not change the result
    #[arg(short, long, value_name = "N", value_parser = parse_threads, default_value = "0", hide_default_value = true)]
    threads: usize,
    /// Form of GELU [default: what the file says, or erf]; llama.cpp always computes tanh
    #[arg(long, value_name = "erf|tanh", value_parser = parse_gelu)]
    gelu: Option<Gelu>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print nothing but errors
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let interrupted = exit::catch_interrupts();
    check_target(&args.output, &input::files([args.model.as_path(), &args.text]), args.force)?;
    let text = args.text_options.open(&args.text)?;
    let text = if args.quiet { text.watched(|_| ()) } else { text };
    input::check_gguf(&args.model)?;
    let options = Options { threads: args.threads, gelu: args.gelu, ..Options::default() };
    let model = args.device.find()?.open(&args.model, &options)?;
    check_target(&args.output, model.paths(), args.force)?;
    // Created before the work, so that a folder that cannot be written is noticed early.
    let file = AtomicFile::create(&args.output, 0, &exit::Notes { quiet: args.quiet })?;

    let locate = |error| exit::locate(error, &args.model, &text);
    let tokenizer = Tokenizer::from_gguf(&model.gguf().metadata).map_err(|e| locate(e.into()))?;
    let mut tokens = text.tokens(&tokenizer, interrupted)?;
    let request = Request {
        n_ctx: if args.n_ctx == 0 { model.hparams().n_ctx } else { args.n_ctx },
        n_batch: args.batch,
        max_chunks: args.chunks.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
        dataset: text.name(),
        cancel: interrupted.clone(),
    };
    let start = Instant::now();
    let bar = Bar::new(0, Unit::Items("chunks"), args.quiet);
    let collected = collect(&model, &request, &mut tokens, &bar);
    drop(bar);
    let imatrix = collected.map_err(locate)?;
    let outcome = report::Outcome {
        file_bytes: write(&imatrix, file, args.force)?,
        imatrix,
        text: text.to_string(),
        text_form: text.form(),
        text_tokens: tokens.total(),
        seconds: start.elapsed().as_secs_f64(),
    };
    match (args.quiet, args.json) {
        (true, _) => Ok(()),
        (_, true) => exit::print_json(&report::json(args, &model, &outcome)),
        _ => exit::print(&report::text(args, &outcome, Width::of_stdout())),
    }
}

/// Writes the file, renames it to its target and returns its size.
fn write(imatrix: &Imatrix, file: AtomicFile, force: bool) -> Result<usize, Failure> {
    let bytes = imatrix.to_gguf().map_err(|e| Failure::data(format_args!("{}: {e}", file.target().display())))?;
    file.write_at(&bytes, 0)?;
    file.commit(force)?;
    Ok(bytes.len())
}
