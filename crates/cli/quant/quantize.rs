//! `pythia-quant quantize`: from a GGUF file to GGUF files of other types.

use super::convert::{Options, Targets, types_help};
use crate::exit::Failure;
use crate::input::check_gguf;
use pythia_convert::{GgufSource, Level, Request};
use pythia_gguf::{FileType, shard_prefix};
use std::path::{Path, PathBuf};

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
    check_gguf(&args.source)?;
    let source = GgufSource::open(&args.source)?;
    let targets = Targets::new(Some(&args.output), &model_name(&args.source), &args.types)?;
    let request = Request { allow_requantize: args.allow_requantize, ..args.options.request(&targets)? };
    args.options.run(&source, &request, &targets)
}

/// The name of a file without extension, type and shard number: `pythia-70m` for `pythia-70m-F16.gguf`.
pub(super) fn model_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = match shard_prefix(&name) {
        Some(prefix) => prefix.into(),
        None => path.file_stem().unwrap_or_default().to_string_lossy(),
    };
    let is_type = |end: &str| FileType::ALL.iter().any(|ty| ty.name().eq_ignore_ascii_case(end));
    match stem.rsplit_once(['-', '.']) {
        Some((name, end)) if !name.is_empty() && is_type(end) => name.to_owned(),
        _ => stem.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_type() {
        for (path, name) in [
            ("a/pythia-70m-F16.gguf", "pythia-70m"),
            ("pythia-70m.bf16.gguf", "pythia-70m"),
            ("pythia-70m.gguf", "pythia-70m"),
            ("F16.gguf", "F16"),
            ("-F16.gguf", "-F16"),
            ("pythia-1.4b-Q4_K_M.gguf", "pythia-1.4b"),
            ("a/pythia-12b-F16-00001-of-00003.gguf", "pythia-12b"),
        ] {
            assert_eq!(model_name(Path::new(path)), name);
        }
    }
}
