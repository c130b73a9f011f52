//! What this process has under construction, so that it can be removed even when the process is ended in the middle.
//!
//! Usually what is not committed is removed when it is dropped. A process that is told to stop and does not get there in
//! time, because it is inside a long call, [gives up](give_up) everything from another thread instead.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Everything that is under construction.
struct Live {
    /// Files and folders by their temporary names.
    unfinished: Vec<PathBuf>,
    /// Folders on the way to an output, the deepest last: to be removed if they are empty.
    made: Vec<PathBuf>,
    /// Threads that are making something, or giving names.
    n_naming: usize,
    given_up: bool,
}

static LIVE: Mutex<Live> = Mutex::new(Live { unfinished: Vec::new(), made: Vec::new(), n_naming: 0, given_up: false });

/// Told when a thread has done with naming.
static DONE: Condvar = Condvar::new();

/// No thread panics while it holds the lock; if one did, the lists would still be right.
fn live() -> MutexGuard<'static, Live> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While this lives, [`give_up`] waits: several outputs that belong together get their names, all or none.
///
/// Threads that already hold one may take another.
#[derive(Debug)]
pub struct Naming(());

impl Naming {
    /// Begins. Does not return once everything has been given up.
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

/// The entry of one file or folder, for as long as it has its temporary name.
#[derive(Debug)]
pub(super) struct Unfinished(PathBuf);

impl Unfinished {
    /// Makes something with `make` and enters it under the path that `path` tells.
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

/// Makes a folder and enters it.
pub(super) fn make_folder(folder: &Path) -> std::io::Result<()> {
    let naming = Naming::begin();
    fs::create_dir(folder)?;
    live().made.push(folder.to_owned());
    drop(naming);
    Ok(())
}

/// Takes a folder off the list that was [made](make_folder).
pub(super) fn forget_folder(folder: &Path) {
    forget(&mut live().made, folder);
}

fn forget(list: &mut Vec<PathBuf>, path: &Path) {
    if let Some(at) = list.iter().rposition(|entry| entry == path) {
        list.remove(at);
    }
}

/// Removes everything that this process has under construction, for a caller that ends the process next. What is getting
/// its names is let through, for as long as `patience` lasts. Afterwards nothing is made or named any more: threads that
/// try wait for ever.
pub fn give_up(patience: Duration) {
    let deadline = Instant::now() + patience;
    let mut live = live();
    while live.n_naming > 0 {
        let Some(left) = deadline.checked_duration_since(Instant::now()) else { break };
        live = DONE.wait_timeout(live, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    live.given_up = true;
    for path in &live.unfinished {
        // One of the two; both are gone if its owner was faster.
        let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
    }
    for folder in live.made.iter().rev() {
        let _ = fs::remove_dir(folder);
    }
    // Threads that end now have nothing to remove.
    live.unfinished.clear();
    live.made.clear();
}
