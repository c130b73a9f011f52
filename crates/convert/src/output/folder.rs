//! Folders that appear whole or not at all.

use super::live::{Naming, Unfinished};
use super::temporary::{self, Kind, Leftover, Orphan, REPLACED, UNFINISHED};
use super::{AtomicFile, check_is_path, exists, file_name, folder_of, same_file, sync_folder};
use crate::Error;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tempfile::TempDir;

/// An unfinished folder: a temporary folder beside the target. It is renamed to the target when it is complete, and
/// removed with its contents if this value is dropped before that.
///
/// If a folder is replaced, the two are exchanged in one step where the system can do that. Elsewhere the old folder is
/// moved aside first. A process killed between the two renames leaves `.NAME.pythia-*.old` and no target, and
/// [`recover_folder`] puts it back.
#[derive(Debug)]
pub struct AtomicFolder {
    temp: Temporary,
    target: PathBuf,
    files: &'static [&'static str],
}

impl AtomicFolder {
    /// Starts a folder that will become `target`, for files of these names.
    ///
    /// # Errors
    /// If its parent folder does not exist or cannot be written.
    pub fn create(target: &Path, files: &'static [&'static str]) -> Result<Self, Error> {
        name_of(target)?;
        Ok(Self { temp: Temporary::make(target, UNFINISHED)?, target: target.to_owned(), files })
    }

    /// Starts the file `name` in it, with `bytes` zeros. The file gets its name when it is committed, before the folder
    /// gets its own.
    ///
    /// # Errors
    /// As [`AtomicFile::create`].
    pub fn create_file(&self, name: &str, bytes: u64) -> Result<AtomicFile, Error> {
        AtomicFile::create_shown(&self.temp.path().join(name), self.target.join(name), bytes, &())
    }

    /// Syncs the folder (its files already are) and renames it to the target. Without `force`, a target that contains
    /// anything by now is not replaced. With it, the old contents are removed after the rename.
    ///
    /// # Errors
    /// As [`check_folder`], or if the system refuses the name. The temporary folder is then removed.
    pub fn commit(self, force: bool) -> Result<(), Error> {
        check_folder(&self.target, self.files, &[], force)?;
        sync_folder(self.temp.path())?;
        // Removes an empty target only. On some systems a rename would not replace it.
        let _ = fs::remove_dir(&self.target);
        match force && self.target.symlink_metadata().is_ok() {
            true => self.replace(exchange),
            false => self.rename(),
        }
    }

    /// Replaces an existing target. `exchange` exchanges two paths.
    fn replace(self, exchange: impl Fn(&Path, &Path) -> io::Result<()>) -> Result<(), Error> {
        let target = self.target.clone();
        // Held until both renames are done. Removing the old contents may take longer.
        let naming = Naming::begin();
        match exchange(self.temp.path(), &target) {
            Err(e) if e.kind() == io::ErrorKind::Unsupported => {}
            Err(e) => return Err(Error::io(&target, "replace")(e)),
            Ok(()) => {
                // The old contents are now in the temporary folder. Checked again, because nobody can change them any
                // more.
                if let Err(error) = check_content(self.temp.path(), &target, self.files, true) {
                    return match exchange(self.temp.path(), &target) {
                        Ok(()) => Err(error),
                        Err(e) => Err(Error::io(&self.temp.keep(), "rename back what was replaced")(e)),
                    };
                }
                // Before the old contents are removed with the temporary folder.
                return sync_folder(folder_of(&target));
            }
        }
        let retired = Retired::take(&target, self.files)?;
        match self.rename() {
            Ok(()) => {
                drop(naming);
                Ok(())
            }
            Err(error) => retired.put_back(&target).and(Err(error)),
        }
    }

    fn rename(self) -> Result<(), Error> {
        let Self { temp, target, .. } = self;
        let _naming = Naming::begin();
        fs::rename(temp.path(), &target).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => exists(&target),
            _ => Error::io(&target, "rename to")(e),
        })?;
        // It has its final name, so there is nothing to remove.
        let _ = temp.keep();
        sync_folder(folder_of(&target))
    }
}

