//! `pythia-quant convert`: a checkpoint to GGUF files, several levels in one pass.

mod options;
mod report;

use crate::exit::{self, Failure};
use crate::input::SourceOptions;
pub(super) use options::{Options, Targets, types_help};
use pythia_checkpoint::Checkpoint;
use pythia_convert::{Level, LoraSource, Provenance, Request, Source};
use pythia_gguf::keys;
use pythia_runtime::Tokenizer;
use std::path::{Path, PathBuf};

/// Convert a Hugging Face checkpoint to GGUF
///
/// Every TYPE becomes a file of its own; all are made in one pass over the checkpoint. Types follow
/// llama.cpp's mixes: most matrices use the named type; a few, such as the output matrix, use a larger one.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Checkpoint: a Hugging Face folder, one .safetensors or .bin file in it, or a model of the Hub, OWNER/NAME[@REVISION]
    ///
    /// A path that exists is that path. EleutherAI/pythia-70m@step3000 is looked for in the cache of the Hub
    /// (HF_HUB_CACHE, by default ~/.cache/huggingface/hub) and downloaded into it if it is not there.
    source: PathBuf,
    /// File to write; a folder if there are several types, if it is one already, or if it ends in /
    /// [default: SOURCE-TYPE.gguf here]
    #[arg(short, long)]
    output: Option<PathBuf>,
    #[arg(short = 't', long = "type", required = true, value_delimiter = ',', value_name = "TYPE", help = types_help())]
    types: Vec<Level>,
    /// Merge a LoRA adapter into the weights: a folder as PEFT saves it, with adapter_config.json
    ///
    /// W + scale B A is computed in f32 and encoded from there. Files are called SOURCE-ADAPTER-TYPE.gguf, and their metadata
    /// names the adapter with its digests.
    #[arg(long, value_name = "ADAPTER")]
    lora: Option<PathBuf>,
    /// Record the SHA-256 of the weight files in the metadata (reads them once more)
    #[arg(long)]
    provenance_sha: bool,
    #[command(flatten)]
    source_options: SourceOptions,
    #[command(flatten)]
    options: Options,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let cancel = exit::catch_interrupts();
    let source = args.source_options.locate(&args.source, args.options.quiet)?;
    let checkpoint = args.source_options.open(&source.path)?;
    let provenance = Provenance::gather(&checkpoint, args.provenance_sha && !args.options.dry_run, cancel)?;
    check_tokenizer(&checkpoint, &provenance)?;
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
        self.options.run(source, &request, &targets)
    }
}

/// `base` with the adapter that `--lora` names.
pub(super) fn open_lora(base: Checkpoint, adapter: &Path) -> Result<LoraSource, Failure> {
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
        "{path}: no such folder; an adapter of the Hub has to be downloaded first (hf download ID --local-dir FOLDER)"
    )))
}

/// Whether what will be in the files makes a tokenizer, by the rules of the programs that will read them.
fn check_tokenizer(checkpoint: &Checkpoint, provenance: &Provenance) -> Result<(), Failure> {
    let metadata = checkpoint.metadata(provenance)?;
    if metadata.get(keys::TOKENS).is_some() {
        let path = checkpoint.path().display();
        Tokenizer::from_gguf(&metadata).map_err(|e| Failure::data(format_args!("{path}: {e}")))?;
    }
    Ok(())
}
