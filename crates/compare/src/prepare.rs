//! Checks a request and plans the comparison. Writes nothing.

use crate::facts::Variant;
use crate::levels::{self, Levels};
use crate::report::Origin;
use crate::{Base, Candidate, CheckpointBase, Error, Request, quality};
use pythia_checkpoint::{Checkpoint, Dtype};
use pythia_convert::{CheckpointSource, GgufSource, Level, LoraSource, Provenance, Source, model_name};
use pythia_gguf::{FileType, Metadata, shard_prefix};
use pythia_task::Cancel;
use std::path::{Path, PathBuf};

/// Levels of a request that names neither levels nor files: the block formats of 4 to 8 bits.
const DEFAULT_LEVELS: [Level; 8] =
    [Level::F16, Level::Q8_0, Level::Q6_K, Level::Q5_K_M, Level::Q4_K_M, Level::Q4_0, Level::Q3_K_M, Level::Q2_K];

/// A request that is known to be sound, and what it comes to.
pub(crate) struct Prepared {
    /// The checkpoint or file that the base is or is made from.
    pub(crate) path: PathBuf,
    /// Name of the model.
    pub(crate) source: String,
    /// What its base was made from.
    pub(crate) origin: Origin,
    /// The base, then the others.
    pub(crate) candidates: Vec<Candidate>,
    /// Tokens in a chunk.
    pub(crate) n_ctx: usize,
    /// What is read and must not be replaced.
    pub(crate) inputs: Vec<PathBuf>,
    /// The cache folder of the model, if it can have one.
    pub(crate) cache_path: Option<PathBuf>,
    /// Levels that may have to be made.
    pub(crate) made: Option<Levels>,
}

/// Checks the whole request.
pub(crate) fn prepare(request: &Request) -> Result<Prepared, Error> {
    quality::check_n_ctx(request.n_ctx)?;
    match &request.base {
        Base::Gguf(path) => from_gguf(request, path),
        Base::Checkpoint(base) => from_checkpoint(request, base),
    }
}

/// For a GGUF file, which is the base. Requested levels are made from it.
fn from_gguf(request: &Request, path: &Path) -> Result<Prepared, Error> {
    let base = pythia_gguf::open(path)?.0.metadata;
    let own = file_level(&base, path);
    let mut wanted = request.levels.clone();
    if wanted.is_empty()
        && request.files.is_empty()
        && !request.base_alone
        && ["F32", "F16", "BF16"].contains(&own.as_str())
    {
        wanted = DEFAULT_LEVELS.to_vec();
    }
    wanted.retain(|level| level.name() != own);
    let wanted = each_once(wanted);
    check_used(request, &wanted)?;
    check_count(request, 1 + wanted.len() + request.files.len())?;
    let name = model_name(path);
    let source = GgufSource::open(path)?;
    let inputs = source.inputs();
    let cache_path = levels::cache_folder(request, &name, &inputs)?;
    let made = match &cache_path {
        _ if wanted.is_empty() => None,
        Some(cache_path) => {
            Some(Levels::plan(Box::new(source), &Provenance::default(), &name, cache_path, &wanted, request)?)
        }
        None => return Err(no_cache()),
    };
    let mut candidates = vec![candidate(&base, path, level_name(&base, path))];
    candidates.extend(made.iter().flat_map(Levels::candidates));
    add_files(request, path, &base, &mut candidates)?;
    let n_ctx = quality::check(request, path, &base)?;
    let (path, source, origin) = (path.to_owned(), stem(path), Origin::of_file(&base));
    Ok(Prepared { path, source, origin, candidates, n_ctx, inputs, cache_path, made })
}

/// For a checkpoint. The base is made from it too.
fn from_checkpoint(request: &Request, base: &CheckpointBase) -> Result<Prepared, Error> {
    let path = base.path.as_path();
    let checkpoint = CheckpointSource::open_variant(path, base.variant.as_deref())?;
    if checkpoint.tokenizer().is_none() {
        let problem = "has no tokenizer.json, and no vocab.json with merges.txt, so no text can be scored";
        return Err(Error::File { path: path.to_owned(), problem: problem.to_owned() });
    }
    let wanted = wanted_levels(request, base.level, checkpoint.checkpoint());
    check_used(request, &wanted)?;
    check_count(request, wanted.len() + request.files.len())?;
    let provenance = Provenance::gather(checkpoint.checkpoint(), false, &request.cancel)?;
    let owner = base.owner.clone().or_else(|| provenance.owner.clone());
    let merged = Merged::new(base, checkpoint, provenance.name.clone(), &request.cancel)?;
    let inputs = merged.source.inputs();
    let cache_path = levels::cache_folder(request, &merged.name, &merged.weights)?.ok_or_else(no_cache)?;
    let made = Levels::plan(merged.source, &provenance, &merged.name, &cache_path, &wanted, request)?;
    let metadata = made.first_metadata()?;
    let mut candidates = made.candidates();
    add_files(request, path, metadata, &mut candidates)?;
    let n_ctx = quality::check(request, path, metadata)?;
    let origin = Origin { owner, revision: base.revision.clone(), ..Origin::of_file(metadata) };
    let (path, source, cache_path, made) = (path.to_owned(), merged.shown, Some(cache_path), Some(made));
    Ok(Prepared { path, source, origin, candidates, n_ctx, inputs, cache_path, made })
}

