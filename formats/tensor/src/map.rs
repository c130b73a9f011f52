//! The one memory map.

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::OnceLock;

/// A whole file, mapped read-only. Pages are read when first touched.
///
/// The map is private, but a file that another process truncates while it is mapped can still fault on access. No
/// portable program can prevent that. A program can make it an error message: see [`watch_maps`]. Files that this
/// project writes appear by rename and are never changed in place.
#[derive(Debug)]
pub struct FileMap {
    map: memmap2::Mmap,
}

impl FileMap {
    /// Maps `path`.
    ///
    /// # Errors
    /// If it cannot be opened, is not a regular file, or the kernel refuses the map.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Asked before opening: opening a FIFO waits for a writer.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let file = File::open(path)?;
        // SAFETY: the map is read-only and private, and nothing in this process writes to the file. A concurrent
        // truncation by someone else raises SIGBUS, which ends the process; it cannot be used to read other memory.
        let map = unsafe { memmap2::MmapOptions::new().map_copy_read_only(&file)? };
        let this = Self { map };
        if let Some(watcher) = WATCHER.get() {
            watcher.mapped(path, this.addresses());
        }
        Ok(this)
    }

    fn addresses(&self) -> Range<usize> {
        let start = self.map.as_ptr() as usize;
        start..start + self.map.len()
    }
}

impl Drop for FileMap {
    fn drop(&mut self) {
        // Before the pages are gone: after that, another map may have their addresses.
        if let Some(watcher) = WATCHER.get() {
            watcher.unmapped(self.addresses());
        }
    }
}

impl Deref for FileMap {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

/// Is told of every [`FileMap`], from any thread.
pub trait MapWatcher: Sync {
    /// `path` is now mapped at `addresses`.
    fn mapped(&self, path: &Path, addresses: Range<usize>);
    /// The map at `addresses` is about to be removed. It may have been made before the watcher was set.
    fn unmapped(&self, addresses: Range<usize>);
}

static WATCHER: OnceLock<&'static dyn MapWatcher> = OnceLock::new();

/// Tells `watcher` of every map from now on. For programs that report which file a fault is in; there is one watcher
/// per process, and the first one stays.
pub fn watch_maps(watcher: &'static dyn MapWatcher) {
    // The first one stays.
    let _ = WATCHER.set(watcher);
}
