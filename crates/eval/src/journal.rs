//! Journals: files to which a run appends what it has computed, so that one that was stopped goes on where it was.
//!
//! The first line of a journal says what kind it is, and has a key: a digest of all that its records depend on. A record
//! is the number of its units (u32, little-endian), the units, and a checksum. What a killed process has written of a
//! record is cut off. One process at a time appends; others read what is there when they begin.

use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

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

/// A journal that is open.
#[derive(Debug)]
pub struct Journal {
    kind: &'static Kind,
    file: File,
    /// Where the next record goes.
    end: u64,
    /// Whether this process may append.
    is_writer: bool,
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
        if path.symlink_metadata().is_ok_and(|metadata| !metadata.is_file()) {
            return Err(io::Error::other("not a regular file"));
        }
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        // Where locks are not known, appending could mix the records of two processes.
        let is_writer = file.try_lock().is_ok();
        let header = format!("{}{key}\n", kind.magic);
        let known = if afresh { None } else { scan(kind, &file, header.as_bytes(), found)? };
        if is_writer {
            if known.is_none() {
                file.set_len(0)?;
                (&file).seek(SeekFrom::Start(0))?;
                (&file).write_all(header.as_bytes())?;
            }
            file.set_len(known.unwrap_or(header.len() as u64))?;
        }
        Ok(Self { kind, file, end: known.unwrap_or(header.len() as u64), is_writer })
    }

    /// Appends a record, if this process is the one that writes. Returns where the record begins.
    ///
    /// # Errors
    /// If the system refuses. What is there stays as it is.
    ///
    /// # Panics
    /// If `units` are not whole units, or too many.
    pub fn append(&mut self, units: &[u8]) -> io::Result<Option<u64>> {
        if !self.is_writer {
            return Ok(None);
        }
        let n = units.len() / self.kind.unit_bytes;
        assert!(units.len().is_multiple_of(self.kind.unit_bytes) && n <= self.kind.max_units, "whole units");
        let mut record = Vec::with_capacity(LENGTH_BYTES + units.len() + CHECKSUM_BYTES);
        record.extend((n as u32).to_le_bytes());
        record.extend(units);
        let checksum = checksum(&record);
        record.extend(checksum);
        let start = self.end;
        self.file.seek(SeekFrom::Start(start))?;
        self.file.write_all(&record)?;
        self.end += record.len() as u64;
        Ok(Some(start))
    }

    /// The units of the record that begins at `start`.
    ///
    /// # Errors
    /// If they cannot be read or have changed since.
    pub fn read(&mut self, start: u64) -> io::Result<Vec<u8>> {
        self.file.seek(SeekFrom::Start(start))?;
        let mut record = Vec::new();
        let units = self.kind.read(&mut self.file, &mut record)?;
        units.map(<[u8]>::to_vec).ok_or_else(|| io::Error::other("a record has changed"))
    }

    /// Whether this process appends. If not, another does, and this one only read what was there.
    pub fn is_writer(&self) -> bool {
        self.is_writer
    }

    /// Where the next record would begin.
    pub fn end(&self) -> u64 {
        self.end
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
