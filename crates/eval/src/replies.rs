//! Replies of a model in a journal.
//!
//! The journal belongs to a model, its arithmetic and this program. A record is a digest of what was asked, and the
//! reply. So a run with more documents, or with other tasks that ask the same, finds what it needs.

use crate::Reply;
use crate::journal::{Journal, Kind};
use pythia_runtime::score::Score;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;

/// The journals of replies. A unit is a byte.
pub const REPLIES: Kind = Kind { extension: "replies", magic: "pythia-replies/1 ", unit_bytes: 1, max_units: 1 << 24 };
/// Bytes of a digest of what was asked.
const ASK_BYTES: usize = 16;

/// What was asked, as a digest.
pub(crate) type AskId = [u8; ASK_BYTES];

/// Replies of one model.
#[derive(Debug)]
pub(crate) struct Replies {
    journal: Journal,
    known: HashMap<AskId, Reply>,
    /// Of those that were there, the ones that were asked for.
    used: HashSet<AskId>,
}

impl Replies {
    /// Opens the journal at `path`: see [`Journal::open`].
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn open(path: &Path, key: &str, afresh: bool) -> io::Result<Self> {
        let mut known = HashMap::new();
        let journal = Journal::open(&REPLIES, path, key, afresh, |_, record| match parse(record) {
            Some((ask, reply)) => {
                known.insert(ask, reply);
                true
            }
            None => false,
        })?;
        Ok(Self { journal, known, used: HashSet::new() })
    }

    /// The journal that they are in.
    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The reply to what was asked, if it was there.
    pub(crate) fn get(&mut self, ask: &AskId) -> Option<&Reply> {
        let reply = self.known.get(ask)?;
        self.used.insert(*ask);
        Some(reply)
    }

    /// Whether replies were there that nobody has asked for.
    pub(crate) fn has_unused(&self) -> bool {
        self.used.len() < self.known.len()
    }

    /// Appends a reply, if this process is the one that writes.
    ///
    /// # Errors
    /// If the system refuses. What is there stays as it is.
    pub(crate) fn append(&mut self, ask: AskId, reply: &Reply) -> io::Result<()> {
        self.journal.append(&record(&ask, reply))?;
        Ok(())
    }
}

/// Digest, kind, reply.
fn record(ask: &AskId, reply: &Reply) -> Vec<u8> {
    let mut record = ask.to_vec();
    match reply {
        Reply::Score(score) => {
            record.push(if score.is_greedy { b'G' } else { b'S' });
            record.extend(score.log_likelihood.to_bits().to_le_bytes());
        }
        Reply::Text(text) => {
            record.push(b'T');
            record.extend(text.as_bytes());
        }
    }
    record
}

/// What a record says.
fn parse(record: &[u8]) -> Option<(AskId, Reply)> {
    let (ask, body) = record.split_first_chunk::<ASK_BYTES>()?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Writer;

    fn reply(i: u8) -> Reply {
        match i % 3 {
            0 => Reply::Text(format!("text {i} \u{e9}\n")),
            greedy => Reply::Score(Score { log_likelihood: -f64::from(i) / 3.0, is_greedy: greedy == 1 }),
        }
    }

    fn open(path: &Path) -> Replies {
        Replies::open(path, "key", false).unwrap()
    }

    fn known(path: &Path) -> Vec<u8> {
        let mut replies = open(path);
        (0..9).filter(|&i| replies.get(&[i; 16]).is_some_and(|found| *found == reply(i))).collect()
    }

    #[test]
    fn replies_are_read_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.replies");
        let mut replies = open(&path);
        for i in [4, 0, 2, 5] {
            replies.append([i; 16], &reply(i)).unwrap();
        }
        drop(replies);
        assert!(REPLIES.is_at(&path));
        assert_eq!(known(&path), [0, 2, 4, 5]);
        open(&path).append([1; 16], &reply(1)).unwrap();
        assert_eq!(known(&path), [0, 1, 2, 4, 5]);
        assert!(Replies::open(&path, "other", false).unwrap().known.is_empty());
        assert_eq!(known(&path), [0u8; 0]);
    }

    #[test]
    fn what_was_cut_off_or_damaged_ends_the_journal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.replies");
        let mut replies = open(&path);
        let length = || std::fs::metadata(&path).unwrap().len();
        let mut ends = vec![length()];
        for i in 0..3 {
            replies.append([i; 16], &reply(i)).unwrap();
            ends.push(length());
        }
        drop(replies);
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

    #[test]
    fn a_reply_that_is_too_long_is_not_kept_and_the_next_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.replies");
        let mut replies = open(&path);
        let error = replies.append([0; 16], &Reply::Text("\u{fffd}".repeat(6 << 20))).unwrap_err();
        assert!(error.to_string().contains("at most 16777216 are kept"), "{error}");
        replies.append([2; 16], &reply(2)).unwrap();
        drop(replies);
        assert_eq!(known(&path), [2]);
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_outlives_the_journal_until_the_file_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.replies");
        let first = open(&path);
        let lock = first.journal().lock();
        drop(first);
        assert_eq!(open(&path).journal().writer(), Writer::Other);
        std::fs::remove_file(&path).unwrap();
        drop(lock);
        let mut next = open(&path);
        assert_eq!(next.journal().writer(), Writer::This);
        next.append([1; 16], &reply(1)).unwrap();
        drop(next);
        assert_eq!(known(&path), [1]);
    }

    #[cfg(unix)]
    #[test]
    fn one_process_writes_and_others_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.replies");
        let mut first = open(&path);
        first.append([0; 16], &reply(0)).unwrap();
        let mut second = open(&path);
        assert_eq!([&first, &second].map(|replies| replies.journal().writer()), [Writer::This, Writer::Other]);
        second.append([1; 16], &reply(1)).unwrap();
        assert!(Replies::open(&path, "key", true).unwrap().known.is_empty(), "afresh");
        first.append([2; 16], &reply(2)).unwrap();
        drop((first, second));
        assert_eq!(known(&path), [0, 2]);
    }
}
