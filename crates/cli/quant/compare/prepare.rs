//! What is compared: the request is checked, then what is missing is made.

use super::super::cache::folder::Folder;
use super::super::convert::open_lora;
use super::super::quantize::model_name;
use super::facts::Variant;
use super::levels::{self, Levels};
use super::{Args, Contestant, quality};
use crate::exit::{self, Failure};
use crate::input::{self, Located};
use crate::progress::Log;
use crate::report::{Origin, Report};
use pythia_checkpoint::{Checkpoint, Dtype};
use pythia_convert::{GgufSource, Level, Provenance, Source};
use pythia_gguf::{FileType, Metadata, keys, shard_prefix};
use pythia_runtime::Text;
use std::path::{Path, PathBuf};

/// Levels of a comparison that asks for none: the block formats of 4 to 8 bits.
const DEFAULT_LEVELS: [Level; 8] =
    [Level::F16, Level::Q8_0, Level::Q6_K, Level::Q5_K_M, Level::Q4_K_M, Level::Q4_0, Level::Q3_K_M, Level::Q2_K];

/// Everything that a run needs, made when the request is known to be sound.
pub(super) struct Prepared {
    /// Name of the model.
    pub(super) source: String,
    /// What its base was made from.
    pub(super) origin: Origin,
    /// The base, then the levels.
    pub(super) contestants: Vec<Contestant>,
    /// Tokens in a chunk.
    pub(super) n_ctx: usize,
    /// Where measurements are kept, if anywhere.
    pub(super) folder: Option<Folder>,
}

/// Checks the whole request, then converts what is missing.
pub(super) fn prepare(args: &Args, located: Located, text: &Text, log: &Log) -> Result<Prepared, Failure> {
    if input::is_gguf(&located.path)? {
        from_gguf(args, &located.path, text, log)
    } else {
        from_checkpoint(args, located, text, log)
    }
}

/// The source is the base; levels are made from it where some are asked for.
fn from_gguf(args: &Args, path: &Path, text: &Text, log: &Log) -> Result<Prepared, Failure> {
    if args.base.is_some() {
        let source = path.display();
        return Err(Failure::usage(format_args!(
            "{source}: is a GGUF file, so it is the base; --base needs a checkpoint"
        )));
    }
    if args.lora.is_some() {
        let source = path.display();
        return Err(Failure::usage(format_args!("{source}: is a GGUF file; --lora needs a checkpoint")));
    }
    let base = input::gguf(path)?.metadata;
    let own = file_level(&base, path);
    let mut wanted = args.types.clone();
    if wanted.is_empty() && args.files.is_empty() && ["F32", "F16", "BF16"].contains(&own.as_str()) {
        wanted = DEFAULT_LEVELS.to_vec();
    }
    wanted.retain(|level| level.name() != own);
    let wanted = each_once(wanted);
    check_imatrix(args, &wanted)?;
    check_count(1 + wanted.len() + args.files.len())?;
    let name = model_name(path);
    let source = GgufSource::open(path)?;
    let place = levels::place(args, &name, &source.inputs())?;
    let made = match &place {
        _ if wanted.is_empty() => None,
        Some(place) => Some(Levels::plan(&source, Provenance::default(), &name, place, &wanted, args)?),
        None => return Err(no_place()),
    };
    let mut contestants = vec![Contestant { name: level_name(&base, path), path: path.to_owned() }];
    contestants.extend(made.iter().flat_map(Levels::contestants));
    add_files(args, &base, &mut contestants)?;
    let n_ctx = quality::check(args, &base, text)?;
    let folder = match (place, &made) {
        (Some(place), Some(made)) => {
            let folder = Folder::open(place, path)?;
            made.fill(&source, &folder, &args.files, args, log)?;
            Some(folder)
        }
        // Nothing has to be kept.
        (place, _) => place.and_then(|place| Folder::open(place, path).ok()),
    };
    Ok(Prepared { source: stem(path), origin: Origin::of_file(&base), contestants, n_ctx, folder })
}

