//! The options of every command that runs a model.

use crate::device::DeviceArgs;
use crate::exit::Failure;
use crate::input::{self, parse_threads};
use pythia_gguf::Gguf;
use pythia_kernels::IsaLevel;
use pythia_model::{Activations, Gelu, KvType, Model, Options};
use pythia_runtime::device::CPU;
use pythia_runtime::{Arithmetic, Tokenizer, parse_activations, parse_gelu, parse_kv};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Which file.
#[derive(Debug, clap::Args)]
pub(super) struct FileArgs {
    /// Model: a GGUF file, or the first of those it is split over
    #[arg(value_name = "MODEL", required_unless_present = "model")]
    file: Option<PathBuf>,
    /// The same, as an option
    #[arg(short, long, value_name = "MODEL", conflicts_with = "file")]
    model: Option<PathBuf>,
}

/// How it runs.
#[derive(Debug, clap::Args)]
pub(super) struct ModelArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Threads [default: one per core]; results do not depend on it
    #[arg(short, long, value_name = "N", value_parser = parse_threads, default_value = "0", hide_default_value = true)]
    threads: usize,
    /// How activations enter products with quantized weights: rounded to int8, or as f32, so that the weights' error is the
    /// only one; that takes about three times as long
    #[arg(long, value_name = "int8|f32", value_parser = parse_activations, default_value = "int8")]
    activations: Activations,
    /// Which GELU [default: the file's own, which is erf unless it says tanh]; llama.cpp always computes tanh
    #[arg(long, value_name = "erf|tanh", value_parser = parse_gelu)]
    gelu: Option<Gelu>,
    /// Element type of the key-value cache
    #[arg(long, visible_alias = "cache-type-k", value_name = "f16|f32", value_parser = parse_kv, default_value = "f16")]
    kv: KvType,
    /// As llama.cpp's; keys and values have one type here, so it must be that of --kv
    #[arg(long, value_name = "f16|f32", value_parser = parse_kv)]
    cache_type_v: Option<KvType>,
    /// Instruction set [default: the best of this CPU, or what PYTHIA_ISA names]; results do not depend on it
    #[arg(long, value_name = "NAME")]
    isa: Option<IsaLevel>,
    #[command(flatten)]
    device: DeviceArgs,
}

impl FileArgs {
    /// The file.
    pub(super) fn path(&self) -> &Path {
        // The parser refuses a command line with neither.
        self.file.as_deref().or(self.model.as_deref()).unwrap_or(Path::new(""))
    }

    /// The tokenizer alone: the weights need not be there, or be of types that can run.
    pub(super) fn tokenizer(&self) -> Result<Tokenizer, Failure> {
        let path = self.path();
        tokenizer(&input::gguf(path)?, path)
    }
}

impl ModelArgs {
    /// The file.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// The GPU that a model of this device runs on, in words.
    pub(super) fn describe_gpu(&self, model: &Model) -> Result<Option<String>, Failure> {
        if model.device() == CPU { Ok(None) } else { Ok(self.device.find()?.describe()?) }
    }

    /// Opens it.
    pub(super) fn open(&self) -> Result<(Model, Tokenizer), Failure> {
        let options = Options {
            threads: self.threads,
            isa: self.isa,
            activations: self.activations,
            gelu: self.gelu,
            kv: self.kv,
        };
        if self.cache_type_v.is_some_and(|ty| ty != self.kv) {
            return Err(Failure::usage("--cache-type-v: keys and values have one type here, that of --kv"));
        }
        input::check_gguf(self.path())?;
        let model = self.device.find()?.open(self.path(), &options)?;
        let tokenizer = tokenizer(model.gguf(), self.path())?;
        Ok((model, tokenizer))
    }
}

fn tokenizer(gguf: &Gguf, path: &Path) -> Result<Tokenizer, Failure> {
    Tokenizer::from_gguf(&gguf.metadata).map_err(|e| Failure::data(format_args!("{}: {e}", path.display())))
}

/// What the results of a model depend on, and where it runs.
pub(super) fn describe(model: &Model, path: &Path) -> Value {
    let arithmetic = Arithmetic::of(model.options());
    json!({
        "model": path.display().to_string(),
        "device": model.device(),
        "isa": model.isa_name(),
        "threads": model.threads(),
        "activations": arithmetic.activations,
        "gelu": arithmetic.gelu,
        "kv_cache": arithmetic.kv_cache,
    })
}
