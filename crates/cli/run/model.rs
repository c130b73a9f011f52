//! Options that every command which runs a model has.

use super::changes::ChangeArgs;
use crate::device::DeviceArgs;
use crate::exit::Failure;
use crate::input::{self, parse_threads};
use pythia_gguf::Gguf;
use pythia_inside::Reach;
use pythia_kernels::IsaLevel;
use pythia_model::{Activations, Budget, Gelu, KvType, Model, Options, Residence};
use pythia_runtime::device::{CPU, copied_if_roomy};
use pythia_runtime::{Arithmetic, Tokenizer, parse_activations, parse_gelu, parse_kv};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which file. Required, but not in an `Option` of a command whose [group](FILE) is not.
#[derive(Debug, clap::Args)]
#[group(id = FILE, required = true, multiple = false)]
pub(super) struct FileArgs {
    /// Model: a GGUF file, or the first file of a split model
    #[arg(value_name = "MODEL")]
    file: Option<PathBuf>,
    /// The model, as an option
    #[arg(short, long, value_name = "MODEL")]
    model: Option<PathBuf>,
}

/// The group of the arguments that name a file.
pub(super) const FILE: &str = "model_file";

/// A model, how it runs, and what is changed in it.
#[derive(Debug, clap::Args)]
pub(super) struct ModelArgs {
    #[command(flatten)]
    file: FileArgs,
    #[command(flatten)]
    how: RunArgs,
    #[command(flatten)]
    changes: ChangeArgs,
}

/// How a model runs.
#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    /// Threads [default: one per core]; does not change results
    #[arg(short, long, value_name = "N", value_parser = parse_threads, default_value = "0", hide_default_value = true)]
    threads: usize,
    /// Activations in products with quantized weights: int8 (rounded), or f32, which leaves only the error of the
    /// weights but takes about three times as long
    #[arg(long, value_name = "int8|f32", value_parser = parse_activations, default_value = "int8")]
    activations: Activations,
    /// Form of GELU [default: what the file says, or erf]; llama.cpp always computes tanh
    #[arg(long, value_name = "erf|tanh", value_parser = parse_gelu)]
    gelu: Option<Gelu>,
    /// Type of the key-value cache: f16, f32, or q8_0 (bytes with scales), which takes about half of the memory of f16 and
    /// less time for long contexts, and costs a little quality
    #[arg(long, visible_alias = "cache-type-k", value_name = "f16|q8_0|f32", value_parser = parse_kv, default_value = "f16")]
    kv: KvType,
    /// For llama.cpp command lines: keys and values share one type here, so this must equal --kv
    #[arg(long, value_name = "f16|q8_0|f32", value_parser = parse_kv)]
    cache_type_v: Option<KvType>,
    /// Instruction set [default: PYTHIA_ISA, or the best of this CPU]; does not change results
    #[arg(long, value_name = "NAME")]
    isa: Option<IsaLevel>,
    #[command(flatten)]
    residence: ResidenceArgs,
    /// Refuse to start if caches and buffers on the processor would take more than SIZE, such as 1.5G or 512MiB
    ///
    /// The pages of the model's file do not count: the system drops them when memory is short and reads them again. With
    /// this option weights are copied only if --no-mmap asks for it, and then the copy counts.
    #[arg(long, value_name = "SIZE", value_parser = parse_budget)]
    max_memory: Option<Arc<Budget>>,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Where the weights lie on the processor.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct ResidenceArgs {
    /// Read the weights in the mapped file. This is the default, but not where many tokens are generated (bench, serve, and
    /// generate from -n 64 on): there, most quantized types are copied, which makes tokens faster, if the copy takes at most
    /// half of the available memory
    #[arg(long, overrides_with_all = ["mmap", "no_mmap"])]
    mmap: bool,
    /// Always copy the weights into memory. Of --mmap and --no-mmap the last counts
    #[arg(long, overrides_with_all = ["mmap", "no_mmap"])]
    no_mmap: bool,
}

/// How often a command reads all weights for single tokens, which are faster from a copy of the weights. Prompts are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passes {
    /// Not often enough for a copy to pay.
    Few,
    /// For every token of a longer text.
    Many,
}

impl ResidenceArgs {
    /// What was asked for, or what suits so many passes.
    pub(super) fn residence(self, passes: Passes) -> Residence {
        match (self.mmap, self.no_mmap, passes) {
            (_, true, _) => Residence::Copied,
            (false, false, Passes::Many) => copied_if_roomy(),
            _ => Residence::Mapped,
        }
    }
}

/// For clap: a limit for all models of a command together.
fn parse_budget(text: &str) -> Result<Arc<Budget>, String> {
    input::parse_memory_size(text).map(Budget::new)
}

