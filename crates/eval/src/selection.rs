//! Which tasks are evaluated, and their documents.

use crate::{Data, Doc, Error, Group, Task, Which, runner};
use pythia_task::{Cancel, Progress};
use std::path::Path;

/// Tasks by name, each with its number of examples, and the groups that they were named by.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// In the order in which they were named, each once.
    pub tasks: Vec<(Task, usize)>,
    /// Groups that were named, and groups in them.
    pub groups: Vec<&'static Group>,
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
            return Err(Error::Request("no task is named (--tasks list shows all)".to_owned()));
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
        match self.tasks.iter().find(|(known, _)| known.name == *name) {
            Some((known, _)) if known != &task => {
                Err(Error::Request(format!("two tasks are called {name}; results have one place for it")))
            }
            Some((_, other)) if *other != shots => Err(Error::Request(format!(
                "{name}: wanted with {other} examples and with {shots}; evaluate them separately, or say --num-fewshot"
            ))),
            Some(_) => Ok(()),
            None => {
                self.tasks.push((task, shots));
                Ok(())
            }
        }
    }

    /// Reads the documents.
    ///
    /// # Errors
    /// If rows are missing or wrong, or `cancel` is raised.
    pub fn load(
        &self,
        data: &Data,
        which: &Which,
        cancel: &Cancel,
        progress: &dyn Progress,
    ) -> Result<Vec<Work>, Error> {
        progress.expect(Some(self.tasks.len() as u64));
        let load = |(task, shots): &(Task, usize)| {
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
}

/// Says that a name is unknown, and which may be meant.
fn unknown(name: &str) -> String {
    let names = Task::all().iter().map(|task| &*task.name).chain(Group::all().iter().map(|group| &*group.name));
    let nearest = pythia_text::nearest_name(name, &names.collect::<Vec<_>>());
    let hint = nearest.map_or(String::new(), |known| format!("; did you mean '{known}'?"));
    format!("{name}: no such task{hint} (--tasks list shows all; a path of an own task ends in .{OWN})")
}