/// The base is made too.
fn from_checkpoint(args: &Args, located: Located, text: &Text, log: &Log) -> Result<Prepared, Failure> {
    let Located { path, stem: named, owner, revision } = located;
    let checkpoint = args.source_options.open(&path)?;
    if checkpoint.tokenizer().is_none() {
        let source = path.display();
        return Err(Failure::data(format_args!(
            "{source}: has no tokenizer.json, nor vocab.json with merges.txt, without which no text can be scored"
        )));
    }
    let wanted = wanted_levels(args, &checkpoint);
    check_imatrix(args, &wanted)?;
    check_count(wanted.len() + args.files.len())?;
    let provenance = Provenance::gather(&checkpoint, false, exit::catch_interrupts())?;
    let known_owner = provenance.owner.clone();
    let Merged { source, name, shown, weights } = merge(args, checkpoint, provenance.name.clone(), named)?;
    Report::check_targets(&args.output, &source.inputs(), args.force)?;
    let place = levels::place(args, &name, &weights)?.ok_or_else(no_place)?;
    let made = Levels::plan(&*source, provenance, &name, &place, &wanted, args)?;
    let base = made.first_metadata()?;
    let mut contestants = made.contestants();
    add_files(args, base, &mut contestants)?;
    let n_ctx = quality::check(args, base, text)?;
    let folder = Folder::open(place, &path)?;
    made.fill(&*source, &folder, &args.files, args, log)?;
    let origin = Origin { owner: owner.or(known_owner), revision, ..Origin::of_file(base) };
    Ok(Prepared { source: shown, origin, contestants, n_ctx, folder: Some(folder) })
}

/// A checkpoint, with the adapter in it that `--lora` names.
struct Merged {
    source: Box<dyn Source>,
    /// What made files are called.
    name: String,
    /// What the report calls the model.
    shown: String,
    /// The files that its weights are in.
    weights: Vec<PathBuf>,
}

/// `named` is what the command line calls the model, if that is not its folder.
fn merge(args: &Args, checkpoint: Checkpoint, name: String, named: Option<String>) -> Result<Merged, Failure> {
    let shown = named.unwrap_or_else(|| name.clone());
    let mut weights = checkpoint.files().to_vec();
    let Some(adapter) = &args.lora else {
        return Ok(Merged { source: Box::new(checkpoint), name, shown, weights });
    };
    let merged = open_lora(checkpoint, adapter)?;
    weights.extend(merged.adapter_files().map(Path::to_owned));
    let (name, shown) = (merged.file_stem(&name), merged.file_stem(&shown));
    Ok(Merged { source: Box::new(merged), name, shown, weights })
}

fn no_place() -> Failure {
    Failure::usage("there is no home folder to keep made levels in; --cache names one")
}

fn check_imatrix(args: &Args, wanted: &[Level]) -> Result<(), Failure> {
    if args.imatrix.is_some() && wanted.is_empty() {
        return Err(Failure::usage("--imatrix is for levels that are made, of which --type gives none"));
    }
    Ok(())
}

/// Adds the GGUF files that the command line names beside the source.
fn add_files(args: &Args, base: &Metadata, contestants: &mut Vec<Contestant>) -> Result<(), Failure> {
    for path in &args.files {
        let metadata = input::gguf(path)?.metadata;
        let name = level_name(&metadata, path);
        // Two files of a level are told apart by their own names.
        let is_taken = |name: &str| contestants.iter().any(|c| c.name == name);
        let name = if is_taken(&name) { stem(path) } else { name };
        if is_taken(&name) {
            return Err(Failure::usage(format_args!("{}: a file of this name is compared already", path.display())));
        }
        quality::check_level(args, base, path, &metadata)?;
        contestants.push(Contestant { name, path: path.clone() });
    }
    check_count(contestants.len())
}

fn check_count(files: usize) -> Result<(), Failure> {
    if files < 2 {
        return Err(Failure::usage(
            "there is only the base; --type or further GGUF files give levels to compare with it",
        ));
    }
    Ok(())
}

/// The base, then the levels asked for, each once.
fn wanted_levels(args: &Args, checkpoint: &Checkpoint) -> Vec<Level> {
    let base = args.base.unwrap_or_else(|| native_level(checkpoint));
    let asked = match args.types.is_empty() {
        true if args.files.is_empty() => &DEFAULT_LEVELS[..],
        _ => &args.types,
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

/// The level that keeps the checkpoint's weights as they are.
fn native_level(checkpoint: &Checkpoint) -> Level {
    let has = |dtype| checkpoint.tensors().any(|tensor| tensor.dtype == dtype && tensor.shape.len() > 1);
    match (has(Dtype::F32), has(Dtype::BF16), has(Dtype::F16)) {
        (true, ..) | (_, true, true) => Level::F32,
        (_, true, _) => Level::BF16,
        _ => Level::F16,
    }
}

/// What a GGUF file is called in the report: `Q4_0`, `Q4_0 imatrix`.
fn level_name(metadata: &Metadata, path: &Path) -> String {
    file_level(metadata, path) + &Variant::of(metadata).suffix()
}

/// What a GGUF file says it is: `Q4_0`; its own name if it does not say.
fn file_level(metadata: &Metadata, path: &Path) -> String {
    let id = metadata.u32(keys::FILE_TYPE).ok().flatten();
    id.and_then(FileType::from_id).map_or_else(|| stem(path), |ty| ty.name().to_owned())
}

/// The name of a file without its ending, and without its number if it is one of several.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    match shard_prefix(&name) {
        Some(prefix) => prefix.to_owned(),
        None => path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
    }
}
