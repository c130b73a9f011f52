//! Reads a file by position, from any thread, without a memory map, so that pages do not stay in memory.

use std::fs::File;
use std::io;

/// An open file that several threads may read at once.
///
/// ```
/// use pythia_checkpoint::PositionedFile;
///
/// let file = PositionedFile::new(std::fs::File::open(std::env::current_exe()?)?);
/// let [mut first, mut second] = [[0; 4]; 2];
/// std::thread::scope(|scope| {
///     let reader = scope.spawn(|| file.read_exact_at(&mut first, 0));
///     file.read_exact_at(&mut second, 0).and(reader.join().expect("no panic"))
/// })?;
/// assert_eq!(first, second);
/// # Ok::<(), std::io::Error>(())
/// ```
#[cfg(unix)]
#[derive(Debug)]
pub struct PositionedFile(File);

#[cfg(unix)]
impl PositionedFile {
    /// Wraps a file opened for reading.
    pub fn new(file: File) -> Self {
        Self(file)
    }

    /// Fills `bytes` from `offset` on.
    ///
    /// # Errors
    /// If the file ends before, or the system refuses.
    pub fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.0, bytes, offset)
    }
}

/// An open file that several threads may read, one after the other.
#[cfg(not(unix))]
#[derive(Debug)]
pub struct PositionedFile(std::sync::Mutex<File>);

#[cfg(not(unix))]
impl PositionedFile {
    /// Wraps a file opened for reading.
    pub fn new(file: File) -> Self {
        Self(std::sync::Mutex::new(file))
    }

    /// Fills `bytes` from `offset` on.
    ///
    /// # Errors
    /// If the file ends before, or the system refuses.
    pub fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        use std::io::{Read, Seek, SeekFrom};
        // Every read seeks first, so a position that a panicking reader left behind does no harm.
        let mut file = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(bytes)
    }
}
