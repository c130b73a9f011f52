//! Plans a sweep: finds the checkpoints, puts those with the same files into one group, and lists the cells.

use crate::folder::{self, Found, FoundAll};
use crate::id::{self, CellId};
use crate::manifest::{Cell, Group, Manifest, SourceFile};
use crate::spec::{Measure, PLAIN, Recipe, Spec};
use crate::steps::Steps;
use crate::{Error, estimate, result};
use pythia_task::{Cancel, Progress};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::path::{Component, Path, PathBuf};

/// More cells than this are a mistake: every model of the suite, seeds too, at every step and every level have fewer.
const MAX_CELLS: usize = 10_000_000;

/// What a sweep is planned of.
pub struct Request {
    /// The models.
    pub models: Vec<Model>,
    /// Which revisions of each.
    pub steps: Steps,
    /// What is measured.
    pub spec: Spec,
    /// Tokens that a recipe runs for the tasks, about.
    pub task_tokens: u64,
    /// The program, with its version.
    pub program: String,
    /// Raised to stop.
    pub cancel: Cancel,
}

/// Where the checkpoints of a model are.
#[derive(Clone, Debug)]
pub enum Model {
    /// In a folder with subfolders called `stepN`, or in a folder that is a checkpoint.
    Folder(PathBuf),
    /// On the Hub.
    #[cfg(feature = "hub")]
    Hub(pythia_hub::ModelId),
}

/// Finds the checkpoints and lists the cells of a sweep in `sweep`, a folder that may not exist yet. Nothing is
/// written. `progress` counts checkpoints of one model after the other.
///
/// # Errors
/// If a model is not there at all, there are no checkpoints, or the request is invalid. A checkpoint that is not there
/// is in [`Manifest::missing`].
pub fn plan(
    request: &Request,
    sweep: &Path,
    #[cfg(feature = "hub")] hub: &pythia_hub::Settings,
    progress: &std::sync::Arc<dyn Progress>,
) -> Result<Manifest, Error> {
    let relative = |path: &Path| relative(path, sweep);
    let mut all = FoundAll::default();
    for model in &request.models {
        let of_model = match model {
            Model::Folder(path) => folder::find(path, &request.steps, &relative, &request.cancel, &**progress)?,
            #[cfg(feature = "hub")]
            Model::Hub(id) => crate::remote::find(hub, id, &request.steps, &request.cancel, progress)?,
        };
        all.found.extend(of_model.found);
        all.missing.extend(of_model.missing);
    }
    manifest(all, request)
}

/// The manifest of the checkpoints that were found.
fn manifest(all: FoundAll, request: &Request) -> Result<Manifest, Error> {
    let spec = &request.spec;
    if all.found.is_empty() {
        let missing = all.missing.first().map(|one| format!("; {}@{}: {}", one.model, one.revision, one.reason));
        return Err(Error::Data(format!("there are no checkpoints{}", missing.unwrap_or_default())));
    }
    let per_checkpoint = spec.recipes.len() * spec.measures.len();
    if all.found.len().saturating_mul(per_checkpoint) > MAX_CELLS {
        return Err(Error::Request(format!("more than {MAX_CELLS} cells")));
    }
    let mut groups: Vec<Group> = Vec::new();
    let mut places: HashMap<Vec<SourceFile>, usize> = HashMap::new();
    let mut names = HashMap::new();
    for Found { checkpoint, files } in all.found {
        let name = (checkpoint.model.clone(), checkpoint.revision.clone());
        if names.insert(name, ()).is_some() {
            let problem = "two models of this name; name each once";
            return Err(Error::Request(format!("{}: {problem}", checkpoint.name())));
        }
        let place = *places.entry(files.clone()).or_insert_with(|| {
            let estimate = estimate::estimate(&files, spec, request.task_tokens);
            let group = id::hex_of(&files);
            groups.push(Group { group, checkpoints: Vec::new(), files, estimate });
            groups.len() - 1
        });
        groups[place].checkpoints.push(checkpoint);
    }
    // A stable sort: among equal ones, the order of models and steps.
    groups.sort_by(|a, b| b.estimate.core_seconds.total_cmp(&a.estimate.core_seconds));
    let mut cells =
        Vec::with_capacity(groups.iter().map(|group| group.checkpoints.len()).sum::<usize>() * per_checkpoint);
    let mut ids = HashSet::new();
    for (g, group) in groups.iter().enumerate() {
        for (c, checkpoint) in group.checkpoints.iter().enumerate() {
            for (m, measure) in spec.measures.iter().enumerate() {
                for (r, recipe) in spec.recipes.iter().enumerate() {
                    let id =
                        Identity::new(&checkpoint.model, &checkpoint.revision, &group.group, spec, recipe, measure);
                    if !ids.insert(CellId::of(&id)) {
                        let problem = "two measures are the same: each text and length of chunks once";
                        return Err(Error::Request(problem.to_owned()));
                    }
                    cells.push(Cell { id: CellId::of(&id), group: g, checkpoint: c, recipe: r, measure: m });
                }
            }
        }
    }
    Ok(Manifest { program: request.program.clone(), spec: spec.clone(), groups, cells, missing: all.missing })
}

