//! Checkpoints in folders of this machine: `MODEL/stepN`, or one checkpoint.

use crate::Error;
use crate::manifest::{Checkpoint, Missing, Source, SourceFile};
use crate::steps::{Steps, step_of};
use pythia_convert::provenance::sha256_file;
use pythia_convert::{CheckpointSource, Source as _};
use pythia_task::{Cancel, Progress};
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Names a folder with one checkpoint, which has no steps.
const ONLY: &str = "main";
/// The card of a model says nothing that a value depends on.
pub(crate) const CARD: &str = "README.md";

/// A checkpoint with its files.
pub(crate) struct Found {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) files: Vec<SourceFile>,
}

/// What a model has of the revisions that were asked for.
#[derive(Default)]
pub(crate) struct FoundAll {
    pub(crate) found: Vec<Found>,
    pub(crate) missing: Vec<Missing>,
}

/// The checkpoints of the model in `folder`. Every file is read once for its digest. `relative` makes a path of the
/// manifest of a path.
pub(crate) fn find(
    folder: &Path,
    steps: &Steps,
    relative: &(dyn Fn(&Path) -> Result<String, Error> + Sync),
    cancel: &Cancel,
    progress: &dyn Progress,
) -> Result<FoundAll, Error> {
    let model = model_name(folder)?;
    let wanted: Vec<(String, PathBuf)> = if folder.join("config.json").exists() {
        if !steps.is_all() && steps.fixed().is_none_or(|named| named != [ONLY]) {
            let shown = pythia_text::path(folder);
            return Err(Error::Request(format!("--steps: {shown} is one checkpoint, without steps")));
        }
        vec![(ONLY.to_owned(), folder.to_owned())]
    } else {
        let there = steps_in(folder)?;
        if there.is_empty() {
            let shown = pythia_text::path(folder);
            let problem = "neither a checkpoint (config.json) nor a folder with stepN subfolders";
            return Err(Error::Request(format!("{shown}: {problem}")));
        }
        steps.revisions(&there).into_iter().map(|name| (name.clone(), folder.join(name))).collect()
    };
    progress.expect(Some(wanted.len() as u64));
    let read = |(revision, path): (String, PathBuf)| {
        let result = read(&model, &revision, &path, relative, cancel);
        progress.advance(&revision, 1);
        match result {
            Err(Error::Cancelled) => Err(Error::Cancelled),
            Err(error) => Ok(Err(Missing { model: model.clone(), revision, reason: error.to_string() })),
            Ok(found) => Ok(Ok(found)),
        }
    };
    let all: Vec<Result<Found, Missing>> = wanted.into_par_iter().map(read).collect::<Result<_, _>>()?;
    let mut found = FoundAll::default();
    for one in all {
        match one {
            Ok(checkpoint) => found.found.push(checkpoint),
            Err(missing) => found.missing.push(missing),
        }
    }
    Ok(found)
}

/// The name of a folder.
fn model_name(folder: &Path) -> Result<String, Error> {
    // `.` and `..` have none.
    let whole = match folder.file_name() {
        Some(_) => folder.to_owned(),
        None => fs::canonicalize(folder).map_err(Error::io(folder))?,
    };
    let name = whole.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned)
        .ok_or_else(|| Error::Request(format!("{}: the name of the folder is not text", pythia_text::path(folder))))
}

/// N of the subfolders called stepN.
fn steps_in(folder: &Path) -> Result<BTreeSet<u64>, Error> {
    let entries = fs::read_dir(folder).map_err(Error::io(folder))?;
    Ok(entries.flatten().filter_map(|entry| step_of(entry.file_name().to_str()?)).collect())
}

fn read(
    model: &str,
    revision: &str,
    path: &Path,
    relative: &(dyn Fn(&Path) -> Result<String, Error> + Sync),
    cancel: &Cancel,
) -> Result<Found, Error> {
    if !path.is_dir() {
        return Err(Error::Data("there is no such folder".to_owned()));
    }
    let checkpoint = Checkpoint {
        model: model.to_owned(),
        revision: revision.to_owned(),
        step: step_of(revision),
        source: Source::Folder { path: relative(path)? },
        warning: None,
    };
    Ok(Found { checkpoint, files: files(path, cancel)? })
}

/// The files that are read of the checkpoint in `folder`, by name, with their digests.
pub(crate) fn files(folder: &Path, cancel: &Cancel) -> Result<Vec<SourceFile>, Error> {
    let source = CheckpointSource::open_variant(folder, None)?;
    let weights = source.checkpoint().files();
    let mut files: Vec<SourceFile> = Vec::new();
    for path in source.inputs().into_iter().filter(|path| path.is_file()) {
        // Shards may be in subfolders.
        let inside = path.strip_prefix(source.checkpoint().folder()).ok();
        let name = inside.or_else(|| path.file_name().map(Path::new)).unwrap_or(&path).to_string_lossy().into_owned();
        if name == CARD || files.iter().any(|file| file.name == name) {
            continue;
        }
        let bytes = fs::metadata(&path).map_err(Error::io(&path))?.len();
        let digest = format!("sha256:{}", sha256_file(&path, cancel)?);
        files.push(SourceFile { name, bytes, digest, is_weights: weights.contains(&path) });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}
