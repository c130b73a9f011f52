//! `pythia-quant dequantize`: from a GGUF file back to a Hugging Face folder.

use crate::exit::{self, Failure};
use crate::input::{check_gguf, parse_threads};
use crate::progress::{Bar, Unit};
use pythia_convert::dequantize::{ExportedFile, Settings, dequantize};
use pythia_convert::{GgufFile, PassOptions};
use pythia_gguf::keys;
use pythia_runtime::Tokenizer;
use pythia_show::{Width, number, wrap};
use pythia_tensor::TensorType;
use pythia_tokenizer::Vocab;
use serde::Serialize;
use std::path::PathBuf;

/// Turn a GGUF file back into a Hugging Face checkpoint
///
/// Writes a folder that Transformers (4 or 5) loads with AutoModelForCausalLM and AutoTokenizer: config.json,
/// model.safetensors, and the tokenizer if the file has one. The weights are the decoded values, so the checkpoint
/// computes what the file would compute in exact arithmetic. The activation is "gelu", as in all Pythia models, unless
/// the file names the tanh form (key pythia_quant.gelu; files of llama.cpp do not have it).
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// GGUF file, or the first file of a split model
    #[arg(value_name = "FILE.gguf")]
    file: PathBuf,
    /// Folder to write; must not exist or be empty
    folder: PathBuf,
    /// Type of all weights: f32 is exact; f16 and bf16 round, at half the size
    ///
    /// f16 is exact as well for an F16 file made from an f16 checkpoint: it restores that checkpoint bit for bit.
    #[arg(long, value_name = "f32|f16|bf16", value_parser = parse_dtype, default_value = "f32")]
    dtype: TensorType,
    /// Replace the folder if it contains only a checkpoint
    #[arg(long)]
    force: bool,
    /// Worker threads [default: one per core]; does not change the files
    #[arg(long, value_name = "N", value_parser = parse_threads, default_value = "0", hide_default_value = true)]
    threads: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print nothing but errors
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
}

/// For clap: a float type by its name.
fn parse_dtype(text: &str) -> Result<TensorType, String> {
    let ty = text.parse().ok().filter(|ty: &TensorType| !ty.is_quantized());
    ty.ok_or_else(|| format!("found '{text}', wanted f32, f16 or bf16"))
}

/// Where the tokenizer of the folder comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum TokenizerOrigin {
    /// The `tokenizer.json` embedded in the file.
    Embedded,
    /// Made from the GGUF vocabulary.
    Rebuilt,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let cancel = exit::catch_interrupts();
    check_gguf(&args.file)?;
    let file = GgufFile::open(&args.file)?;
    let (tokenizer_json, origin) = tokenizer(&file)?.unzip();
    if origin.is_none() && !args.quiet {
        super::warn(&format!("{}: no tokenizer in the file, so the folder will have none", args.file.display()));
    }
    let bar = Bar::new(file.tensor_bytes(), Unit::Bytes, args.quiet);
    let settings = Settings { dtype: args.dtype, tokenizer_json, force: args.force };
    let options = PassOptions { threads: args.threads, cancel, progress: &bar };
    let written = dequantize(&file, &args.folder, &settings, &options)?;
    bar.finish();
    if args.json {
        return exit::print_json(&json(args, &file, origin, &written));
    }
    if args.quiet { Ok(()) } else { exit::print(&text(args, &file, origin, &written)) }
}

/// The text of `tokenizer.json`, unless the file has no tokenizer.
fn tokenizer(file: &GgufFile) -> Result<Option<(String, TokenizerOrigin)>, Failure> {
    let metadata = &file.gguf().metadata;
    if metadata.get(keys::TOKENIZER_MODEL).is_none() {
        return Ok(None);
    }
    let at_file = |e: pythia_tokenizer::Error| Failure::data(format_args!("{}: {e}", file.path().display()));
    let vocab = Vocab::from_metadata(metadata).map_err(|e| at_file(e.into()))?;
    let origin = match vocab.huggingface_json {
        Some(_) => TokenizerOrigin::Embedded,
        None => TokenizerOrigin::Rebuilt,
    };
    Ok(Some((Tokenizer::json(&vocab).map_err(at_file)?, origin)))
}

fn text(args: &Args, file: &GgufFile, origin: Option<TokenizerOrigin>, written: &[ExportedFile]) -> String {
    let tokenizer = match origin {
        Some(TokenizerOrigin::Embedded) => "tokenizer.json as embedded in the file",
        Some(TokenizerOrigin::Rebuilt) => "tokenizer.json rebuilt from the vocabulary of the file",
        None => "no tokenizer",
    };
    let n_bytes = written.iter().map(|file| file.n_bytes).sum();
    let line = format!(
        "{}: {} tensors as {}, {tokenizer}; {} in {} files",
        pythia_text::path(&args.folder),
        file.gguf().tensors().len(),
        args.dtype,
        number::bytes(n_bytes),
        written.len(),
    );
    wrap(&line, Width::of_stdout(), "  ")
}

#[derive(Debug, Serialize)]
struct Json {
    folder: String,
    dtype: &'static str,
    tensors: usize,
    /// `null` where there is none.
    tokenizer: Option<TokenizerOrigin>,
    files: Vec<JsonFile>,
}

#[derive(Debug, Serialize)]
struct JsonFile {
    name: &'static str,
    bytes: u64,
}

fn json(args: &Args, file: &GgufFile, tokenizer: Option<TokenizerOrigin>, written: &[ExportedFile]) -> Json {
    Json {
        folder: args.folder.display().to_string(),
        dtype: args.dtype.name(),
        tensors: file.gguf().tensors().len(),
        tokenizer,
        files: written.iter().map(|file| JsonFile { name: file.name, bytes: file.n_bytes }).collect(),
    }
}
