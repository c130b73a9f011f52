//! Journals of what a file predicted: the scores of each window of a text, in order, so that a comparison that was
//! stopped goes on where it was.
//!
//! A journal begins with a line that says what it is and what the scores depend on. A record per window follows: the
//! number of tokens, their scores and a checksum. What a killed process has written of a record is cut off. One process
//! at a time appends; others read what is there when they begin.

use pythia_runtime::eval::TokenScore;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Ending of a journal's name.
pub(crate) const EXTENSION: &str = "rows";
/// What a journal begins with; the key and a line end follow.
const MAGIC: &str = "pythia-rows/1 ";
/// Bytes of a score: two floats and a flag.
const SCORE_BYTES: usize = 17;
/// Bytes of a record's checksum.
const CHECKSUM_BYTES: usize = 8;
/// No window has more tokens.
const MAX_TOKENS: usize = 1 << 24;

/// The journal of one file.
#[derive(Debug)]
pub(crate) struct Rows {
    file: File,
    /// Where each record begins, and where the last one ends.
    offsets: Vec<u64>,
    /// Whether this process may append.
    is_writer: bool,
}

/// Whether the file at `path` is a journal.
pub(super) fn is_rows(path: &Path) -> bool {
    let mut start = vec![0; MAGIC.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == MAGIC.as_bytes()
}

impl Rows {
    /// Opens the journal at `path`, for scores that depend on what `key` stands for. What is in it is forgotten if it
    /// has another key, or if `afresh`.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn open(path: &Path, key: &str, afresh: bool) -> io::Result<Self> {
        if path.symlink_metadata().is_ok_and(|metadata| !metadata.is_file()) {
            return Err(io::Error::other("not a regular file"));
        }
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        // Where locks are not known, appending could mix the records of two processes.
        let is_writer = file.try_lock().is_ok();
        let header = format!("{MAGIC}{key}\n");
        let mut offsets = if afresh && is_writer { None } else { scan(&file, header.as_bytes())? };
        if offsets.is_none() && is_writer {
            file.set_len(0)?;
            (&file).seek(SeekFrom::Start(0))?;
            (&file).write_all(header.as_bytes())?;
            offsets = Some(vec![header.len() as u64]);
        }
        let is_writer = is_writer && offsets.is_some();
        let offsets = offsets.filter(|_| !afresh || is_writer).unwrap_or_else(|| vec![0]);
        if is_writer {
            file.set_len(offsets[offsets.len() - 1])?;
        }
        Ok(Self { file, offsets, is_writer })
    }

    /// Windows whose scores are there: those from the first on.
    pub(crate) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The scores of a window.
    ///
    /// # Errors
    /// If they cannot be read or have changed since.
    pub(crate) fn read(&mut self, window: usize) -> io::Result<Vec<TokenScore>> {
        let (start, end) = (self.offsets[window], self.offsets[window + 1]);
        self.file.seek(SeekFrom::Start(start))?;
        let mut record = vec![0; (end - start) as usize];
        self.file.read_exact(&mut record)?;
        parse(&record).ok_or_else(|| io::Error::other("a record has changed"))
    }

    /// Appends the scores of a window, if it is the next one and this process is the one that writes.
    ///
    /// # Errors
    /// If the system refuses. What is there stays as it is.
    pub(crate) fn append(&mut self, window: usize, scores: &[TokenScore]) -> io::Result<()> {
        if !self.is_writer || window != self.len() {
            return Ok(());
        }
        let record = record(scores);
        let start = self.offsets[window];
        self.file.seek(SeekFrom::Start(start))?;
        self.file.write_all(&record)?;
        self.offsets.push(start + record.len() as u64);
        Ok(())
    }
}

/// Where the records after `header` begin, and where the last whole one ends; `None` if the file begins otherwise.
fn scan(mut file: &File, header: &[u8]) -> io::Result<Option<Vec<u64>>> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut start = Vec::new();
    reader.by_ref().take(header.len() as u64).read_to_end(&mut start)?;
    if start != header {
        return Ok(None);
    }
    let mut offsets = vec![header.len() as u64];
    let mut record = Vec::new();
    loop {
        record.clear();
        reader.by_ref().take(4).read_to_end(&mut record)?;
        let Some(n) = record.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize) else { break };
        if n > MAX_TOKENS {
            break;
        }
        reader.by_ref().take((n * SCORE_BYTES + CHECKSUM_BYTES) as u64).read_to_end(&mut record)?;
        if parse(&record).is_none() {
            break;
        }
        offsets.push(offsets[offsets.len() - 1] + record.len() as u64);
    }
    Ok(Some(offsets))
}

