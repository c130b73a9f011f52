//! A journal of replies, so that an evaluation that was stopped goes on where it was.
//!
//! A journal belongs to a model, its arithmetic and this program: its first line says which. A record per reply follows:
//! its length, a digest of what was asked, the reply, a checksum. So a run with more documents, or with other tasks that
//! ask the same, finds what it needs. What a killed process has written of a record is cut off. One process at a time
//! appends; others read what is there when they begin.

use crate::Reply;
use pythia_runtime::score::Score;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Ending of a journal's name.
pub const EXTENSION: &str = "replies";
/// What a journal begins with; the key and a line end follow.
const MAGIC: &str = "pythia-replies/1 ";
/// Bytes of a digest of what was asked.
const ASK_BYTES: usize = 16;
/// Bytes of a record's checksum.
const CHECKSUM_BYTES: usize = 8;
/// No reply is longer.
const MAX_RECORD: usize = 1 << 24;

/// What was asked, as a digest.
pub(crate) type AskId = [u8; ASK_BYTES];

/// Replies of one model.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    known: HashMap<AskId, Reply>,
    /// Where the next record goes; `None` if another process writes.
    end: Option<u64>,
}

/// Whether the file at `path` is a journal.
pub fn is_journal(path: &Path) -> bool {
    let mut start = vec![0; MAGIC.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == MAGIC.as_bytes()
}

impl Journal {
    /// Opens the journal at `path`, of replies that depend on what `key` stands for. What is in it is forgotten if it
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
        let found = if afresh { None } else { scan(&file, header.as_bytes())? };
        let (known, mut end) = found.unwrap_or_default();
        if is_writer {
            if end == 0 {
                file.set_len(0)?;
                (&file).seek(SeekFrom::Start(0))?;
                (&file).write_all(header.as_bytes())?;
                end = header.len() as u64;
            }
            file.set_len(end)?;
        }
        Ok(Self { file, known, end: is_writer.then_some(end) })
    }

    /// The reply to what was asked, if it is there.
    pub(crate) fn get(&self, ask: &AskId) -> Option<&Reply> {
        self.known.get(ask)
    }

    /// Appends a reply, if this process is the one that writes.
    ///
    /// # Errors
    /// If the system refuses. What is there stays as it is.
    pub(crate) fn append(&mut self, ask: AskId, reply: &Reply) -> io::Result<()> {
        let Some(end) = self.end else { return Ok(()) };
        let record = record(&ask, reply);
        self.file.seek(SeekFrom::Start(end))?;
        self.file.write_all(&record)?;
        self.end = Some(end + record.len() as u64);
        Ok(())
    }
}

/// The records after `header`, and where the last whole one ends; `None` if the file begins otherwise.
fn scan(mut file: &File, header: &[u8]) -> io::Result<Option<(HashMap<AskId, Reply>, u64)>> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut start = Vec::new();
    reader.by_ref().take(header.len() as u64).read_to_end(&mut start)?;
    if start != header {
        return Ok(None);
    }
    let mut known = HashMap::new();
    let mut end = header.len() as u64;
    let mut record = Vec::new();
    loop {
        record.clear();
        reader.by_ref().take(4).read_to_end(&mut record)?;
        let Some(n) = record.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize) else { break };
        if n > MAX_RECORD {
            break;
        }
        reader.by_ref().take((n + CHECKSUM_BYTES) as u64).read_to_end(&mut record)?;
        let Some((ask, reply)) = parse(&record) else { break };
        known.insert(ask, reply);
        end += record.len() as u64;
    }
    Ok(Some((known, end)))
}

/// Length, digest, kind, reply, checksum.
fn record(ask: &AskId, reply: &Reply) -> Vec<u8> {
    let mut body = ask.to_vec();
    match reply {
        Reply::Score(score) => {
            body.push(if score.is_greedy { b'G' } else { b'S' });
            body.extend(score.log_likelihood.to_bits().to_le_bytes());
        }
        Reply::Text(text) => {
            body.push(b'T');
            body.extend(text.as_bytes());
        }
    }
    let mut out = (body.len() as u32).to_le_bytes().to_vec();
    out.extend(body);
    let checksum = checksum(&out);
    out.extend(checksum);
    out
}

/// What a whole record says.
fn parse(record: &[u8]) -> Option<(AskId, Reply)> {
    let (whole, found) = record.split_last_chunk::<CHECKSUM_BYTES>()?;
    let (length, body) = whole.split_first_chunk::<4>()?;
    if body.len() != u32::from_le_bytes(*length) as usize || checksum(whole) != *found {
        return None;
    }
    let (ask, body) = body.split_first_chunk::<ASK_BYTES>()?;
    let (kind, body) = body.split_first()?;
    let reply = match kind {
        b'T' => Reply::Text(String::from_utf8(body.to_vec()).ok()?),
        b'G' | b'S' => {
            let bits: &[u8; 8] = body.try_into().ok()?;
            let log_likelihood = f64::from_bits(u64::from_le_bytes(*bits));
            Reply::Score(Score { log_likelihood, is_greedy: *kind == b'G' })
        }
        _ => return None,
    };
    Some((*ask, reply))
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = Sha256::digest(bytes);
    std::array::from_fn(|i| digest[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(i: u8) -> Reply {
        match i % 3 {
            0 => Reply::Text(format!("text {i} \u{e9}\n")),
            greedy => Reply::Score(Score { log_likelihood: -f64::from(i) / 3.0, is_greedy: greedy == 1 }),
        }
    }

    fn open(path: &Path) -> Journal {
        Journal::open(path, "key", false).unwrap()
    }

    fn known(path: &Path) -> Vec<u8> {
        let journal = open(path);
        (0..9).filter(|&i| journal.get(&[i; 16]).is_some_and(|found| *found == reply(i))).collect()
    }

    #[test]
    fn replies_are_read_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.replies");
        let mut journal = open(&path);
        for i in [4, 0, 2, 5] {
            journal.append([i; 16], &reply(i)).unwrap();
        }
        drop(journal);
        assert!(is_journal(&path));
        assert_eq!(known(&path), [0, 2, 4, 5]);
        open(&path).append([1; 16], &reply(1)).unwrap();
        assert_eq!(known(&path), [0, 1, 2, 4, 5]);
        assert!(Journal::open(&path, "other", false).unwrap().known.is_empty());
        assert_eq!(known(&path), [0u8; 0]);
    }

    #[test]
    fn what_was_cut_off_or_damaged_ends_the_journal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.replies");
        let mut journal = open(&path);
        let mut ends = vec![journal.end.unwrap()];
        for i in 0..3 {
            journal.append([i; 16], &reply(i)).unwrap();
            ends.push(journal.end.unwrap());
        }
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let wanted = ends.iter().filter(|&&end| end <= length as u64).count().saturating_sub(1);
            assert_eq!(known(&path).len(), wanted, "{length} bytes");
        }
        for at in ends[1] as usize..ends[2] as usize {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x40;
            std::fs::write(&path, damaged).unwrap();
            open(&path).append([7; 16], &reply(7)).unwrap();
            assert_eq!(known(&path), [0, 7], "goes on after byte {at}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn one_process_writes_and_others_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.replies");
        let mut first = open(&path);
        first.append([0; 16], &reply(0)).unwrap();
        let mut second = open(&path);
        second.append([1; 16], &reply(1)).unwrap();
        assert!(Journal::open(&path, "key", true).unwrap().known.is_empty(), "afresh");
        first.append([2; 16], &reply(2)).unwrap();
        drop((first, second));
        assert_eq!(known(&path), [0, 2]);
    }
}
