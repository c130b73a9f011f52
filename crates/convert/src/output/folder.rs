//! Folders that appear whole or not at all.

use super::{exists, folder_of, same_file, sync_folder};
use crate::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder under construction: a temporary one beside the target, which becomes the target by one rename when it is
/// complete, and is removed with all that is in it when this is dropped before.
///
/// A folder that is replaced moves out of the way first: a process killed between the two renames leaves it under a
/// temporary name, and no target.
#[derive(Debug)]
pub struct AtomicFolder {
    temp: TempDir,
    target: PathBuf,
}

impl AtomicFolder {
    /// Starts a folder that will be `target`.
    ///
    /// # Errors
    /// If the folder it will lie in does not exist or cannot be written.
    pub fn create(target: &Path) -> Result<Self, Error> {
        let name = name_of(target)?;
        let parent = folder_of(target);
        let temp = builder(&format!(".{name}.")).tempdir_in(parent);
        Ok(Self { temp: temp.map_err(Error::io(parent, "create a folder here"))?, target: target.to_owned() })
    }

    /// Where it lies until it is committed.
    pub fn path(&self) -> &Path {
        self.temp.path()
    }

    /// Makes the folder durable, whose files already are, and gives it its name. Without `force` a target that holds
    /// anything by now stays as it is; with it, what the target held is removed once the new folder has its name.
    ///
    /// # Errors
    /// As [`check_folder`], or if the system refuses the name. The temporary folder is then removed.
    pub fn commit(self, force: bool) -> Result<(), Error> {
        let Self { temp, target } = self;
        check_folder(&target, &[], force)?;
        sync_folder(temp.path())?;
        let retired = if force { Retired::take(&target)? } else { None };
        // Removes an empty folder only, which a rename replaces by itself on some systems and not on others.
        let _ = fs::remove_dir(&target);
        if let Err(e) = fs::rename(temp.path(), &target) {
            if let Some(retired) = retired {
                retired.put_back(&target)?;
            }
            return Err(match e.kind() {
                io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => exists(&target),
                _ => Error::io(&target, "rename to")(e),
            });
        }
        // It has a name now: nothing to remove.
        let _ = temp.keep();
        sync_folder(folder_of(&target))
    }
}

/// A folder that is being replaced, out of the way: removed for good when this is dropped.
struct Retired(TempDir);

impl Retired {
    /// Moves `target` away, if there is one.
    fn take(target: &Path) -> Result<Option<Self>, Error> {
        let parent = folder_of(target);
        let temp = builder(".replaced.").tempdir_in(parent).map_err(Error::io(parent, "create a folder here"))?;
        let retired = Self(temp);
        match fs::rename(target, retired.place()) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(target, "replace")(e)),
        }
        // Asked again now that nobody finds it to change it.
        match check_content(&retired.place(), target, true) {
            Ok(()) => Ok(Some(retired)),
            Err(error) => retired.put_back(target).and(Err(error)),
        }
    }

    fn place(&self) -> PathBuf {
        self.0.path().join("old")
    }

    /// Undoes the move. What cannot be put back stays where it is, and the error says where.
    fn put_back(self, target: &Path) -> Result<(), Error> {
        let place = self.place();
        fs::rename(&place, target).map_err(|e| {
            let _ = self.0.keep();
            Error::io(&place, "rename back what was replaced")(e)
        })
    }
}

/// Refuses a `target` that cannot become a folder, that holds anything while `force` is off, or that `force` should not
/// remove: one with a file among `inputs`, and anything but a checkpoint, so that no slip of the hand removes a home.
///
/// # Errors
/// [`Error::Request`] in all these cases, [`Error::Io`] if an existing folder cannot be listed.
pub fn check_folder(target: &Path, inputs: &[PathBuf], force: bool) -> Result<(), Error> {
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
    check_content(target, target, force)
}

/// Whether what lies at `place` may be removed from where it is called `target`.
fn check_content(place: &Path, target: &Path, force: bool) -> Result<(), Error> {
    let entries = entries(place)?;
    if entries.is_empty() {
        return Ok(());
    }
    if !force {
        return Err(exists(target));
    }
    let refused = |reason: String| Err(Error::Request(format!("{}: {reason}, so --force leaves it", target.display())));
    if let Some(folder) = entries.iter().find(|path| path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())) {
        return refused(format!("holds a folder, {:?}", folder.file_name().unwrap_or_default()));
    }
    if !entries.iter().any(|path| path.file_name().is_some_and(|name| name == "config.json")) {
        return refused("holds files, but no config.json as checkpoints do".to_owned());
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    entries.map_err(Error::io(folder, "list"))
}

fn name_of(target: &Path) -> Result<String, Error> {
    let name = target.file_name().map(|name| name.to_string_lossy().into_owned());
    name.ok_or_else(|| Error::Request(format!("{}: wanted the name of a folder to make", target.display())))
}

#[cfg(unix)]
fn builder(prefix: &str) -> tempfile::Builder<'_, 'static> {
    use std::os::unix::fs::PermissionsExt;
    let mut builder = tempfile::Builder::new();
    // As for files: it becomes an ordinary folder, so the umask decides.
    builder.prefix(prefix).suffix(".tmp").permissions(fs::Permissions::from_mode(0o777));
    builder
}

#[cfg(not(unix))]
fn builder(prefix: &str) -> tempfile::Builder<'_, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix).suffix(".tmp");
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Makes `target` with one file, `new`.
    fn make(target: &Path, force: bool) -> Result<(), String> {
        let folder = AtomicFolder::create(target).map_err(|e| e.to_string())?;
        fs::write(folder.path().join("new"), "").unwrap();
        folder.commit(force).map_err(|e| e.to_string())
    }

    #[test]
    fn a_dropped_folder_leaves_nothing_and_a_committed_one_leaves_itself() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        let folder = AtomicFolder::create(&target).unwrap();
        fs::write(folder.path().join("half"), "x").unwrap();
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
    fn only_checkpoints_are_replaced_and_only_by_force() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("thesis.tex"), "years of work").unwrap();
        assert!(make(&target, false).unwrap_err().contains("already exists (--force"));
        assert!(make(&target, true).unwrap_err().contains("no config.json"));
        fs::write(target.join("config.json"), "{}").unwrap();
        fs::create_dir(target.join(".git")).unwrap();
        assert!(make(&target, true).unwrap_err().contains("holds a folder, \".git\""));
        assert_eq!(names(&target), [".git", "config.json", "thesis.tex"]);
        fs::remove_dir(target.join(".git")).unwrap();
        assert!(make(&target, false).unwrap_err().contains("already exists"));
        make(&target, true).unwrap();
        assert_eq!((names(dir.path()), names(&target)), (vec!["out".to_owned()], vec!["new".to_owned()]));
    }

    #[test]
    fn what_is_no_folder_or_holds_the_input_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let refusal = |target: &Path, inputs: &[PathBuf]| check_folder(target, inputs, true).unwrap_err().to_string();
        assert!(refusal(&file, &[]).ends_with("exists and is not a folder"));
        assert!(refusal(Path::new(".."), &[]).contains("wanted the name of a folder"));
        fs::write(dir.path().join("config.json"), "{}").unwrap();
        check_folder(dir.path(), &[], true).unwrap();
        assert!(refusal(dir.path(), &[dir.path().join("./file")]).contains("would replace the input"));
    }
}
