//! `pythia-quant cache`: what `compare` keeps from one run to the next.

pub(super) mod digests;
pub(super) mod folder;
pub(super) mod rows;

use crate::exit::{self, Failure, IN_JSON};
use clap::Subcommand;
use folder::{MARKER, claim, files, is_ours, read_marker};
use pythia_convert::output::remove_leftovers;
use pythia_show::{Align, Table, Width, number, wrap};
use pythia_text::path;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Names of models that are told apart by this many digits of a digest.
pub(super) const DIGEST_CHARS: usize = 16;

/// List or clear what `compare` keeps: converted files and measurements
///
/// Everything in it can be made again. The folder is `compare` in PYTHIA_CACHE, or in `pythia` in XDG_CACHE_HOME or
/// ~/.cache.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    List(List),
    Clear(Clear),
}

/// Show what is kept, by model
#[derive(Debug, clap::Args)]
struct List {
    /// Folder of the cache [default: one in ~/.cache]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Remove what is kept
///
/// Only files that this program has written are removed, which is told from their content, and only of models that no
/// run is using. Links are not followed.
#[derive(Debug, clap::Args)]
struct Clear {
    /// Models, by their names in `cache list` [default: all]
    models: Vec<String>,
    /// Only models last used more than DAYS days ago
    #[arg(long, value_name = "DAYS")]
    older_than: Option<u32>,
    /// Say what would be removed, remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Folder of the cache [default: one in ~/.cache]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A cache folder.
#[derive(Debug, Serialize)]
struct Model {
    /// Name of the folder: the model's, and a digest of where it is and when it was written.
    name: String,
    path: PathBuf,
    /// What it was made from.
    source: String,
    files: usize,
    bytes: u64,
    /// Seconds since a run used it last.
    unused_seconds: u64,
}

/// What was or would be done about a cache folder.
#[derive(Debug, Serialize)]
struct Cleared {
    name: String,
    /// Files that went, and their size.
    files: usize,
    bytes: u64,
    /// Why the rest is still there, if there is a rest.
    kept: Option<String>,
}

/// The subcommand.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    match &args.action {
        Action::List(list) => print_list(list),
        Action::Clear(clear) => print_cleared(clear),
    }
}

fn root(named: Option<&Path>) -> Result<PathBuf, Failure> {
    folder::root(named).ok_or_else(|| Failure::usage("there is no home folder to keep a cache in; --cache names one"))
}

/// The cache folders in `root`, by name.
fn models(root: &Path) -> Vec<Model> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut models: Vec<Model> = entries.filter_map(|entry| model(entry.path())).collect();
    models.sort_by(|a, b| a.name.cmp(&b.name));
    models
}

fn model(path: PathBuf) -> Option<Model> {
    path.symlink_metadata().ok().filter(fs::Metadata::is_dir)?;
    let marker = path.join(MARKER);
    let source = read_marker(&marker)?.source;
    let used = marker.metadata().and_then(|metadata| metadata.modified()).unwrap_or(UNIX_EPOCH);
    let files = files(&path);
    Some(Model {
        name: path.file_name()?.to_string_lossy().into_owned(),
        source,
        files: files.len(),
        bytes: files.iter().map(|(_, bytes)| bytes).sum(),
        unused_seconds: SystemTime::now().duration_since(used).map_or(0, |time| time.as_secs()),
        path,
    })
}

fn print_list(args: &List) -> Result<(), Failure> {
    let root = root(args.cache.as_deref())?;
    let models = models(&root);
    let bytes: u64 = models.iter().map(|model| model.bytes).sum();
    if args.json {
        let root = root.display().to_string();
        return exit::print_json(&serde_json::json!({ "folder": root, "bytes": bytes, "models": models }));
    }
    let mut table = Table::new([
        ("model", Align::Left, 0),
        ("files", Align::Right, 2),
        ("size", Align::Right, 0),
        ("unused for", Align::Right, 1),
        ("made from", Align::Left, 0),
    ]);
    for model in &models {
        let unused = age(Duration::from_secs(model.unused_seconds));
        table.push(vec![
            model.name.clone(),
            model.files.to_string(),
            number::bytes(model.bytes),
            unused,
            model.source.clone(),
        ]);
    }
    let width = Width::of_stdout();
    let n_models = if models.len() == 1 { "1 model".to_owned() } else { format!("{} models", models.len()) };
    let total = wrap(&format!("{}: {n_models}, {}", path(&root), number::bytes(bytes)), width, "  ");
    let table = (!table.is_empty()).then(|| table.to_terminal(width).with_remark(width, IN_JSON) + "\n");
    exit::print(&(table.unwrap_or_default() + &total))
}