impl FileArgs {
    /// The file.
    pub(super) fn path(&self) -> &Path {
        // The parser refuses a command line with neither.
        self.file.as_deref().or(self.model.as_deref()).unwrap_or(Path::new(""))
    }

    /// The tokenizer alone. The weights may be missing or of types that cannot run.
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

    /// The files that are read: of the model, and those that its changes are in.
    pub(super) fn inputs<'a>(&'a self, model: &'a Model) -> impl Iterator<Item = &'a Path> {
        model.paths().iter().map(PathBuf::as_path).chain(self.changes.inputs())
    }

    /// Its name for the title of a page, with what is changed.
    pub(super) fn title(&self, model: &Model) -> String {
        let name = crate::outputs::name(self.path());
        match model.edits() {
            None => name,
            Some(edits) => format!("{name}, changed: {}", edits.descriptions().join("; ")),
        }
    }

    /// How it runs.
    pub(super) fn how(&self) -> &RunArgs {
        &self.how
    }

    /// Opens it, with the changes that are asked for. Whoever runs it checks how far these reach.
    pub(super) fn open(&self, passes: Passes) -> Result<(Arc<Model>, Tokenizer, Reach), Failure> {
        let (model, tokenizer) = self.how.open(self.path(), passes)?;
        let (model, reach) = self.changes.apply(&model, &tokenizer)?;
        Ok((model, tokenizer, reach))
    }
}

impl RunArgs {
    /// The GPU that a model of this device runs on, in words.
    pub(super) fn describe_gpu(&self, model: &Model) -> Result<Option<String>, Failure> {
        if model.device() == CPU { Ok(None) } else { Ok(self.device.find()?.describe()?) }
    }

    /// Opens the model at `path`, and its tokenizer.
    pub(super) fn open(&self, path: &Path, passes: Passes) -> Result<(Arc<Model>, Tokenizer), Failure> {
        let model = self.model(path, passes)?;
        let tokenizer = tokenizer(model.gguf(), path)?;
        Ok((model, tokenizer))
    }

    /// Opens the model at `path`.
    pub(super) fn model(&self, path: &Path, passes: Passes) -> Result<Arc<Model>, Failure> {
        let residence = match (self.residence.residence(passes), &self.max_memory) {
            // What a limit leaves is for contexts.
            (Residence::Within(_), Some(_)) => Residence::Mapped,
            (residence, _) => residence,
        };
        let options = Options { residence, ..self.options()? };
        input::check_gguf(path)?;
        Ok(self.device.find()?.open(path, &options)?)
    }

    /// Refuses options about memory, for a command that they say nothing to.
    pub(super) fn refuse_memory(&self, why: &str) -> Result<(), Failure> {
        let ResidenceArgs { mmap, no_mmap } = self.residence;
        let given = [("--max-memory", self.max_memory.is_some()), ("--no-mmap", no_mmap), ("--mmap", mmap)];
        match given.iter().find(|(_, is_given)| *is_given) {
            None => Ok(()),
            Some((name, _)) => Err(Failure::usage(format_args!("{name} has no effect: {why}"))),
        }
    }

    /// The options that models are opened with, but for where their weights lie.
    pub(super) fn options(&self) -> Result<Options, Failure> {
        if self.cache_type_v.is_some_and(|ty| ty != self.kv) {
            return Err(Failure::usage("--cache-type-v: keys and values share one type here, that of --kv"));
        }
        Ok(Options {
            threads: self.threads,
            isa: self.isa,
            activations: self.activations,
            gelu: self.gelu,
            kv: self.kv,
            memory: self.max_memory.clone(),
            ..Options::default()
        })
    }
}

/// Says on stderr what is changed in a model, so that nobody takes its numbers for those of the file.
pub(super) fn note_changes(model: &Model) {
    if let Some(edits) = model.edits() {
        crate::exit::note(format_args!("changed: {}", edits.descriptions().join("; ")));
    }
}

pub(super) fn tokenizer(gguf: &Gguf, path: &Path) -> Result<Tokenizer, Failure> {
    Tokenizer::from_gguf(&gguf.metadata).map_err(|e| Failure::data(format_args!("{}: {e}", path.display())))
}

/// The settings that results depend on, and where the model runs.
pub(super) fn describe(model: &Model, path: &Path) -> Value {
    let arithmetic = Arithmetic::of(model.options());
    let mut facts = json!({
        "model": path.display().to_string(),
        "device": model.device(),
        "isa": model.isa_name(),
        "threads": model.threads(),
        "activations": arithmetic.activations,
        "gelu": arithmetic.gelu,
        "kv_cache": arithmetic.kv_cache,
    });
    if let Some(edits) = model.edits() {
        facts["changes"] = json!(edits.descriptions());
    }
    facts
}
