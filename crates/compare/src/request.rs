//! What is compared, on which text, and how.

use crate::Worker;
use pythia_convert::Level;
use pythia_model::Options;
use pythia_runtime::Text;
use pythia_task::Cancel;
use std::path::PathBuf;

/// Which files are compared, on which text, and how.
pub struct Request {
    /// What the others are compared with, and levels are made from.
    pub base: Base,
    /// Levels to make from the base; if there are neither levels nor files, those that people choose from.
    pub levels: Vec<Level>,
    /// GGUF files to compare too; of a split model, the first.
    pub files: Vec<PathBuf>,
    /// Importance matrix for the levels that are made.
    pub imatrix: Option<PathBuf>,
    /// Also make levels from weights that are quantized already.
    pub allow_requantize: bool,
    /// What the files are scored on. It is read several times, so no [stream](Text::stream).
    pub text: Text,
    /// Tokens in a chunk of the text; 0 for the base's context.
    pub n_ctx: usize,
    /// Score so many chunks only.
    pub max_chunks: Option<usize>,
    /// Sizes of memory, in bytes, for each of which the best level that fits is named; if there are none, the usual ones.
    pub fit: Vec<u64>,
    /// How models run.
    pub options: Options,
    /// What measures each file in a process of its own; `None` to measure in this process, where memory is less exact.
    pub worker: Option<Worker>,
    /// Folder that made files and measurements are kept in; `None` for the user's.
    pub cache: Option<PathBuf>,
    /// Use no measurement of an earlier run.
    pub fresh: bool,
    /// The program that the report names, and the command, a word each.
    pub program: (String, Vec<String>),
    /// Raised to stop.
    pub cancel: Cancel,
}

/// What the other files are compared with.
pub enum Base {
    /// Made from a checkpoint.
    Checkpoint(CheckpointBase),
    /// A GGUF file, or the first of those that a model is split over.
    Gguf(PathBuf),
}

/// A checkpoint, and how the base is made from it.
#[derive(Clone, Debug, Default)]
pub struct CheckpointBase {
    /// The folder, or one of its weight files.
    pub path: PathBuf,
    /// Which variant of the weights to take, such as `fp16`.
    pub variant: Option<String>,
    /// The base's level; `None` for the type of the weights.
    pub level: Option<Level>,
    /// Folder of a LoRA adapter to merge.
    pub lora: Option<PathBuf>,
    /// What the model is called, if its folder does not tell.
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
            allow_requantize: false,
            text,
            n_ctx: 512,
            max_chunks: None,
            fit: Vec::new(),
            options: Options::default(),
            worker: None,
            cache: None,
            fresh: false,
            program: ("pythia-compare".to_owned(), Vec::new()),
            cancel: Cancel::new(),
        }
    }
}
