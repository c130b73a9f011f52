//! Tasks through a model, their values, and those of groups.

use crate::measure::measure;
use crate::samples::{self, Sample};
use crate::statistics::{plain_stderr, pooled_stderr};
use crate::{Error, Group, Mean, Measured, Metric, Paired, Reply, Subject, Task, Work};
use pythia_task::{Cancel, Progress};

/// The values of a task.
#[derive(Clone, Debug)]
pub struct TaskResult {
    /// The task.
    pub task: Task,
    /// Examples before each document.
    pub shots: usize,
    /// Rows of the split.
    pub n_rows: usize,
    /// Numbers of the documents.
    pub ids: Vec<usize>,
    /// A value per filter and metric.
    pub measured: Vec<Measured>,
    /// Digest of all documents, prompts and targets, as the harness computes it.
    pub hash: String,
}

/// The value of a metric over a group.
#[derive(Clone, Debug)]
pub struct GroupValue {
    /// Which.
    pub metric: Metric,
    /// The filter.
    pub filter: String,
    /// The mean over the tasks.
    pub value: f64,
    /// Its standard error, if every task has one.
    pub stderr: Option<f64>,
    /// Documents of the tasks that have the metric.
    pub n_docs: usize,
}

/// The values of a group.
#[derive(Clone, Debug)]
pub struct GroupResult {
    /// The group.
    pub group: &'static Group,
    /// Documents of all its tasks.
    pub n_docs: usize,
    /// Its means; empty if it is only a list.
    pub values: Vec<GroupValue>,
}

/// Evaluates a task. `each` is given every sample, in the order of the harness.
///
/// # Errors
/// If the model fails, a request does not fit it, the run is cancelled, or `each` fails.
pub fn evaluate(
    subject: &mut Subject,
    work: &Work,
    cancel: &Cancel,
    progress: &dyn Progress,
    each: &mut dyn FnMut(&Sample<'_>) -> Result<(), Error>,
) -> Result<TaskResult, Error> {
    let Work { task, shots, docs, n_rows } = work;
    let replies: Vec<Vec<Reply>> = subject.replies(&task.name, docs, cancel, progress)?;
    let measured = measure(task, docs, &replies, &|| cancel.is_raised())?;
    if cancel.is_raised() {
        return Err(Error::Cancelled);
    }
    let hash = samples::each(task, docs, &replies, &measured, each)?;
    let ids = docs.iter().map(|doc| doc.id).collect();
    Ok(TaskResult { task: task.clone(), shots: *shots, n_rows: *n_rows, ids, measured, hash })
}

impl TaskResult {
    /// The value of a metric.
    fn measured(&self, metric: Metric, filter: &str) -> Option<&Measured> {
        self.measured.iter().find(|measured| measured.metric == metric && measured.filter == filter)
    }

    /// What this model has more than `base`, for each of its metrics. `None` if the documents are others.
    pub fn paired(&self, base: &Self) -> Option<Vec<Paired>> {
        if self.ids != base.ids || self.hash != base.hash {
            return None;
        }
        let paired = |model: &Measured| {
            let base = base.measured(model.metric, &model.filter)?;
            let (of_base, of_model) = (base.influence(), model.influence());
            let difference = model.value - base.value;
            Some(Paired::new(difference, &self.ids, (&of_base, &of_model), model.metric.is_binary()))
        };
        self.measured.iter().map(paired).collect()
    }
}

impl GroupResult {
    /// The values of a group, from those of its tasks. `None` if one is missing.
    pub fn of(group: &'static Group, results: &[TaskResult]) -> Option<Self> {
        let find = |task: &Task| results.iter().find(|result| result.task.name == task.name);
        let tasks: Vec<&TaskResult> = group.tasks().into_iter().map(|(task, _)| find(task)).collect::<Option<_>>()?;
        let mut values = Vec::new();
        for &(metric, mean) in &group.means {
            let mut filters: Vec<&str> = Vec::new();
            for measured in tasks.iter().flat_map(|task| &task.measured).filter(|measured| measured.metric == metric) {
                if !filters.contains(&measured.filter.as_str()) {
                    filters.push(&measured.filter);
                }
            }
            filters.sort_unstable();
            values.extend(filters.into_iter().map(|filter| GroupValue::of(metric, filter, mean, &tasks)));
        }
        Some(Self { group, n_docs: tasks.iter().map(|task| task.ids.len()).sum(), values })
    }
}

impl GroupValue {
    fn of(metric: Metric, filter: &str, mean: Mean, tasks: &[&TaskResult]) -> Self {
        let parts = tasks.iter().filter_map(|task| Some((task.measured(metric, filter)?, task.ids.len())));
        let parts: Vec<(&Measured, usize)> = parts.collect();
        let weight = |size: usize| if mean == Mean::BySize { size as f64 } else { 1.0 };
        let weights: f64 = parts.iter().map(|part| weight(part.1)).sum();
        let value = parts.iter().map(|(measured, size)| measured.value * weight(*size)).sum::<f64>() / weights;
        let stderrs: Option<Vec<(f64, usize)>> =
            parts.iter().map(|(measured, size)| Some((measured.stderr?, *size))).collect();
        let stderr = stderrs.map(|parts| match mean {
            Mean::BySize => pooled_stderr(&parts),
            Mean::Plain => plain_stderr(&parts.iter().map(|part| part.0).collect::<Vec<_>>()),
        });
        let n_docs = parts.iter().map(|part| part.1).sum();
        Self { metric, filter: filter.to_owned(), value, stderr, n_docs }
    }

    /// The name in results: `acc,none`.
    pub fn key(&self) -> String {
        format!("{},{}", self.metric.name(), self.filter)
    }
}
