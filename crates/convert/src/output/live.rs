//! The unfinished files and folders of this process, so that they can be removed when the process must end at once.
//!
//! Usually an uncommitted output is removed when it is dropped. A process that must stop but is inside a long call
//! [removes](give_up) them all from another thread instead.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Everything unfinished.
struct Live {
    /// Files and folders, by their temporary names.
    unfinished: Vec<PathBuf>,
    /// Parent folders created for outputs, deepest last. They are removed if they are empty.
    made: Vec<PathBuf>,
    /// Number of threads that are creating or renaming outputs.
    n_naming: usize,
    given_up: bool,
}

static LIVE: Mutex<Live> = Mutex::new(Live { unfinished: Vec::new(), made: Vec::new(), n_naming: 0, given_up: false });

/// Notified when a thread has finished renaming.
static DONE: Condvar = Condvar::new();

/// No thread panics while it holds the lock. If one did, the lists would still be right.
fn live() -> MutexGuard<'static, Live> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While this value exists, [`give_up`] waits, so that outputs that belong together are all renamed or none.
///
/// Threads that already hold one may take another.
#[derive(Debug)]
pub struct Naming(());

impl Naming {
    /// Starts. Blocks for ever after [`give_up`].
    #[must_use]
    pub fn begin() -> Self {
        let mut live = live();
        while live.given_up {
            live = DONE.wait(live).unwrap_or_else(PoisonError::into_inner);
        }
        live.n_naming += 1;
        Self(())
    }
}

impl Drop for Naming {
    fn drop(&mut self) {
        live().n_naming -= 1;
        DONE.notify_all();
    }
}

/// The entry of a file or folder while it has its temporary name.
#[derive(Debug)]
pub(super) struct Unfinished(PathBuf);

impl Unfinished {
    /// Creates something with `make`, and adds the path that `path` gives for it.
    pub(super) fn make<T, E>(
        make: impl FnOnce() -> Result<T, E>,
        path: impl FnOnce(&T) -> &Path,
    ) -> Result<(T, Self), E> {
        let naming = Naming::begin();
        let made = make()?;
        let path = path(&made).to_owned();
        live().unfinished.push(path.clone());
        drop(naming);
        Ok((made, Self(path)))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        forget(&mut live().unfinished, &self.0);
    }
}

/// Creates a folder and adds it.
pub(super) fn make_folder(folder: &Path) -> std::io::Result<()> {
    let naming = Naming::begin();
    fs::create_dir(folder)?;
    live().made.push(folder.to_owned());
    drop(naming);
    Ok(())
}

/// Removes a folder that was [created](make_folder) from the list.
pub(super) fn forget_folder(folder: &Path) {
    forget(&mut live().made, folder);
}

fn forget(list: &mut Vec<PathBuf>, path: &Path) {
    if let Some(at) = list.iter().rposition(|entry| entry == path) {
        list.remove(at);
    }
}

/// Removes all unfinished files and folders of this process. The caller ends the process next. Renames in progress are
/// completed first, if that takes at most `patience`. Threads that create or rename outputs afterwards block for ever.
pub fn give_up(patience: Duration) {
    let deadline = Instant::now() + patience;
    let mut live = live();
    while live.n_naming > 0 {
        let Some(left) = deadline.checked_duration_since(Instant::now()) else { break };
        live = DONE.wait_timeout(live, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    live.given_up = true;
    for path in &live.unfinished {
        // A file or a folder. Both calls fail if its owner has already removed it.
        let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
    }
    for folder in live.made.iter().rev() {
        let _ = fs::remove_dir(folder);
    }
    // So that threads that end now remove nothing.
    live.unfinished.clear();
    live.made.clear();
}
