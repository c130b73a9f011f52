//! Journals: files to which a run appends what it has computed, so that one that was stopped goes on where it was.
//!
//! The first line of a journal says what kind it is, and has a key: a digest of all that its records depend on. A record
//! is the number of its units (u32, little-endian), the units, and a checksum. What a killed process has written of a
//! record is cut off. One process at a time appends; others read what is there when they begin.

use pythia_task::LockFile;
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Characters of a key that make the name of a file.
const NAME_CHARS: usize = 24;
/// Bytes of the number of units.
const LENGTH_BYTES: usize = 4;
/// Bytes of a record's checksum.
const CHECKSUM_BYTES: usize = 8;

/// A kind of journal.
#[derive(Debug)]
pub struct Kind {
    /// Ending of the names of its files.
    pub extension: &'static str,
    /// What its files begin with; the key and a line end follow.
    pub magic: &'static str,
    /// Bytes of a unit.
    pub unit_bytes: usize,
    /// No record has more units.
    pub max_units: usize,
}

impl Kind {
    /// Where in `folder` the journal of a key is, which is a digest in hexadecimal.
    pub fn path(&self, folder: &Path, key: &str) -> PathBuf {
        folder.join(format!("{}.{}", key.get(..NAME_CHARS).unwrap_or(key), self.extension))
    }

    /// Whether the file at `path` is such a journal, by its name and by what is in it.
    pub fn is_at(&self, path: &Path) -> bool {
        if path.extension() != Some(OsStr::new(self.extension)) {
            return false;
        }
        let mut start = vec![0; self.magic.len()];
        File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == self.magic.as_bytes()
    }

    /// The next record of a file; `None` at its end, or if it is not whole. `record` is filled with all of it.
    fn read<'r>(&self, file: &mut impl Read, record: &'r mut Vec<u8>) -> io::Result<Option<&'r [u8]>> {
        record.clear();
        file.by_ref().take(LENGTH_BYTES as u64).read_to_end(record)?;
        let Some(n) = record.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize) else { return Ok(None) };
        if n > self.max_units {
            return Ok(None);
        }
        file.by_ref().take((n * self.unit_bytes + CHECKSUM_BYTES) as u64).read_to_end(record)?;
        let Some((whole, found)) = record.split_last_chunk::<CHECKSUM_BYTES>() else { return Ok(None) };
        let is_whole = whole.len() == LENGTH_BYTES + n * self.unit_bytes && checksum(whole) == *found;
        Ok(is_whole.then(|| &whole[LENGTH_BYTES..]))
    }
}

/// Who appends to a journal that this process has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// This process.
    This,
    /// Another one. This one only reads what was there.
    Other,
    /// Nobody: the file system knows no locks, so two processes could mix their records.
    Nobody,
}

/// A handle of a journal's lock. The lock is held until the journal and all of its handles are dropped.
#[derive(Debug)]
pub struct Lock {
    _file: Arc<LockFile>,
}

/// A journal that is open.
#[derive(Debug)]
pub struct Journal {
    kind: &'static Kind,
    file: Arc<LockFile>,
    /// Where the next record goes.
    end: u64,
    writer: Writer,
}

