//! Tasks and groups of tasks.

mod clean;
mod columns;
mod examples;
mod form;
mod own;
mod table;

pub use examples::{Rows, Which};

use crate::{Error, Filter, Kind, Metric};
use examples::Sampler;
use form::Form;
use std::path::PathBuf;
use table::{GROUPS, TASKS};

/// A task: the rows of a dataset as questions, and what is measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Its name in lm-evaluation-harness, or its user's.
    pub name: String,
    /// Version of its definition, as in lm-evaluation-harness: `1.0`.
    pub version: f64,
    /// What it asks.
    pub kind: Kind,
    /// What is measured.
    pub metrics: Vec<Metric>,
    /// For generated texts, each of which is measured; otherwise [`Filter::none`] alone.
    pub filters: Vec<Filter>,
    /// Examples before each document, unless the user wants another number.
    pub shots: usize,
    /// Whether the user's wish for another number of examples is ignored, as in lm-evaluation-harness.
    pub has_fixed_shots: bool,
    /// Where its rows come from.
    pub dataset: Dataset,
    sampler: Sampler,
    form: Form,
}

/// The dataset of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// Repository on the Hub, `OWNER/NAME`; empty for a user's own task.
    pub repo: String,
    /// Its configuration, if it has several.
    pub config: Option<String>,
    /// The split whose rows are asked.
    pub split: String,
    /// The split that examples are taken from.
    pub example_split: String,
    /// Files that are used instead of the repository: those of a user's own task.
    pub(crate) files: Option<Files>,
}

/// Files of a user's own task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    /// Rows that are asked.
    pub(crate) rows: PathBuf,
    /// Rows that examples are taken from, if they are others.
    pub(crate) examples: Option<PathBuf>,
}

impl Task {
    /// The built-in task of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        TASKS.iter().find(|task| task.name == name)
    }

    /// All built-in tasks.
    pub fn all() -> &'static [Self] {
        &TASKS
    }

    /// Reads a user's own task from a TOML file. `docs/tasks.md` describes it.
    ///
    /// # Errors
    /// If the file cannot be read, or does not describe a task.
    pub fn open(path: &std::path::Path) -> Result<Self, Error> {
        own::open(path)
    }

    /// How many examples precede each document if the user wants `wanted`.
    pub fn shots(&self, wanted: Option<usize>) -> usize {
        wanted.filter(|_| !self.has_fixed_shots).unwrap_or(self.shots)
    }
}

/// A group of tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Version of its definition, if lm-evaluation-harness states one.
    pub version: Option<f64>,
    /// What belongs to it, in order.
    pub members: Vec<Member>,
    /// Metrics that are averaged over all tasks of the group, and how; empty if it is only a list.
    pub means: Vec<(Metric, Mean)>,
}

impl Group {
    /// The built-in group of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        GROUPS.iter().find(|group| group.name == name)
    }

    /// All built-in groups.
    pub fn all() -> &'static [Self] {
        &GROUPS
    }

    /// All tasks of the group and of the groups in it, each with the number of examples that the group wants.
    pub fn tasks(&self) -> Vec<(&'static Task, Option<usize>)> {
        let mut tasks = Vec::new();
        for member in &self.members {
            if let Some(task) = Task::find(&member.name) {
                tasks.push((task, member.shots));
            } else if let Some(group) = Self::find(&member.name) {
                tasks.extend(group.tasks().into_iter().map(|(task, shots)| (task, member.shots.or(shots))));
            }
        }
        tasks
    }
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Name of a task or group.
    pub name: String,
    /// Examples before each document, if not the task's own number.
    pub shots: Option<usize>,
}

/// How a group's value is made of its tasks'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mean {
    /// Weighted by the number of documents.
    BySize,
    /// The mean of the tasks' values.
    Plain,
}
