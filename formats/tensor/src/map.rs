//! The one memory map.

use crate::memory::LargePages;
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

    /// A copy of the first `len` bytes in memory.
    ///
    /// # Errors
    /// If the system refuses so much memory, or `len` is 0.
    ///
    /// # Panics
    /// If the file is shorter.
    pub fn copy(&self, len: usize) -> io::Result<LargePages> {
        let mut memory = LargePages::new(len)?;
        memory.copy_from_slice(&self[..len]);
        Ok(memory)
    }

    /// Gives the pages of a range back to the system, which reads them from the file again when they are touched. For
    /// files larger than memory: without it, the pages that go first are those that are needed next. Pages that another
    /// process has mapped stay.
    ///
    /// # Panics
    /// If the range is not inside the file.
    pub fn release(&self, range: Range<usize>) {
        let bytes = &self.map[range];
        #[cfg(target_os = "linux")]
        if let Some(pages) = whole_pages(bytes.as_ptr() as usize, bytes.len()) {
            // SAFETY: the pages are of this map. It is read-only and of a file, so they are the same when they are read
            // again. A kernel that does not know the advice (before 5.4) returns an error and keeps them.
            unsafe { libc::madvise(pages.start as *mut _, pages.len(), libc::MADV_PAGEOUT) };
        }
        #[cfg(not(target_os = "linux"))]
        let _ = bytes;
    }

    fn addresses(&self) -> Range<usize> {
        let start = self.map.as_ptr() as usize;
        start..start + self.map.len()
    }
}

/// The pages that lie completely within `len` bytes from `start`.
#[cfg(target_os = "linux")]
fn whole_pages(start: usize, len: usize) -> Option<Range<usize>> {
    /// A multiple of every page size of Linux.
    const PAGE: usize = 64 << 10;
    let pages = start.next_multiple_of(PAGE)..(start + len) / PAGE * PAGE;
    (!pages.is_empty()).then_some(pages)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_pages_have_the_same_bytes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(file.path(), &bytes).unwrap();
        let map = FileMap::open(file.path()).unwrap();
        for range in [0..bytes.len(), 1..bytes.len() - 1, 5..5, 70_000..70_100] {
            map.release(range);
            assert!(*map == *bytes);
        }
    }

    #[test]
    fn a_copy_in_memory_outlives_its_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..5_000_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(file.path(), &bytes).unwrap();
        let copy = FileMap::open(file.path()).unwrap().copy(4_999_999).unwrap();
        // In the map of a file, these would be other bytes, and then none.
        std::fs::write(file.path(), b"short").unwrap();
        assert!(*copy == bytes[..4_999_999]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn pages_that_a_neighbour_shares_are_not_released() {
        assert_eq!(whole_pages(1, 200_000), Some(65_536..196_608));
        assert_eq!(whole_pages(65_536, 65_536), Some(65_536..131_072));
        assert_eq!((whole_pages(65_537, 65_536), whole_pages(0, 0)), (None, None));
    }
}