/// All that the values of a cell depend on, and nothing of the machine: its id is a digest of it. The commit is not part of
/// it, because the digests of the files are: a new model card changes no value. (It changes the digest of the GGUF file,
/// which names commit and license.)
#[derive(Serialize)]
struct Identity<'a> {
    format: &'static str,
    model: &'a str,
    revision: &'a str,
    /// Digest of the files of the checkpoint.
    files: &'a str,
    recipe: &'a Recipe,
    base_level: Option<&'a str>,
    /// Digest and reading of the calibration text, for recipes that use it.
    calibration: Option<(&'a str, bool)>,
    activations: &'a str,
    gelu: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    keeps_chunks: bool,
    measure: Measured<'a>,
}

/// A measure without names and paths.
#[derive(Serialize)]
enum Measured<'a> {
    Text { sha256: &'a str, unix_text: bool, n_ctx: usize, max_chunks: Option<usize> },
    Tasks { sha256: &'a str },
}

impl<'a> Identity<'a> {
    fn new(
        model: &'a str,
        revision: &'a str,
        files: &'a str,
        spec: &'a Spec,
        recipe: &'a Recipe,
        measure: &'a Measure,
    ) -> Self {
        let calibration = spec.calibration.as_ref().filter(|_| recipe.quantizer != PLAIN);
        let measure = match measure {
            Measure::Text { text, n_ctx, max_chunks } => Measured::Text {
                sha256: &text.sha256,
                unix_text: text.unix_text,
                n_ctx: *n_ctx,
                max_chunks: *max_chunks,
            },
            Measure::Tasks { sha256, .. } => Measured::Tasks { sha256 },
        };
        Self {
            format: result::FORMAT,
            model,
            revision,
            files,
            recipe,
            base_level: spec.base_level.as_deref(),
            calibration: calibration.map(|text| (text.sha256.as_str(), text.unix_text)),
            activations: &spec.activations,
            gelu: spec.gelu.as_deref(),
            keeps_chunks: spec.keeps_chunks,
            measure,
        }
    }
}

/// How the manifest in the folder `sweep` names `path`: as it is if it is absolute. Otherwise from the folder of the
/// sweep, so that both can be moved together.
///
/// # Errors
/// If the path is not text, or does not exist.
pub fn relative(path: &Path, sweep: &Path) -> Result<String, Error> {
    let text = |path: &Path| {
        let named = path.to_str().map(str::to_owned);
        named.ok_or_else(|| Error::Request(format!("{}: the path is not text", pythia_text::path(path))))
    };
    if path.is_absolute() {
        return text(path);
    }
    let target = std::fs::canonicalize(path).map_err(Error::io(path))?;
    // The folder may not exist yet.
    let from = std::path::absolute(sweep).map_err(Error::io(sweep))?;
    let from = (from.ancestors().find_map(|there| {
        let rest = from.strip_prefix(there).ok()?;
        Some(std::fs::canonicalize(there).ok()?.join(rest))
    }))
    .unwrap_or(from.clone());
    let shared = from.components().zip(target.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(shared).filter(|part| *part != Component::CurDir).map(|_| Component::ParentDir);
    text(&up.chain(target.components().skip(shared)).collect::<PathBuf>())
}