/// A checkpoint, with the requested adapter merged.
struct Merged {
    source: Box<dyn Source>,
    /// Stem for names of converted files.
    name: String,
    /// Name of the model in the report.
    shown: String,
    /// The files of its weights.
    weights: Vec<PathBuf>,
}

impl Merged {
    /// `name` is that of the checkpoint's folder.
    fn new(base: &CheckpointBase, checkpoint: CheckpointSource, name: String, cancel: &Cancel) -> Result<Self, Error> {
        let shown = base.name.clone().unwrap_or_else(|| name.clone());
        let mut weights = checkpoint.checkpoint().files().to_vec();
        let Some(adapter) = &base.lora else {
            return Ok(Self { source: Box::new(checkpoint), name, shown, weights });
        };
        let merged = LoraSource::open(checkpoint, adapter, cancel)?;
        weights.extend(merged.adapter_files().map(Path::to_owned));
        let (name, shown) = (merged.file_stem(&name), merged.file_stem(&shown));
        Ok(Self { source: Box::new(merged), name, shown, weights })
    }
}

fn usage(message: impl Into<String>) -> Error {
    Error::Request(message.into())
}

fn no_cache() -> Error {
    usage("there is no home folder for converted levels; use --cache DIR")
}

fn check_used(request: &Request, wanted: &[Level]) -> Result<(), Error> {
    let named = [(request.imatrix.is_some(), "--imatrix"), (!request.quantizers.is_empty(), "--quantizer")];
    match named.into_iter().find(|(is_given, _)| *is_given && wanted.is_empty()) {
        Some((_, option)) => Err(usage(format!("{option} is used for converting levels, but --type names none"))),
        None => Ok(()),
    }
}

/// Adds the further GGUF files of the request. The base is at `source`, or is made from it.
fn add_files(request: &Request, source: &Path, base: &Metadata, candidates: &mut Vec<Candidate>) -> Result<(), Error> {
    for path in &request.files {
        let metadata = pythia_gguf::open(path)?.0.metadata;
        let name = level_name(&metadata, path);
        // A second file of the same level is called by its own name.
        let is_taken = |name: &str| candidates.iter().any(|c| c.name == name);
        let name = if is_taken(&name) { stem(path) } else { name };
        if is_taken(&name) {
            return Err(usage(format!("{}: another file of this name is already compared", path.display())));
        }
        quality::check_file(request, (source, base), (path, &metadata))?;
        candidates.push(candidate(&metadata, path, name));
    }
    check_count(request, candidates.len())
}

fn check_count(request: &Request, files: usize) -> Result<(), Error> {
    if files < 2 && !request.base_alone {
        return Err(usage("there is only the base; use --type or name further GGUF files to compare with it"));
    }
    Ok(())
}

/// The base, then the requested levels, each once.
fn wanted_levels(request: &Request, base: Option<Level>, checkpoint: &Checkpoint) -> Vec<Level> {
    let base = base.unwrap_or_else(|| native_level(checkpoint));
    let asked = match request.levels.is_empty() {
        true if request.files.is_empty() && !request.base_alone => &DEFAULT_LEVELS[..],
        _ => &request.levels,
    };
    each_once([base].into_iter().chain(asked.iter().copied()))
}

fn each_once(levels: impl IntoIterator<Item = Level>) -> Vec<Level> {
    let mut once = Vec::new();
    for level in levels {
        if !once.contains(&level) {
            once.push(level);
        }
    }
    once
}

/// The level that stores the checkpoint's weights without change.
fn native_level(checkpoint: &Checkpoint) -> Level {
    let has = |dtype| checkpoint.tensors().any(|tensor| tensor.dtype == dtype && tensor.shape.len() > 1);
    match (has(Dtype::F32), has(Dtype::BF16), has(Dtype::F16)) {
        (true, ..) | (_, true, true) => Level::F32,
        (_, true, _) => Level::BF16,
        _ => Level::F16,
    }
}

/// The GGUF file at `path`, called `name`.
fn candidate(metadata: &Metadata, path: &Path, name: String) -> Candidate {
    let (level, series) = (file_level(metadata, path), Variant::of(metadata).series());
    Candidate { name, level, series, path: path.to_owned() }
}

/// Name of a GGUF file in the report: `Q4_0`, `Q4_0 imatrix`.
fn level_name(metadata: &Metadata, path: &Path) -> String {
    file_level(metadata, path) + &Variant::of(metadata).suffix()
}

/// The type that a GGUF file states, such as `Q4_0`, or its own name.
fn file_level(metadata: &Metadata, path: &Path) -> String {
    FileType::of(metadata).map_or_else(|| stem(path), |ty| ty.name().to_owned())
}

/// The name of a file without extension and shard number.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    match shard_prefix(&name) {
        Some(prefix) => prefix.to_owned(),
        None => path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
    }
}