/// A folder beside a target, removed with its contents when this value is dropped.
#[derive(Debug)]
struct Temporary {
    folder: TempDir,
    /// Declared after the folder, so that the folder is dropped first. `None` if a signal must not remove it.
    unfinished: Option<Unfinished>,
    /// The lock of the folder, where the system can lock one.
    lock: Option<File>,
}

impl Temporary {
    /// Creates an empty, locked one for `target`.
    fn make(target: &Path, ending: &str) -> Result<Self, Error> {
        loop {
            let make = |builder: &tempfile::Builder<'_, '_>, folder: &Path| builder.tempdir_in(folder);
            let make = || temporary::create(target, ending, 0o777, make);
            let made = Unfinished::make(make, TempDir::path);
            let (folder, unfinished) = made.map_err(Error::io(target, "create a folder beside it"))?;
            let lock = match File::open(folder.path()) {
                Ok(lock) if temporary::hold(&lock, folder.path()) => Some(lock),
                // Only Unix can open folders.
                Err(_) if folder.path().is_dir() => None,
                _ => continue,
            };
            return Ok(Self { folder, unfinished: Some(unfinished), lock });
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Keeps the folder, and returns its path.
    fn keep(self) -> PathBuf {
        self.folder.keep()
    }
}

/// Exchanges two paths in one step, so that both always exist.
#[cfg(target_os = "linux")]
fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).map_err(|e| match e {
        // Not supported by old kernels and network file systems.
        Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP => io::ErrorKind::Unsupported.into(),
        e => e.into(),
    })
}

#[cfg(not(target_os = "linux"))]
fn exchange(_a: &Path, _b: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A folder that is being replaced and was moved aside. It is removed when this value is dropped.
struct Retired(Temporary);

impl Retired {
    /// Moves `target` aside.
    fn take(target: &Path, files: &[&str]) -> Result<Self, Error> {
        let mut temp = Temporary::make(target, REPLACED)?;
        temp.lock = File::open(target).ok().filter(|lock| temporary::hold(lock, target));
        // From here on the path holds contents that must be kept.
        temp.unfinished = None;
        // Some systems cannot rename onto a folder, not even an empty one.
        let _ = fs::remove_dir(temp.path());
        fs::rename(target, temp.path()).map_err(Error::io(target, "replace"))?;
        let retired = Self(temp);
        // Checked again, because nobody can change it any more.
        match check_content(retired.0.path(), target, files, true) {
            Ok(()) => Ok(retired),
            Err(error) => retired.put_back(target).and(Err(error)),
        }
    }

    /// Undoes the move. If that fails, the error says where the folder is.
    fn put_back(self, target: &Path) -> Result<(), Error> {
        let place = self.0.keep();
        fs::rename(&place, target).map_err(Error::io(&place, "rename back what was replaced"))
    }
}

/// Cleans up after runs that were killed while they made or replaced the folder `target`. Incomplete folders are
/// removed. An old folder that was moved aside is put back if nothing has taken its place. It is removed only if
/// `force` would replace the target as well, because it may be the only copy of its contents. A folder with any file
/// other than `files` is not from such a run and stays.
///
/// # Errors
/// If an old folder cannot be put back. The error says where it is.
pub fn recover_folder(target: &Path, files: &'static [&'static str], force: bool) -> Result<Vec<Leftover>, Error> {
    let mut done = Vec::new();
    let replaced = Orphan::find(target, REPLACED, Kind::Folder(files));
    if target.symlink_metadata().is_ok() {
        if force && check_folder(target, files, &[], force).is_ok() {
            done.extend(replaced.into_iter().filter_map(Orphan::remove));
        }
    } else if let Some(newest) = replaced.iter().max_by_key(|orphan| modified(&orphan.path)) {
        fs::rename(&newest.path, target).map_err(Error::io(&newest.path, "rename back what was replaced"))?;
        sync_folder(folder_of(target))?;
        done.push(Leftover::PutBack { path: target.to_owned() });
    }
    done.extend(Orphan::find(target, UNFINISHED, Kind::Folder(files)).into_iter().filter_map(Orphan::remove));
    Ok(done)
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.symlink_metadata().and_then(|metadata| metadata.modified()).ok()
}

