//! Journals of what a file predicted: the scores of each window of a text, in order, so that a comparison that was
//! stopped goes on where it was.

use pythia_eval::journal::{Journal, Kind, Writer};
use pythia_runtime::eval::TokenScore;
use std::io;
use std::path::Path;

/// Bytes of a score: two floats and a flag.
const SCORE_BYTES: usize = 17;
/// The journals of scores. A unit is the score of a token, a record has those of a window.
pub(crate) const ROWS: Kind =
    Kind { extension: "rows", magic: "pythia-rows/1 ", unit_bytes: SCORE_BYTES, max_units: 1 << 24 };

/// The journal of one file.
#[derive(Debug)]
pub(crate) struct Rows {
    journal: Journal,
    /// Where each record begins.
    starts: Vec<u64>,
}

impl Rows {
    /// Opens the journal at `path`: see [`Journal::open`].
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn open(path: &Path, key: &str, afresh: bool) -> io::Result<Self> {
        let mut starts = Vec::new();
        let journal = Journal::open(&ROWS, path, key, afresh, |start, _| {
            starts.push(start);
            true
        })?;
        Ok(Self { journal, starts })
    }

    /// Whether this process is the one that writes.
    pub(crate) fn is_writer(&self) -> bool {
        self.journal.writer() == Writer::This
    }

    /// Windows whose scores are there: those from the first on.
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// The scores of a window.
    ///
    /// # Errors
    /// If they cannot be read or have changed since.
    pub(crate) fn read(&mut self, window: usize) -> io::Result<Vec<TokenScore>> {
        let record = self.journal.read(self.starts[window])?;
        Ok(record.as_chunks::<SCORE_BYTES>().0.iter().map(score).collect())
    }

    /// Appends the scores of a window, if it is the next one and this process is the one that writes.
    ///
    /// # Errors
    /// If the system refuses. What is there stays as it is.
    pub(crate) fn append(&mut self, window: usize, scores: &[TokenScore]) -> io::Result<()> {
        if window == self.len() {
            let record: Vec<u8> = scores.iter().flat_map(bytes).collect();
            self.starts.extend(self.journal.append(&record)?);
        }
        Ok(())
    }
}

fn bytes(score: &TokenScore) -> [u8; SCORE_BYTES] {
    let mut out = [u8::from(score.same_top); SCORE_BYTES];
    out[..8].copy_from_slice(&score.nll.to_bits().to_le_bytes());
    out[8..16].copy_from_slice(&score.kld.to_bits().to_le_bytes());
    out
}

fn score(bytes: &[u8; SCORE_BYTES]) -> TokenScore {
    let float = |at: usize| f64::from_bits(u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i])));
    TokenScore { nll: float(0), kld: float(8), same_top: bytes[16] != 0 }
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
        assert!(ROWS.is_at(&path));
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
        let ends = [&rows.starts[..], &[std::fs::metadata(&path).unwrap().len()]].concat();
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
        assert!(first.is_writer() && !second.is_writer());
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
