//! The one memory map.

mod fault;

pub use fault::exit_on_fault;

use fault::Named;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

/// A whole file, mapped read-only. Pages are read when first touched.
///
/// The map is private, but a file that another process truncates while it is mapped can still fault on access; no
/// portable program can prevent that. [`exit_on_fault`] makes it an error message. Files this project writes appear by
/// rename and are never changed in place.
#[derive(Debug)]
pub struct FileMap {
    // Dropped first: once the pages are gone, another map may have their addresses.
    _named: Named,
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
        let start = map.as_ptr() as usize;
        let named = Named::new(path, start..start + map.len());
        Ok(Self { map, _named: named })
    }
}

impl Deref for FileMap {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}
