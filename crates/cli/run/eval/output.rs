//! Files of an evaluation. Each appears whole or not at all.

use super::super::writing::Writing;
use crate::exit::Failure;
use pythia_convert::output::MadeFolders;
use pythia_eval::{Error, sanitize};
use pythia_show::iso_time;
use serde_json::Value;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The folder of a model.
pub(super) struct Output {
    folder: PathBuf,
    /// Removed again if nothing is written there.
    made: Cell<Option<MadeFolders>>,
    /// In the names of all files.
    time: String,
}

impl Output {
    /// Makes the folders of models with these names.
    pub(super) fn create(folder: &Path, names: &[String], start: SystemTime) -> Result<Vec<Self>, Failure> {
        let since = start.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = iso_time(since.as_secs()).replace(':', "-");
        let time = format!("{}.{:06}", seconds.trim_end_matches('Z'), since.subsec_micros());
        let create = |name: &String| {
            let folder = folder.join(sanitize(name));
            let made = Cell::new(Some(MadeFolders::create(&folder)?));
            Ok(Self { folder, made, time: time.clone() })
        };
        names.iter().map(create).collect()
    }

    /// Writes the results.
    pub(super) fn write_results(&self, results: &Value) -> Result<(), Failure> {
        let path = self.folder.join(format!("results_{}.json", self.time));
        let mut file = Writing::create(&path, true)?;
        // The alternate form is indented.
        file.write(format_args!("{results:#}")).map_err(|e| Failure::at(&path, &e))?;
        file.finish(false)?;
        self.made.take().map_or(Ok(()), |made| Ok(made.keep()?))
    }

    /// Starts the samples of a task.
    pub(super) fn samples(&self, task: &str) -> Result<Samples, Failure> {
        let name = format!("samples_{}_{}.jsonl", sanitize(task), self.time);
        Ok(Samples(Writing::create(&self.folder.join(name), true)?))
    }
}

/// The samples of a task.
pub(super) struct Samples(Writing);

impl Samples {
    /// Adds a line.
    pub(super) fn push(&mut self, sample: &Value) -> Result<(), Error> {
        let written = self.0.write(format_args!("{sample}\n"));
        written.map_err(|source| Error::Io { path: self.0.path().to_owned(), source })
    }

    /// Gives the file its name.
    pub(super) fn finish(self) -> Result<(), Failure> {
        self.0.finish(false)
    }
}
