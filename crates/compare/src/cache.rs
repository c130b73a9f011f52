//! The cache of comparisons: a folder per model, with converted files and measurements.

pub(crate) mod digests;
pub(crate) mod folder;
pub(crate) mod rows;

use folder::{MARKER, claim, files, is_ours, read_marker};
use pythia_convert::output::remove_leftovers;
use pythia_text::path;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

pub use digests::Digests;
pub use folder::{DIGESTS, root};

/// Digits of the digest in the name of a folder.
pub(crate) const DIGEST_CHARS: usize = 16;

/// The cache of a model.
#[derive(Debug, Serialize)]
pub struct CachedModel {
    /// Name of the folder: the name of the model, and a digest of its path and time.
    pub name: String,
    /// The folder.
    pub path: PathBuf,
    /// The checkpoint or file that it belongs to.
    pub source: String,
    /// Files in it.
    pub files: usize,
    /// Their size.
    pub bytes: u64,
    /// Seconds since a run used it last.
    pub unused_seconds: u64,
}

/// What was removed, or would be removed, for a model.
#[derive(Debug, Serialize)]
pub struct Cleared {
    /// Name of the folder.
    pub name: String,
    /// Number of removed files.
    pub files: usize,
    /// Their size.
    pub bytes: u64,
    /// Why the rest was kept, if there is a rest.
    pub kept: Option<String>,
}

/// The models in `root`, by name.
pub fn models(root: &Path) -> Vec<CachedModel> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut models: Vec<CachedModel> = entries.filter_map(|entry| model(entry.path())).collect();
    models.sort_by(|a, b| a.name.cmp(&b.name));
    models
}

fn model(path: PathBuf) -> Option<CachedModel> {
    path.symlink_metadata().ok().filter(fs::Metadata::is_dir)?;
    let marker = path.join(MARKER);
    let source = read_marker(&marker)?.source;
    let used = marker.metadata().and_then(|metadata| metadata.modified()).unwrap_or(UNIX_EPOCH);
    let files = files(&path);
    Some(CachedModel {
        name: path.file_name()?.to_string_lossy().into_owned(),
        source,
        files: files.len(),
        bytes: files.iter().map(|(_, bytes)| bytes).sum(),
        unused_seconds: SystemTime::now().duration_since(used).map_or(0, |time| time.as_secs()),
        path,
    })
}

impl CachedModel {
    /// Whether `name` is the name of the folder, or that of the model.
    pub fn is_called(&self, name: &str) -> bool {
        let without_digest = self.name.len().checked_sub(DIGEST_CHARS + 1).and_then(|end| self.name.get(..end));
        self.name == name || without_digest == Some(name)
    }

    /// Removes the files that this program wrote, the marker last. A dry run only counts them. Removes nothing if a run
    /// is using the model.
    pub fn clear(&self, dry_run: bool) -> Cleared {
        let mut cleared = Cleared { name: self.name.clone(), files: 0, bytes: 0, kept: None };
        let marker = self.path.join(MARKER);
        let Some(lock) = claim(&marker) else {
            cleared.kept = Some("a run is using it, or it cannot be locked".to_owned());
            return cleared;
        };
        let mut others = Vec::new();
        let all = files(&self.path);
        for (path, bytes) in all.iter().filter(|(path, _)| *path != marker) {
            if !is_ours(path) {
                others.push(path);
            } else if dry_run || fs::remove_file(path).is_ok() {
                cleared.files += 1;
                cleared.bytes += bytes;
            }
        }
        // Leftovers of killed runs, recognised by name and lock.
        if !dry_run {
            others.retain(|path| target_of_temporary(path).is_none_or(|target| remove_leftovers(&target).is_empty()));
        }
        match others.first() {
            Some(first) => cleared.kept = Some(format!("{} and {} more", path(first), others.len() - 1)),
            None => {
                let bytes = all.iter().find(|(path, _)| *path == marker).map_or(0, |(_, bytes)| *bytes);
                if dry_run || fs::remove_file(&marker).is_ok() {
                    cleared.files += 1;
                    cleared.bytes += bytes;
                }
            }
        }
        drop(lock);
        if !dry_run && others.is_empty() && fs::remove_dir(&self.path).is_err() {
            cleared.kept = Some(format!("{} holds folders or links", path(&self.path)));
        }
        cleared
    }
}

/// `x` of `.x.pythia-aB3xYz.tmp`.
fn target_of_temporary(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?.strip_prefix('.')?.strip_suffix(".tmp")?;
    let (target, _) = name.rsplit_once(".pythia-")?;
    Some(path.with_file_name(target))
}

#[cfg(test)]
mod tests {
    use super::*;
    use folder::Folder;

    fn only(root: &Path) -> CachedModel {
        let mut models = models(root);
        assert_eq!(models.len(), 1, "{models:?}");
        models.remove(0)
    }

    #[cfg(unix)]
    #[test]
    fn only_what_is_ours_goes_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        let path = root.join("model-0123456789abcdef");
        let folder = Folder::open(path.clone(), dir.path(), &()).unwrap();
        fs::create_dir(&outside).unwrap();
        for file in [outside.join("precious.gguf"), path.join("precious.gguf"), path.join("notes.txt")] {
            fs::write(file, "precious").unwrap();
        }
        folder::write_json(&path.join("digests.json"), &serde_json::json!({ "format": "pythia-digests/1" })).unwrap();
        std::os::unix::fs::symlink(&outside, path.join("link")).unwrap();
        std::os::unix::fs::symlink(&path, root.join("linked-model")).unwrap();
        let other = root.join("other-0123456789abcdef");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("digests.json"), "{\"format\": \"pythia-digests/1\"}").unwrap();

        assert!(only(&root).clear(false).kept.unwrap().contains("using"));
        drop(folder);
        let dry = only(&root).clear(true);
        assert_eq!((dry.files, only(&root).files), (1, 4), "{dry:?}");
        let cleared = only(&root).clear(false);
        assert_eq!(cleared.files, 1, "{cleared:?}");
        assert!(cleared.kept.is_some());
        let left: Vec<_> = files(&path).into_iter().map(|(path, _)| path).collect();
        assert_eq!(left, ["notes.txt", "precious.gguf", MARKER].map(|name| path.join(name)));
        assert!(outside.join("precious.gguf").exists() && other.join("digests.json").exists());

        for name in ["notes.txt", "precious.gguf", "link"] {
            fs::remove_file(path.join(name)).unwrap();
        }
        assert_eq!(only(&root).clear(false).files, 1);
        assert!(!path.exists());
    }

    #[test]
    fn models_are_called_by_folder_or_name() {
        let dir = tempfile::tempdir().unwrap();
        Folder::open(dir.path().join("pythia-70m-0123456789abcdef"), dir.path(), &()).unwrap();
        let model = only(dir.path());
        assert!(model.is_called("pythia-70m") && model.is_called("pythia-70m-0123456789abcdef"));
        assert!(!model.is_called("pythia") && !model.is_called(""));
        assert!(model.unused_seconds < 60);
    }
}