/// A time in its largest unit.
fn age(time: Duration) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400, "days"), (3600, "hours"), (60, "minutes")];
    let seconds = time.as_secs();
    let unit = UNITS.into_iter().find(|(unit, _)| seconds >= 2 * unit);
    unit.map_or_else(|| format!("{seconds} s"), |(unit, name)| format!("{} {name}", seconds / unit))
}

fn print_cleared(args: &Clear) -> Result<(), Failure> {
    let root = root(args.cache.as_deref())?;
    let models = models(&root);
    if let Some(name) = args.models.iter().find(|name| !models.iter().any(|model| model.is_called(name))) {
        return Err(Failure::usage(format_args!("{name}: no such model in {}", path(&root))));
    }
    let oldest = args.older_than.map_or(0, |days| u64::from(days) * 86_400);
    let chosen = models.iter().filter(|model| {
        let is_named = args.models.is_empty() || args.models.iter().any(|name| model.is_called(name));
        is_named && model.unused_seconds >= oldest
    });
    let cleared: Vec<Cleared> = chosen.map(|model| clear(model, args.dry_run)).collect();
    if args.json {
        return exit::print_json(&serde_json::json!({ "dry_run": args.dry_run, "models": cleared }));
    }
    let verb = if args.dry_run { "would remove" } else { "removed" };
    let mut out = String::new();
    for model in &cleared {
        out += &format!("{}: {verb} {} files, {}\n", model.name, model.files, number::bytes(model.bytes));
        if let Some(kept) = &model.kept {
            out += &format!("{}: kept: {kept}\n", model.name);
        }
    }
    let bytes = cleared.iter().map(|model| model.bytes).sum();
    exit::print(&format!("{out}{verb} {} in all\n", number::bytes(bytes)))
}

impl Model {
    /// Whether a user means it: by the whole name of the folder, or by the model's.
    fn is_called(&self, name: &str) -> bool {
        let without_digest = self.name.len().checked_sub(DIGEST_CHARS + 1).and_then(|end| self.name.get(..end));
        self.name == name || without_digest == Some(name)
    }
}

/// Removes what is ours of a cache folder that nobody uses, the mark of a cache last.
fn clear(model: &Model, dry_run: bool) -> Cleared {
    let mut cleared = Cleared { name: model.name.clone(), files: 0, bytes: 0, kept: None };
    let marker = model.path.join(MARKER);
    let Some(lock) = claim(&marker) else {
        cleared.kept = Some("a run is using it, or it cannot be locked".to_owned());
        return cleared;
    };
    let mut others = Vec::new();
    let all = files(&model.path);
    for (path, bytes) in all.iter().filter(|(path, _)| *path != marker) {
        if !is_ours(path) {
            others.push(path);
        } else if dry_run || fs::remove_file(path).is_ok() {
            cleared.files += 1;
            cleared.bytes += bytes;
        }
    }
    // What a killed run was writing; told by its name and its lock.
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
    if !dry_run && others.is_empty() && fs::remove_dir(&model.path).is_err() {
        cleared.kept = Some(format!("{} holds folders or links", path(&model.path)));
    }
    cleared
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

    fn only(root: &Path) -> Model {
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
        let folder = Folder::open(path.clone(), dir.path()).unwrap();
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

        assert!(clear(&only(&root), false).kept.unwrap().contains("using"));
        drop(folder);
        let dry = clear(&only(&root), true);
        assert_eq!((dry.files, only(&root).files), (1, 4), "{dry:?}");
        let cleared = clear(&only(&root), false);
        assert_eq!(cleared.files, 1, "{cleared:?}");
        assert!(cleared.kept.is_some());
        let left: Vec<_> = files(&path).into_iter().map(|(path, _)| path).collect();
        assert_eq!(left, ["notes.txt", "precious.gguf", MARKER].map(|name| path.join(name)));
        assert!(outside.join("precious.gguf").exists() && other.join("digests.json").exists());

        for name in ["notes.txt", "precious.gguf", "link"] {
            fs::remove_file(path.join(name)).unwrap();
        }
        assert_eq!(clear(&only(&root), false).files, 1);
        assert!(!path.exists());
    }

    #[test]
    fn models_are_called_by_folder_or_name() {
        let dir = tempfile::tempdir().unwrap();
        Folder::open(dir.path().join("pythia-70m-0123456789abcdef"), dir.path()).unwrap();
        let model = only(dir.path());
        assert!(model.is_called("pythia-70m") && model.is_called("pythia-70m-0123456789abcdef"));
        assert!(!model.is_called("pythia") && !model.is_called(""));
        assert!(model.unused_seconds < 60);
    }

    #[test]
    fn ages_are_in_their_largest_unit() {
        let ages = [5, 119, 120, 7200, 172_800, 864_000].map(|seconds| age(Duration::from_secs(seconds)));
        assert_eq!(ages, ["5 s", "119 s", "2 minutes", "2 hours", "2 days", "10 days"]);
    }
}
