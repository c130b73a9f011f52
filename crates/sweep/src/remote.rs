//! Checkpoints on the Hugging Face Hub: which there are, from lists alone.

use crate::Error;
use crate::folder::{CARD, Found, FoundAll};
use crate::manifest::{Checkpoint, Missing, Source, SourceFile};
use crate::steps::{Steps, step_of};
use pythia_hub::{Listed, ModelId, Revisions, Settings, branched_steps, survey};
use pythia_task::{Cancel, Progress};
use std::sync::Arc;

/// The checkpoints of a model. Nothing of them is downloaded.
pub(crate) fn find(
    settings: &Settings,
    id: &ModelId,
    steps: &Steps,
    cancel: &Cancel,
    progress: &Arc<dyn Progress>,
) -> Result<FoundAll, Error> {
    let named = match steps.fixed() {
        Some(named) => Some(named),
        None if steps.is_all() => None,
        None => Some(steps.revisions(&branched_steps(settings, id, cancel, Arc::clone(progress))?)),
    };
    let wanted = named.map_or(Revisions::AllSteps, Revisions::Named);
    let mut all = FoundAll::default();
    for Listed { revision, commit, files, problem, warning } in
        survey(settings, id, &wanted, cancel, Arc::clone(progress))?
    {
        let model = id.name().to_owned();
        if let Some(reason) = problem {
            all.missing.push(Missing { model, revision, reason });
            continue;
        }
        let step = step_of(&revision);
        let source = Source::Hub { repo: id.repo(), commit };
        let checkpoint = Checkpoint { model, revision, step, source, warning };
        let file = |file: pythia_hub::ListedFile| SourceFile {
            name: file.name,
            bytes: file.bytes,
            digest: file.digest,
            is_weights: file.is_weights,
        };
        let mut files: Vec<SourceFile> = files.into_iter().map(file).filter(|file| file.name != CARD).collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        all.found.push(Found { checkpoint, files });
    }
    Ok(all)
}
