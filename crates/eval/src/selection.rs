//! Which tasks are evaluated, and their documents.

use crate::{Data, Doc, Error, Group, Task, Which, runner};
use pythia_task::{Cancel, Progress};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;

/// Tasks by name, and the groups that they were named by.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// In the order in which they were named, each once.
    pub tasks: Vec<Selected>,
    /// Groups that were named, and groups in them.
    pub groups: Vec<&'static Group>,
}

/// A task that was named.
#[derive(Clone, Debug)]
pub struct Selected {
    /// The task.
    pub task: Task,
    /// Examples before each document.
    pub shots: usize,
    /// Documents.
    pub which: Which,
}

/// A task with its documents.
#[derive(Clone, Debug)]
pub struct Work {
    /// The task.
    pub task: Task,
    /// Examples before each document.
    pub shots: usize,
    /// The documents.
    pub docs: Vec<Doc>,
    /// Rows of the split: more than documents if not all were wanted.
    pub n_rows: usize,
}

/// Name endings of files that describe a user's own task.
const OWN: &str = "toml";

impl Selection {
    /// The tasks of these names: tasks, groups, or paths of TOML files that describe a user's own. `shots` overrides the
    /// number of examples, where it may.
    ///
    /// # Errors
    /// If a name is unknown, a file does not describe a task, or a task is wanted with two numbers of examples.
    pub fn new<S: AsRef<str>>(names: &[S], shots: Option<usize>) -> Result<Self, Error> {
        let mut selection = Self::default();
        for name in names.iter().map(S::as_ref) {
            if let Some(group) = Group::find(name) {
                selection.add_group(group);
                for (task, wanted) in group.tasks() {
                    selection.add(task.clone(), shots.or(wanted))?;
                }
            } else if let Some(task) = Task::find(name) {
                selection.add(task.clone(), shots)?;
            } else if Path::new(name).extension().is_some_and(|extension| extension == OWN) {
                selection.add(Task::open(Path::new(name))?, shots)?;
            } else {
                return Err(Error::Request(unknown(name)));
            }
        }
        if selection.tasks.is_empty() {
            return Err(Error::Request("no task is named (pythia-run eval --tasks list shows all)".to_owned()));
        }
        Ok(selection)
    }

    fn add_group(&mut self, group: &'static Group) {
        if !self.groups.iter().any(|known| known.name == group.name) {
            self.groups.push(group);
        }
        group.members.iter().filter_map(|member| Group::find(&member.name)).for_each(|group| self.add_group(group));
    }

    fn add(&mut self, task: Task, wanted: Option<usize>) -> Result<(), Error> {
        let shots = task.shots(wanted);
        let name = &task.name;
        match self.tasks.iter().find(|known| known.task.name == *name) {
            Some(known) if known.task != task => {
                Err(Error::Request(format!("two tasks are called {name}; results have one place for it")))
            }
            Some(Selected { shots: other, .. }) if *other != shots => Err(Error::Request(format!(
                "{name}: wanted with {other} examples and with {shots}; evaluate them separately, or say --num-fewshot"
            ))),
            Some(_) => Ok(()),
            None => {
                self.tasks.push(Selected { task, shots, which: Which::All });
                Ok(())
            }
        }
    }

    /// Only the first `n` documents of each task.
    pub fn limit(&mut self, n: usize) {
        self.tasks.iter_mut().for_each(|selected| selected.which = Which::First(n));
    }

    /// Only some documents, by their numbers from 0, in JSON as lm-evaluation-harness reads it: `{"piqa": [0, 7]}`. A task
    /// that is not named there keeps its documents. Which documents there are is known when they are [loaded](Self::load).
    ///
    /// # Errors
    /// If this is not such a list, or names a task that is not selected.
    pub fn choose(&mut self, json: &str) -> Result<(), Error> {
        let wrong = |problem: String| Error::Request(format!("samples: {problem}"));
        let chosen: BTreeMap<String, Vec<usize>> = serde_json::from_str(json)
            .map_err(|e| wrong(format!("{e}; wanted numbers of documents by task, as {{\"piqa\": [0, 7]}}")))?;
        for (name, mut ids) in chosen {
            let selected = self.tasks.iter_mut().find(|selected| selected.task.name == name);
            let selected = selected.ok_or_else(|| wrong(format!("{name} is none of the tasks")))?;
            if ids.is_empty() {
                return Err(wrong(format!("no document of {name}")));
            }
            ids.sort_unstable();
            ids.dedup();
            selected.which = Which::These(ids);
        }
        Ok(())
    }

    /// The numbers of documents that were chosen, by task.
    pub fn chosen(&self) -> BTreeMap<&str, &[usize]> {
        let chosen = self.tasks.iter().filter_map(|selected| match &selected.which {
            Which::These(ids) => Some((selected.task.name.as_str(), ids.as_slice())),
            _ => None,
        });
        chosen.collect()
    }

    /// Reads the documents.
    ///
    /// # Errors
    /// If rows are missing or wrong, or `cancel` is raised.
    pub fn load(&self, data: &Data, cancel: &Cancel, progress: &dyn Progress) -> Result<Vec<Work>, Error> {
        progress.expect(Some(self.tasks.len() as u64));
        let load = |Selected { task, shots, which }: &Selected| {
            if cancel.is_raised() {
                return Err(Error::Cancelled);
            }
            let rows = data.rows(task, *shots)?;
            let n_rows = rows.asked.len();
            let docs = task.documents(rows, *shots, which)?;
            progress.advance(&task.name, 1);
            Ok(Work { task: task.clone(), shots: *shots, docs, n_rows })
        };
        self.tasks.iter().map(load).collect()
    }
}

impl Work {
    /// A measure of its work, in which progress is counted.
    pub fn size(&self) -> u64 {
        self.docs.iter().map(runner::size).sum()
    }

    /// SHA-256 of all that the values depend on, hexadecimal: what is asked, what is right, and how it is measured.
    pub fn sha256(&self) -> String {
        let mut hasher = Sha256::new();
        let Task { name, version, metrics, filters, .. } = &self.task;
        // As for debugging, texts are in quotes, so the parts cannot run into each other.
        hasher.update(format!("{name:?} {version:?} {metrics:?} {filters:?} {}\n", self.shots));
        for Doc { id, target, asks, .. } in &self.docs {
            hasher.update(format!("{id} {target:?} {asks:?}\n"));
        }
        pythia_text::hex(&hasher.finalize())
    }
}

/// Says that a name is unknown, and which may be meant.
fn unknown(name: &str) -> String {
    let names = Task::all().iter().map(|task| &*task.name).chain(Group::all().iter().map(|group| &*group.name));
    let nearest = pythia_text::nearest_name(name, &names.collect::<Vec<_>>());
    let hint = nearest.map_or(String::new(), |known| format!("; did you mean '{known}'?"));
    format!("{name}: no such task{hint} (pythia-run eval --tasks list shows all; a path of an own task ends in .{OWN})")
}