/// Refuses a `target` that cannot become a folder, or that is not empty without `force`. With `force` it refuses a
/// folder that contains one of the `inputs`, or anything other than `files`, so that a mistyped name removes nothing
/// that this program did not write.
///
/// # Errors
/// [`Error::Request`] in all these cases, [`Error::Io`] if an existing folder cannot be listed.
pub fn check_folder(target: &Path, files: &[&str], inputs: &[PathBuf], force: bool) -> Result<(), Error> {
    check_is_path(target)?;
    name_of(target)?;
    match target.symlink_metadata() {
        Err(_) => return Ok(()),
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(Error::Request(format!("{}: exists and is not a folder", target.display()))),
    }
    for path in entries(target)? {
        if inputs.iter().any(|input| same_file(&path, input)) {
            let (target, path) = (target.display(), path.display());
            return Err(Error::Request(format!("{target}: the output would replace the input {path}")));
        }
    }
    check_content(target, target, files, force)
}

/// Checks that the folder at `place`, called `target` in messages, may be removed.
fn check_content(place: &Path, target: &Path, files: &[&str], force: bool) -> Result<(), Error> {
    let entries = entries(place)?;
    if entries.is_empty() {
        return Ok(());
    }
    if !force {
        return Err(exists(target));
    }
    let is_file = |path: &Path| path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
    let is_ours = |path: &&PathBuf| files.iter().any(|name| file_name(path) == *name) && is_file(path);
    match entries.iter().find(|path| !is_ours(path)) {
        None => Ok(()),
        Some(other) => {
            let (target, other) = (target.display(), file_name(other).display());
            Err(Error::Request(format!(
                "{target}: contains {other}, which this program does not write, so --force does not replace the folder"
            )))
        }
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    entries.map_err(Error::io(folder, "list"))
}

fn name_of(target: &Path) -> Result<String, Error> {
    let name = target.file_name().map(|name| name.to_string_lossy().into_owned());
    name.ok_or_else(|| Error::Request(format!("{}: wanted the name of a folder to write", target.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::names;

    const FILES: &[&str] = &["config.json", "new", "old"];

    /// Makes `target` with one file, `new`.
    fn make(target: &Path, force: bool) -> Result<(), String> {
        let folder = AtomicFolder::create(target, FILES).map_err(|e| e.to_string())?;
        fs::write(folder.temp.path().join("new"), "").unwrap();
        folder.commit(force).map_err(|e| e.to_string())
    }

    #[test]
    fn a_dropped_folder_leaves_nothing_and_a_committed_one_leaves_itself() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        let folder = AtomicFolder::create(&target, FILES).unwrap();
        fs::write(folder.temp.path().join("half"), "x").unwrap();
        drop(folder);
        assert_eq!(names(dir.path()), [""; 0]);
        make(&target, false).unwrap();
        assert_eq!((names(dir.path()), names(&target)), (vec!["out".to_owned()], vec!["new".to_owned()]));
        // An empty one is as good as none.
        let empty = dir.path().join("empty");
        fs::create_dir(&empty).unwrap();
        make(&empty, false).unwrap();
        assert_eq!(names(dir.path()), ["empty", "out"]);
    }

    #[test]
    fn only_what_holds_nothing_else_is_replaced_and_only_by_force() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("thesis.tex"), "years of work").unwrap();
        assert!(make(&target, false).unwrap_err().contains("already exists (--force"));
        assert!(make(&target, true).unwrap_err().contains("contains thesis.tex, which this program does not"));
        fs::write(target.join("config.json"), "{}").unwrap();
        assert!(make(&target, true).unwrap_err().contains("contains thesis.tex"));
        fs::remove_file(target.join("thesis.tex")).unwrap();
        fs::create_dir(target.join("new")).unwrap();
        assert!(make(&target, true).unwrap_err().contains("contains new, which"), "a folder");
        assert_eq!(names(&target), ["config.json", "new"]);
        fs::remove_dir(target.join("new")).unwrap();
        assert!(make(&target, false).unwrap_err().contains("already exists"));
        make(&target, true).unwrap();
        assert_eq!((names(dir.path()), names(&target)), (vec!["out".to_owned()], vec!["new".to_owned()]));
    }

    #[test]
    fn what_is_no_folder_or_holds_the_input_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let refusal = |target: &Path, inputs: &[PathBuf]| {
            check_folder(target, &["config.json", "file"], inputs, true).unwrap_err().to_string()
        };
        assert!(refusal(&file, &[]).ends_with("exists and is not a folder"));
        assert!(refusal(Path::new(".."), &[]).contains("wanted the name of a folder"));
        fs::write(dir.path().join("config.json"), "{}").unwrap();
        check_folder(dir.path(), &["config.json", "file"], &[], true).unwrap();
        assert!(refusal(dir.path(), &[dir.path().join("./file")]).contains("would replace the input"));
    }

    /// A checkpoint at `target`, with one file more, called `mark`.
    fn put(target: &Path, mark: &str) {
        fs::create_dir_all(target).unwrap();
        fs::write(target.join("config.json"), "{}").unwrap();
        fs::write(target.join(mark), mark).unwrap();
    }

    #[test]
    fn a_folder_is_replaced_in_one_step_or_in_two() {
        let unsupported = |_: &Path, _: &Path| Err(io::ErrorKind::Unsupported.into());
        let one: &dyn Fn(&Path, &Path) -> io::Result<()> =
            if cfg!(target_os = "linux") { &exchange } else { &unsupported };
        for exchange in [one, &unsupported] {
            let dir = tempfile::tempdir().unwrap();
            let target = dir.path().join("out");
            put(&target, "old");
            let folder = AtomicFolder::create(&target, FILES).unwrap();
            folder.create_file("new", 3).unwrap().commit(false).unwrap();
            folder.replace(exchange).unwrap();
            assert_eq!((names(dir.path()), names(&target)), (vec!["out".to_owned()], vec!["new".to_owned()]));

            // What should not be removed came in between.
            fs::create_dir(target.join(".git")).unwrap();
            let error = AtomicFolder::create(&target, FILES).unwrap().replace(exchange).unwrap_err().to_string();
            assert!(error.contains("contains .git, which"), "{error}");
            assert_eq!(
                (names(dir.path()), names(&target)),
                (vec!["out".to_owned()], vec![".git".to_owned(), "new".to_owned()])
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_killed_runs_leave_is_put_back_or_removed() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        let left = |name: &str| dir.path().join(format!(".out.pythia-{name}"));
        assert_eq!(recover_folder(&target, FILES, false).unwrap(), []);
        // Killed between the renames.
        put(&left("aaaaaa.old"), "old");
        put(&left("bbbbbb.tmp"), "new");
        let n_bytes = 5;
        let removed = |name: &str| Leftover::Removed { path: left(name), n_bytes };
        assert_eq!(
            recover_folder(&target, FILES, false).unwrap(),
            [Leftover::PutBack { path: target.clone() }, removed("bbbbbb.tmp")]
        );
        assert_eq!(
            (names(dir.path()), names(&target)),
            (vec!["out".to_owned()], vec!["config.json".into(), "old".into()])
        );
        // Killed after them.
        put(&left("cccccc.old"), "old");
        assert_eq!(recover_folder(&target, FILES, false).unwrap(), []);
        assert_eq!(recover_folder(&target, FILES, true).unwrap(), [removed("cccccc.old")]);
        // Somebody's, whatever the name.
        fs::create_dir_all(left("eeeeee.tmp")).unwrap();
        fs::write(left("eeeeee.tmp").join("thesis.tex"), "years of work").unwrap();
        fs::create_dir_all(left("ffffff.old")).unwrap();
        fs::write(left("ffffff.old").join("thesis.tex"), "years of work").unwrap();
        assert_eq!(recover_folder(&target, FILES, true).unwrap(), []);
        fs::rename(&target, dir.path().join("away")).unwrap();
        assert_eq!(recover_folder(&target, FILES, true).unwrap(), [], "not put back either");
        fs::rename(dir.path().join("away"), &target).unwrap();
        fs::remove_dir_all(left("eeeeee.tmp")).unwrap();
        fs::remove_dir_all(left("ffffff.old")).unwrap();
        // In use, and nothing that a run makes.
        let living = AtomicFolder::create(&target, FILES).unwrap();
        fs::create_dir_all(left("dddddd.tmp").join("photos")).unwrap();
        assert_eq!(recover_folder(&target, FILES, false).unwrap(), []);
        assert!(living.temp.path().is_dir() && left("dddddd.tmp").is_dir());
        drop(living);
        assert_eq!(names(dir.path()), [".out.pythia-dddddd.tmp", "out"]);
    }
}
