//! `pythia-quant quantize`: from a GGUF file to GGUF files of other types.

use super::convert::{Options, types_help};
use crate::exit::Failure;
use crate::input::check_gguf;
use pythia_convert::{GgufSource, Level, Request, Targets, model_name};
use std::path::PathBuf;

/// Quantize a GGUF file
///
/// Reads files of this program and of llama.cpp, best with weights in F32, F16 or BF16. Metadata is kept. Several TYPEs
/// are written in one pass.
///
/// For a model that is split over several files, IN is the first. The output is one file, unless a --split option asks
/// for several. So with the type that the model has already, this command merges it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// GGUF file to read, or the first file of a split model
    #[arg(value_name = "IN")]
    source: PathBuf,
    /// File to write, or folder if there are several types, if it exists as a folder, or if it ends in /
    #[arg(value_name = "OUT")]
    output: PathBuf,
    #[arg(required = true, value_delimiter = ',', num_args = 1, value_name = "TYPE", help = types_help())]
    types: Vec<Level>,
    /// Accept weights that are already quantized; they are rounded a second time
    #[arg(long)]
    allow_requantize: bool,
    #[command(flatten)]
    options: Options,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    args.options.check(&args.types)?;
    check_gguf(&args.source)?;
    let source = GgufSource::open(&args.source)?;
    let targets = Targets::new(Some(&args.output), &model_name(&args.source), &args.types)?;
    let request = Request { allow_requantize: args.allow_requantize, ..args.options.request(&targets)? };
    args.options.run(&source, request, &targets)
}
