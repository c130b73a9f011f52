//! The request for a comparison.

use crate::{Rounding, Worker};
use pythia_convert::Level;
use pythia_eval::Work;
use pythia_model::Options;
use pythia_runtime::Text;
use pythia_task::Cancel;
use std::path::PathBuf;

/// Which files are compared, on which text, and how.
pub struct Request {
    /// The base of the comparison, and the source of levels.
    pub base: Base,
    /// Levels to convert from the base. If there are neither levels nor files, the usual ones.
    pub levels: Vec<Level>,
    /// Further GGUF files; the first file of a split model.
    pub files: Vec<PathBuf>,
    /// Importance matrix for converting levels.
    pub imatrix: Option<PathBuf>,
    /// How levels are rounded: every level is made in each of these ways. If empty, with the importance matrix if there
    /// is one, and otherwise plainly.
    pub quantizers: Vec<Rounding>,
    /// Whether the base may be all there is: without levels and files, it is scored alone. Otherwise the usual levels are
    /// meant.
    pub base_alone: bool,
    /// Accept source weights that are already quantized.
    pub allow_requantize: bool,
    /// The text to score. It is read several times, so it must not be a [stream](Text::stream).
    pub text: Text,
    /// Tokens per chunk; 0 for the base's context length.
    pub n_ctx: usize,
    /// Score only this many chunks.
    pub max_chunks: Option<usize>,
    /// Sizes of memory in bytes. The report names the best level that fits into each. If empty, common sizes.
    pub fit: Vec<u64>,
    /// Tasks that every file is evaluated on, with their documents.
    pub tasks: Vec<Work>,
    /// How models run.
    pub options: Options,
    /// Measures each file in a separate process. `None` to measure in this process, where memory is less exact.
    pub worker: Option<Worker>,
    /// Cache folder; `None` for the user's.
    pub cache: Option<PathBuf>,
    /// Ignore results of earlier runs.
    pub fresh: bool,
    /// The program and the words of the command line, for the report.
    pub program: (String, Vec<String>),
    /// Raised to stop.
    pub cancel: Cancel,
}

/// The base of a comparison.
pub enum Base {
    /// Made from a checkpoint.
    Checkpoint(CheckpointBase),
    /// A GGUF file, or the first file of a split model.
    Gguf(PathBuf),
}

/// A checkpoint, and how the base is made from it.
#[derive(Clone, Debug, Default)]
pub struct CheckpointBase {
    /// The folder, or one of its weight files.
    pub path: PathBuf,
    /// Variant of the weights, such as `fp16`.
    pub variant: Option<String>,
    /// The base's level; `None` for the type of the weights.
    pub level: Option<Level>,
    /// Folder of a LoRA adapter to merge.
    pub lora: Option<PathBuf>,
    /// Name of the model, if not that of its folder.
    pub name: Option<String>,
    /// Owner of its repository, if known.
    pub owner: Option<String>,
    /// Its revision, if known.
    pub revision: Option<String>,
}

impl Request {
    /// Compares the usual levels with `base`, in chunks of 512 tokens, measured in this process.
    pub fn new(base: Base, text: Text) -> Self {
        Self {
            base,
            levels: Vec::new(),
            files: Vec::new(),
            imatrix: None,
            quantizers: Vec::new(),
            base_alone: false,
            allow_requantize: false,
            text,
            n_ctx: 512,
            max_chunks: None,
            fit: Vec::new(),
            tasks: Vec::new(),
            options: Options::default(),
            worker: None,
            cache: None,
            fresh: false,
            program: ("pythia-compare".to_owned(), Vec::new()),
            cancel: Cancel::new(),
        }
    }
}
