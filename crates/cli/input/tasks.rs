//! Tasks, and their documents: local ones, or those of the Hub.

use crate::exit::{self, Failure};
use crate::progress::{Bar, Unit};
use pythia_eval::{Data, Selection, Work};
use std::panic;
use std::path::{Path, PathBuf};
use std::thread;

/// The longest list of documents.
const MAX_SAMPLES_BYTES: u64 = 16 << 20;

/// Which documents of which tasks. Names that lm-evaluation-harness gives its options are known too.
#[derive(Debug, clap::Args)]
pub(crate) struct TaskOptions {
    /// Tasks and groups to evaluate, by name, and TOML files of your own tasks; `pythia-run eval --tasks list` shows all
    /// names
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) tasks: Vec<String>,
    /// Examples before each document [default: what the task or group says]
    #[arg(long, alias = "num_fewshot", value_name = "N", requires = "tasks")]
    num_fewshot: Option<usize>,
    /// Only the first N documents of each task
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), requires = "tasks")]
    limit: Option<u64>,
    /// Only the documents with these numbers, from 0: {"piqa": [0, 7]}, or a file with that; other tasks keep all
    #[arg(long, value_name = "JSON", requires = "tasks", conflicts_with = "limit")]
    samples: Option<String>,
    /// Folder or file of local datasets, JSONL or Parquet; otherwise they come from the Hub
    #[arg(long, value_name = "PATH", requires = "tasks")]
    pub(crate) data: Option<PathBuf>,
}

impl TaskOptions {
    /// These tasks, as a sweep keeps them.
    pub(crate) fn new(tasks: Vec<String>, shots: Option<usize>, limit: Option<usize>, data: Option<PathBuf>) -> Self {
        Self { tasks, num_fewshot: shots, limit: limit.map(|n| n as u64), samples: None, data }
    }

    /// Examples before each document, if the command line says so.
    pub(crate) fn shots(&self) -> Option<usize> {
        self.num_fewshot
    }

    /// Whether only some documents are named.
    pub(crate) fn names_samples(&self) -> bool {
        self.samples.is_some()
    }

    /// The tasks.
    ///
    /// # Errors
    /// If there are none, or one of the options is wrong.
    pub(crate) fn selection(&self) -> Result<Selection, Failure> {
        let mut selection = Selection::new(&self.tasks, self.num_fewshot)?;
        if let Some(n) = self.n_documents() {
            selection.limit(n);
        }
        if let Some(json) = self.samples_json()? {
            selection.choose(&json)?;
        }
        Ok(selection)
    }

    /// Their documents.
    ///
    /// # Errors
    /// If they cannot be read, or are not those of the tasks.
    pub(crate) fn load(&self, selection: &Selection, offline: bool, quiet: bool) -> Result<Vec<Work>, Failure> {
        let data = datasets(self.data.as_deref(), offline, quiet)?;
        leave_out_panics_of(pythia_eval::PARQUET_THREAD);
        let bar = Bar::new(0, Unit::Items("datasets"), quiet);
        Ok(selection.load(&data, exit::catch_interrupts(), &bar)?)
    }

    /// Documents per task, if limited.
    pub(crate) fn n_documents(&self) -> Option<usize> {
        self.limit.map(|n| usize::try_from(n).unwrap_or(usize::MAX))
    }

    /// What `--samples` says, or the file that it names.
    fn samples_json(&self) -> Result<Option<String>, Failure> {
        match &self.samples {
            Some(text) if text.trim_start().starts_with('{') => Ok(Some(text.clone())),
            Some(path) => super::read_text(Path::new(path), MAX_SAMPLES_BYTES).map(Some),
            None => Ok(None),
        }
    }
}

/// Panics of threads of this name are errors of files: nobody need read a backtrace of them.
fn leave_out_panics_of(name: &'static str) {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if thread::current().name() != Some(name) {
            usual(panic);
        }
    }));
}

/// Where datasets come from: `path` if there is one, else the Hub.
///
/// # Errors
/// If a setting of the environment is invalid.
fn datasets(path: Option<&Path>, offline: bool, quiet: bool) -> Result<Data, Failure> {
    match path {
        Some(path) => Ok(Data::local(path)),
        #[cfg(feature = "hub")]
        None => super::hub::datasets(offline, quiet),
        // Enough for tasks that name their own files.
        #[cfg(not(feature = "hub"))]
        None => {
            let _ = (offline, quiet);
            Ok(Data::default())
        }
    }
}
