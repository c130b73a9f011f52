//! Tasks through every file: what a level costs in accuracy.

use crate::cache::folder::{Folder, program_id};
use crate::facts::Facts;
use crate::report::{LevelTasks, TaskValue, Tasks};
use crate::{Candidate, Error, Observer, Request, Stage};
use pythia_eval::{Keeping, Paired, Subject, TaskResult, Work, evaluate};
use pythia_runtime::{Arithmetic, Device, Tokenizer};
use pythia_text::counted;
use sha2::{Digest, Sha256};

/// Evaluates the request's tasks on every file, one after the other. Replies are kept in `folder`. `None` if there are no
/// tasks.
pub(crate) fn run(
    request: &Request,
    device: &Device,
    candidates: &[Candidate],
    facts: &[Facts],
    folder: Option<&Folder>,
    observer: &dyn Observer,
) -> Result<Option<Tasks>, Error> {
    let Request { tasks: works, options, cancel, fresh, .. } = request;
    if works.is_empty() {
        return Ok(None);
    }
    observer.step(&format!("{} on {}", counted(works.len(), "task"), counted(candidates.len(), "file")));
    let progress = observer.begin(Stage::Tasks);
    progress.expect(Some(candidates.len() as u64 * works.iter().map(Work::size).sum::<u64>()));
    let mut base: Vec<TaskResult> = Vec::new();
    let mut levels = Vec::new();
    for (candidate, facts) in candidates.iter().zip(facts) {
        let model = device.open(&candidate.path, options)?;
        let at = |error: pythia_runtime::Error| Error::Score(error.at(pythia_text::path(&candidate.path)));
        let tokenizer = Tokenizer::from_gguf(&model.gguf().metadata).map_err(|e| at(e.into()))?;
        let Arithmetic { activations, gelu, kv_cache } = Arithmetic::of(model.options());
        let setting = [model.device(), model.isa_name(), activations, gelu, kv_cache].join(", ");
        let key = pythia_text::hex(&Sha256::digest([program_id(), setting, facts.id()].join("\n")));
        let mut subject = Subject::new(model, tokenizer);
        match folder.map(|folder| subject.keep_in(folder.path(), &key, *fresh)) {
            None | Some(Ok(Keeping::ByThis(_))) => {}
            Some(Ok(Keeping::ByOther)) => {
                observer.note(&format!("{}: another run keeps its replies, this one does not", candidate.name))
            }
            Some(Ok(Keeping::Nowhere)) => observer.note("replies are not kept: the file system knows no locks"),
            Some(Err(error)) => observer.note(&format!("replies cannot be kept: {error}")),
        }
        let mut results = Vec::new();
        for work in works {
            results.push(evaluate(&mut subject, work, cancel, &*progress, &mut |_| Ok(()))?);
        }
        let values = results.iter().enumerate().flat_map(|(i, result)| values(result, base.get(i)));
        levels.push(LevelTasks { name: candidate.name.clone(), values: values.collect() });
        if base.is_empty() {
            base = results;
        }
    }
    Ok(Some(Tasks { levels }))
}

/// The values of a task. `base` is what the base has in it.
fn values(result: &TaskResult, base: Option<&TaskResult>) -> Vec<TaskValue> {
    let paired: Vec<Option<Paired>> = match base.and_then(|base| result.paired(base)) {
        Some(paired) => paired.into_iter().map(Some).collect(),
        None => vec![None; result.measured.len()],
    };
    let value = |(measured, paired): (&pythia_eval::Measured, Option<Paired>)| TaskValue {
        task: result.task.name.clone(),
        metric: measured.metric.name().to_owned(),
        filter: measured.filter.clone(),
        shots: result.shots,
        documents: result.ids.len(),
        is_share: measured.metric.higher_is_better(),
        value: measured.value,
        stderr: measured.stderr,
        against_base: paired,
    };
    result.measured.iter().zip(paired).map(value).collect()
}