impl Journal {
    /// Opens the journal at `path`, of records that depend on what `key` stands for. What is in it is forgotten if it
    /// has another key, or if `afresh`. `found` gets every record there is, with the place where it begins; a record
    /// that it refuses is the end of the journal.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn open(
        kind: &'static Kind,
        path: &Path,
        key: &str,
        afresh: bool,
        found: impl FnMut(u64, &[u8]) -> bool,
    ) -> io::Result<Self> {
        let (file, writer) = open_locked(path)?;
        let header = format!("{}{key}\n", kind.magic);
        let known = if afresh { None } else { scan(kind, &file.0, header.as_bytes(), found)? };
        if writer == Writer::This {
            if known.is_none() {
                file.0.set_len(0)?;
                (&file.0).seek(SeekFrom::Start(0))?;
                (&file.0).write_all(header.as_bytes())?;
            }
            file.0.set_len(known.unwrap_or(header.len() as u64))?;
        }
        Ok(Self { kind, file: Arc::new(file), end: known.unwrap_or(header.len() as u64), writer })
    }

    /// Appends a record, if this process is the one that writes. Returns where the record begins.
    ///
    /// # Errors
    /// If there are more units than the kind allows, or the system refuses. What is there stays as it is.
    ///
    /// # Panics
    /// If `units` are not whole units.
    pub fn append(&mut self, units: &[u8]) -> io::Result<Option<u64>> {
        if self.writer != Writer::This {
            return Ok(None);
        }
        let n = units.len() / self.kind.unit_bytes;
        assert!(units.len().is_multiple_of(self.kind.unit_bytes), "whole units");
        if n > self.kind.max_units {
            return Err(io::Error::other(format!("a record of {n} units, at most {} are kept", self.kind.max_units)));
        }
        let mut record = Vec::with_capacity(LENGTH_BYTES + units.len() + CHECKSUM_BYTES);
        record.extend((n as u32).to_le_bytes());
        record.extend(units);
        let checksum = checksum(&record);
        record.extend(checksum);
        let start = self.end;
        let mut file = &self.file.0;
        file.seek(SeekFrom::Start(start))?;
        file.write_all(&record)?;
        self.end += record.len() as u64;
        Ok(Some(start))
    }

    /// The units of the record that begins at `start`.
    ///
    /// # Errors
    /// If they cannot be read or have changed since.
    pub fn read(&mut self, start: u64) -> io::Result<Vec<u8>> {
        let mut file = &self.file.0;
        file.seek(SeekFrom::Start(start))?;
        let mut record = Vec::new();
        let units = self.kind.read(&mut file, &mut record)?;
        units.map(<[u8]>::to_vec).ok_or_else(|| io::Error::other("a record has changed"))
    }

    /// Who appends.
    pub fn writer(&self) -> Writer {
        self.writer
    }

    /// A handle of its lock, which holds it when the journal is closed.
    pub fn lock(&self) -> Lock {
        Lock { _file: self.file.clone() }
    }
}

/// Opens a file, or makes it, and locks it if nobody else has.
fn open_locked(path: &Path) -> io::Result<(LockFile, Writer)> {
    loop {
        if path.symlink_metadata().is_ok_and(|metadata| !metadata.is_file()) {
            return Err(io::Error::other("not a regular file"));
        }
        let file = LockFile(File::options().read(true).write(true).create(true).truncate(false).open(path)?);
        match file.0.try_lock() {
            // Its writer may have removed it in between: then the lock is one of a file that nobody will find.
            Ok(()) if !file.is_at(path) => {}
            Ok(()) => return Ok((file, Writer::This)),
            Err(TryLockError::WouldBlock) => return Ok((file, Writer::Other)),
            Err(TryLockError::Error(_)) => return Ok((file, Writer::Nobody)),
        }
    }
}

/// Shows the records after `header`. Returns where the last one ends; `None` if the file begins otherwise.
fn scan(
    kind: &Kind,
    mut file: &File,
    header: &[u8],
    mut found: impl FnMut(u64, &[u8]) -> bool,
) -> io::Result<Option<u64>> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut record = Vec::new();
    reader.by_ref().take(header.len() as u64).read_to_end(&mut record)?;
    if record != header {
        return Ok(None);
    }
    let mut end = header.len() as u64;
    while let Some(units) = kind.read(&mut reader, &mut record)? {
        if !found(end, units) {
            break;
        }
        end += record.len() as u64;
    }
    Ok(Some(end))
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = Sha256::digest(bytes);
    std::array::from_fn(|i| digest[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind { extension: "test", magic: "pythia-test/1 ", unit_bytes: 1, max_units: 9 };

    #[cfg(unix)]
    #[test]
    fn a_child_process_that_is_being_started_does_not_hold_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Journal::open(&KIND, &dir.path().join("a.test"), "key", false, |_, _| true).unwrap();
        let first = open();
        let of_a_child = first.file.0.try_clone().unwrap();
        assert_eq!(open().writer(), Writer::Other);
        drop(first);
        assert_eq!(open().writer(), Writer::This);
        drop(of_a_child);
    }
}
