//! `pythia-quant convert`: from a checkpoint to GGUF files, several levels in one pass.

mod options;
mod report;

use crate::exit::{self, Failure};
use crate::input::SourceOptions;
pub(super) use options::{Options, types_help};
use pythia_convert::{CheckpointSource, Level, LoraSource, Provenance, Request, Source, Targets};
use std::path::{Path, PathBuf};

/// Convert a Hugging Face checkpoint to GGUF
///
/// Writes one file per TYPE, all in a single pass over the checkpoint. Types follow llama.cpp's mixes: most matrices
/// use the named type; a few, such as the output matrix, use a larger one.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Checkpoint: a Hugging Face folder, a .safetensors or .bin file in one, or OWNER/NAME[@REVISION] on the Hub
    ///
    /// If no such path exists, a name such as EleutherAI/pythia-70m@step3000 is looked for in the cache of the Hub
    /// (HF_HUB_CACHE, by default ~/.cache/huggingface/hub), and downloaded into it if it is missing.
    source: PathBuf,
    /// File to write, or folder if there are several types, if it exists as a folder, or if it ends in /
    /// [default: SOURCE-TYPE.gguf in the current folder]
    #[arg(short, long)]
    output: Option<PathBuf>,
    #[arg(short = 't', long = "type", required = true, value_delimiter = ',', value_name = "TYPE", help = types_help())]
    types: Vec<Level>,
    /// Merge a LoRA adapter into the weights: a folder saved by PEFT, with adapter_config.json
    ///
    /// Computes W + scale B A in f32 and encodes the result. Files are named SOURCE-ADAPTER-TYPE.gguf. Their metadata
    /// records the adapter's name and digests.
    #[arg(long, value_name = "ADAPTER")]
    lora: Option<PathBuf>,
    /// Record the SHA-256 of the weight files in the metadata (reads the files a second time)
    #[arg(long)]
    provenance_sha: bool,
    #[command(flatten)]
    source_options: SourceOptions,
    #[command(flatten)]
    options: Options,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let cancel = exit::catch_interrupts();
    args.options.check(&args.types)?;
    let source = args.source_options.locate(&args.source, args.options.quiet)?;
    let checkpoint = args.source_options.open(&source.path)?;
    let provenance = Provenance::gather(checkpoint.checkpoint(), args.provenance_sha && !args.options.dry_run, cancel)?;
    checkpoint.check_tokenizer(&provenance)?;
    let stem = source.stem.as_ref().unwrap_or(&provenance.name).clone();
    match &args.lora {
        None => args.write(&checkpoint, provenance, &stem),
        Some(adapter) => {
            let merged = open_lora(checkpoint, adapter)?;
            args.write(&merged, provenance, &merged.file_stem(&stem))
        }
    }
}

impl Args {
    fn write(&self, source: &dyn Source, provenance: Provenance, stem: &str) -> Result<(), Failure> {
        let targets = Targets::new(self.output.as_deref(), stem, &self.types)?;
        let request = Request { provenance, ..self.options.request(&targets)? };
        self.options.run(source, request, &targets)
    }
}

/// `base` with the adapter that `--lora` names.
pub(super) fn open_lora(base: CheckpointSource, adapter: &Path) -> Result<LoraSource, Failure> {
    check_adapter(adapter)?;
    Ok(LoraSource::open(base, adapter, exit::catch_interrupts())?)
}

/// Whether what `--lora` names is there.
pub(super) fn check_adapter(adapter: &Path) -> Result<(), Failure> {
    if adapter.exists() {
        return Ok(());
    }
    let path = pythia_text::path(adapter);
    Err(Failure::io(format_args!(
        "{path}: no such folder; download an adapter of the Hub first (hf download ID --local-dir FOLDER)"
    )))
}