/// The number of tokens, the scores, a checksum.
fn record(scores: &[TokenScore]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + scores.len() * SCORE_BYTES + CHECKSUM_BYTES);
    out.extend((scores.len() as u32).to_le_bytes());
    for score in scores {
        out.extend(score.nll.to_bits().to_le_bytes());
        out.extend(score.kld.to_bits().to_le_bytes());
        out.push(u8::from(score.same_top));
    }
    let checksum = checksum(&out);
    out.extend(checksum);
    out
}

/// The scores of a whole record.
fn parse(record: &[u8]) -> Option<Vec<TokenScore>> {
    let (body, found) = record.split_last_chunk::<CHECKSUM_BYTES>()?;
    let (n, scores) = body.split_first_chunk::<4>()?;
    let (scores, rest) = scores.as_chunks::<SCORE_BYTES>();
    if scores.len() != u32::from_le_bytes(*n) as usize || !rest.is_empty() || checksum(body) != *found {
        return None;
    }
    let float = |bytes: &[u8]| bytes.first_chunk().map(|bytes| f64::from_bits(u64::from_le_bytes(*bytes)));
    let score = |bytes: &[u8; SCORE_BYTES]| {
        Some(TokenScore { nll: float(bytes)?, kld: float(&bytes[8..])?, same_top: bytes[16] != 0 })
    };
    scores.iter().map(score).collect()
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = Sha256::digest(body);
    std::array::from_fn(|i| digest[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(window: usize) -> Vec<TokenScore> {
        let score =
            |i: usize| TokenScore { nll: (window + i) as f64 / 3.0, kld: 1e-300, same_top: i.is_multiple_of(2) };
        (0..5).map(score).collect()
    }

    fn open(path: &Path) -> Rows {
        Rows::open(path, "key", false).unwrap()
    }

    #[test]
    fn windows_are_read_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.rows");
        let mut rows = open(&path);
        for window in 0..3 {
            rows.append(window, &scores(window)).unwrap();
            rows.append(window, &scores(9)).unwrap();
        }
        assert!(is_rows(&path));
        drop(rows);
        let mut rows = open(&path);
        assert_eq!(rows.len(), 3);
        for window in [2, 0, 1] {
            assert_eq!(rows.read(window).unwrap(), scores(window));
        }
        drop(rows);
        assert_eq!(Rows::open(&path, "other", false).unwrap().len(), 0, "another key");
        assert_eq!(open(&path).len(), 0);
    }

    #[test]
    fn what_was_cut_off_or_damaged_ends_the_journal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.rows");
        let mut rows = open(&path);
        (0..3).for_each(|window| rows.append(window, &scores(window)).unwrap());
        let ends = rows.offsets.clone();
        drop(rows);
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let wanted = ends.iter().filter(|&&end| end <= length as u64).count().saturating_sub(1);
            assert_eq!(open(&path).len(), wanted, "{length} bytes");
        }
        for at in ends[1] as usize..ends[2] as usize {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x40;
            std::fs::write(&path, damaged).unwrap();
            let mut rows = open(&path);
            assert_eq!(rows.len(), 1, "byte {at}");
            rows.append(1, &scores(1)).unwrap();
            drop(rows);
            assert_eq!(open(&path).len(), 2, "goes on after byte {at}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn one_process_writes_and_others_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.rows");
        let mut first = open(&path);
        first.append(0, &scores(0)).unwrap();
        let mut second = open(&path);
        assert_eq!(second.len(), 1);
        second.append(1, &scores(1)).unwrap();
        assert_eq!(second.len(), 1, "not this one");
        assert_eq!(Rows::open(&path, "key", true).unwrap().len(), 0, "afresh, without what another writes");
        first.append(1, &scores(1)).unwrap();
        drop((first, second));
        assert_eq!(open(&path).len(), 2);
        assert_eq!(Rows::open(&path, "key", true).unwrap().len(), 0);
    }
}
