//! Files of a dataset in a user's folder.

use super::EXTENSIONS;
use crate::{Error, Task};
use std::fs;
use std::path::{Path, PathBuf};

/// The files of a split below `path`, or `path` itself if it is a file.
pub(super) fn find(path: &Path, task: &Task, split: &str) -> Result<Vec<PathBuf>, Error> {
    let dataset = &task.dataset;
    let is_asked = split == dataset.split;
    let metadata = fs::metadata(path).map_err(Error::io(path))?;
    if !metadata.is_dir() {
        if is_asked {
            return Ok(vec![path.to_owned()]);
        }
        let problem =
            format!("a file has the rows of one split; examples of {} come from the split {split}", task.name);
        return Err(Error::data(pythia_text::path(path), problem));
    }
    let name = &task.name;
    let mut places = vec![(path.to_owned(), format!("{name}.{split}"))];
    if is_asked {
        places.insert(0, (path.to_owned(), name.clone()));
    }
    let repo = path.join(&dataset.repo);
    match dataset.config.as_deref() {
        None | Some("default") => {
            places.push((repo.clone(), split.to_owned()));
            places.push((repo.join("data"), split.to_owned()));
            places.push((repo.join("default"), split.to_owned()));
        }
        Some(config) => places.push((repo.join(config), split.to_owned())),
    }
    for (folder, stem) in &places {
        let files = files(folder, stem)?;
        if !files.is_empty() {
            return Ok(files);
        }
    }
    let shown = |(folder, stem): &(PathBuf, String)| {
        let folder = folder.strip_prefix(path).unwrap_or(folder);
        folder.join(stem).display().to_string()
    };
    let tried: Vec<String> = places.iter().map(shown).collect();
    let problem = format!(
        "no rows of {name}, split {split}; looked for {} with the ending {}",
        tried.join(", "),
        EXTENSIONS.map(|extension| format!(".{extension}")).join(", ")
    );
    Err(Error::data(pythia_text::path(path), problem))
}

/// `STEM.EXTENSION`, or all of `STEM-00000-of-00002.EXTENSION` and so on.
fn files(folder: &Path, stem: &str) -> Result<Vec<PathBuf>, Error> {
    for extension in EXTENSIONS {
        let whole = folder.join(format!("{stem}.{extension}"));
        if whole.is_file() {
            return Ok(vec![whole]);
        }
        // The number of parts is in the name of each.
        let Some(n) = parts(folder, stem, extension) else { continue };
        let all: Vec<PathBuf> = (0..n).map(|i| folder.join(format!("{stem}-{i:05}-of-{n:05}.{extension}"))).collect();
        if let Some(missing) = all.iter().find(|path| !path.is_file()) {
            return Err(Error::data(pythia_text::path(missing), format!("missing, one of {n} parts")));
        }
        return Ok(all);
    }
    Ok(Vec::new())
}

/// How many parts a file has, by the name of any of them.
fn parts(folder: &Path, stem: &str, extension: &str) -> Option<usize> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).find_map(|name| {
        let numbers = name.strip_prefix(stem)?.strip_prefix('-')?.strip_suffix(extension)?.strip_suffix('.')?;
        let (first, n) = numbers.split_once("-of-")?;
        if first.len() == 5 && n.len() == 5 { n.parse().ok() } else { None }
    })
}
