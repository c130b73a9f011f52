//! Where rows come from: files and folders of the user's, or the Hub's dataset repositories.

mod json;
mod local;
#[cfg(feature = "parquet")]
mod parquet;

use crate::{Error, Row, Rows, Task};
use std::path::{Path, PathBuf};

/// The name of the thread that reads Parquet. Its panics become errors, so a program need not report them.
pub const PARQUET_THREAD: &str = "pythia-parquet";

/// Extensions of files that are read, most wanted first.
const EXTENSIONS: [&str; 3] = ["jsonl", "json", "parquet"];

/// Where to look for datasets. By default nowhere, which is enough for users' own tasks.
#[derive(Default)]
pub struct Data {
    local: Option<PathBuf>,
    #[cfg(feature = "hub")]
    hub: Option<Hub>,
}

/// How to reach the Hub.
#[cfg(feature = "hub")]
struct Hub {
    settings: pythia_hub::Settings,
    cancel: pythia_task::Cancel,
    progress: std::sync::Arc<dyn pythia_task::Progress>,
}

impl Data {
    /// Looks only in `path`: a folder, or a file with the rows of the one task that is evaluated. See `docs/tasks.md` for
    /// the names of files in a folder.
    pub fn local(path: &Path) -> Self {
        let local = Some(path.to_owned());
        Self {
            local,
            #[cfg(feature = "hub")]
            hub: None,
        }
    }

    /// Looks in the cache of the Hub, and downloads what it lacks unless `settings` say to stay offline.
    #[cfg(feature = "hub")]
    pub fn hub(
        settings: pythia_hub::Settings,
        cancel: pythia_task::Cancel,
        progress: std::sync::Arc<dyn pythia_task::Progress>,
    ) -> Self {
        Self { hub: Some(Hub { settings, cancel, progress }), ..Self::default() }
    }

    /// The rows of `task`, and those that its examples are taken from if there are to be `shots` of them.
    ///
    /// # Errors
    /// If they are not found, or cannot be read.
    pub fn rows(&self, task: &Task, shots: usize) -> Result<Rows, Error> {
        let dataset = &task.dataset;
        let asked = self.split(task, &dataset.split)?;
        let same = match &dataset.files {
            Some(files) => files.examples.is_none(),
            None => dataset.example_split == dataset.split,
        };
        let examples = if shots == 0 || same { None } else { Some(self.split(task, &dataset.example_split)?) };
        Ok(Rows { asked, examples })
    }

    fn split(&self, task: &Task, split: &str) -> Result<Vec<Row>, Error> {
        if let Some(files) = &task.dataset.files {
            let examples = files.examples.as_deref().filter(|_| split == task.dataset.example_split);
            return read(examples.unwrap_or(&files.rows));
        }
        let files = match &self.local {
            Some(path) => local::find(path, task, split)?,
            None => self.fetch(task, split)?,
        };
        let mut rows = Vec::new();
        for file in files {
            rows.extend(read(&file)?);
        }
        Ok(rows)
    }
}

impl Data {
    /// The files of a split from the Hub.
    #[cfg(feature = "hub")]
    fn fetch(&self, task: &Task, split: &str) -> Result<Vec<PathBuf>, Error> {
        let dataset = &task.dataset;
        let Some(Hub { settings, cancel, progress }) = &self.hub else { return Err(no_data(task)) };
        let id = pythia_hub::DatasetId::parse(&dataset.repo)?;
        let progress = std::sync::Arc::clone(progress);
        Ok(pythia_hub::fetch_dataset(settings, &id, dataset.config.as_deref(), split, cancel, progress)?.files)
    }

    #[cfg(not(feature = "hub"))]
    fn fetch(&self, task: &Task, _split: &str) -> Result<Vec<PathBuf>, Error> {
        Err(no_data(task))
    }
}

fn no_data(task: &Task) -> Error {
    let (name, repo) = (&task.name, &task.dataset.repo);
    Error::Request(format!(
        "{name}: no place to look for rows of {repo}; name a folder, or build with the feature `hub`"
    ))
}

/// The rows of a file.
fn read(path: &Path) -> Result<Vec<Row>, Error> {
    match path.extension().and_then(|extension| extension.to_str()) {
        #[cfg(feature = "parquet")]
        Some("parquet") => parquet::read(path),
        #[cfg(not(feature = "parquet"))]
        Some("parquet") => {
            let problem = "Parquet, which this program was built without (feature `parquet`)";
            Err(Error::data(pythia_text::path(path), problem))
        }
        _ => json::read(path),
    }
}
