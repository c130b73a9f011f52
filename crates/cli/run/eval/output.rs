//! Files of an evaluation. Each appears whole or not at all.

use crate::exit::{self, Failure};
use pythia_convert::output::{AtomicFile, MadeFolders};
use pythia_eval::{Error, sanitize};
use pythia_show::iso_time;
use serde_json::Value;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The folder of a model.
pub(super) struct Output {
    folder: PathBuf,
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
            MadeFolders::create(&folder)?.keep()?;
            Ok(Self { folder, time: time.clone() })
        };
        names.iter().map(create).collect()
    }

    /// Writes the results.
    pub(super) fn write_results(&self, results: &Value) -> Result<(), Failure> {
        let mut file = Writing::create(self.folder.join(format!("results_{}.json", self.time)))?;
        let text = serde_json::to_string_pretty(results).map_err(|e| Failure::io(format_args!("results: {e}")))?;
        file.write(&text)?;
        file.finish()
    }

    /// Starts the samples of a task.
    pub(super) fn samples(&self, task: &str) -> Result<Samples, Failure> {
        let name = format!("samples_{}_{}.jsonl", sanitize(task), self.time);
        Ok(Samples(Writing::create(self.folder.join(name))?))
    }
}

/// The samples of a task.
pub(super) struct Samples(Writing);

impl Samples {
    /// Adds a line.
    pub(super) fn push(&mut self, sample: &Value) -> Result<(), Error> {
        self.0.write(&format!("{sample}\n"))
    }

    /// Gives the file its name.
    pub(super) fn finish(self) -> Result<(), Failure> {
        self.0.finish()
    }
}

struct Writing {
    file: AtomicFile,
    writer: BufWriter<File>,
}

impl Writing {
    fn create(path: PathBuf) -> Result<Self, Failure> {
        let file = AtomicFile::create(&path, 0, &exit::Notes { quiet: true })?;
        let writer = BufWriter::new(file.file().try_clone().map_err(|e| Failure::at(&path, &e))?);
        Ok(Self { file, writer })
    }

    fn write(&mut self, text: &str) -> Result<(), Error> {
        let path = self.file.target();
        self.writer.write_all(text.as_bytes()).map_err(|source| Error::Io { path: path.to_owned(), source })
    }

    fn finish(mut self) -> Result<(), Failure> {
        self.writer.flush().map_err(|e| Failure::at(self.file.target(), &e))?;
        Ok(self.file.commit(false)?)
    }
}
