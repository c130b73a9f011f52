//! Checks the CRC-32 of a range of a file without an additional read.
//!
//! Rows are read in any order, by any thread. The CRC of each piece is kept, and adjacent pieces are combined until one
//! piece covers the range. (The CRC of two pieces follows from their CRCs and the length of the second.) So the range
//! is checked when its last row is read, and nothing is read twice.

use crate::positioned::PositionedFile;
use crc32fast::Hasher;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes read at a time if a range is read only for its checksum.
const WINDOW_BYTES: u64 = 1 << 18;

/// A range of a file and its CRC-32.
#[derive(Debug)]
pub(crate) struct Checksum {
    range: Range<u64>,
    wanted: u32,
    seen: Mutex<Seen>,
}

/// The state of a range.
#[derive(Debug)]
enum Seen {
    /// Pieces by their start, with end and CRC. They neither overlap nor touch.
    Pieces(BTreeMap<u64, (u64, u32)>),
    /// The CRC of all of it.
    All(u32),
}

impl Checksum {
    pub(crate) fn new(range: Range<u64>, wanted: u32) -> Self {
        Self { range, wanted, seen: Mutex::new(Seen::Pieces(BTreeMap::new())) }
    }

    pub(crate) fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// Adds `bytes` of the range, which start at `offset` in the file. The error is a reason. It is returned for the
    /// piece that completes the range, and for every later one.
    pub(crate) fn check(&self, offset: u64, bytes: &[u8]) -> Result<(), String> {
        let mut seen = self.lock();
        self.add(&mut seen, offset, bytes);
        self.verdict(&seen)
    }

    /// Reads the whole range, unless it is complete. The inner error is a reason.
    pub(crate) fn check_all(&self, file: &PositionedFile) -> io::Result<Result<(), String>> {
        let mut seen = self.lock();
        let mut window = Vec::new();
        let mut at = self.range.start;
        while matches!(*seen, Seen::Pieces(_)) && at < self.range.end {
            window.resize((self.range.end - at).min(WINDOW_BYTES) as usize, 0);
            file.read_exact_at(&mut window, at)?;
            self.add(&mut seen, at, &window);
            at += window.len() as u64;
        }
        Ok(self.verdict(&seen))
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // The pieces are right even if a reader panicked.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn verdict(&self, seen: &Seen) -> Result<(), String> {
        match *seen {
            Seen::All(found) if found != self.wanted => {
                let Range { start, end } = self.range;
                Err(format!("damaged: bytes {start} to {end} have CRC-32 {found:08x}, wanted {:08x}", self.wanted))
            }
            _ => Ok(()),
        }
    }

    /// Adds the new parts of `bytes`.
    fn add(&self, seen: &mut Seen, offset: u64, bytes: &[u8]) {
        let Seen::Pieces(pieces) = seen else { return };
        let end = offset + bytes.len() as u64;
        let mut at = offset;
        while at < end {
            // After the piece that covers `at`, or up to the next piece.
            let covered = pieces.range(..=at).next_back().map_or(0, |(_, &(end, _))| end);
            if covered > at {
                at = covered;
                continue;
            }
            let next = pieces.range(at..).next().map_or(end, |(&start, _)| start.min(end));
            let new = &bytes[(at - offset) as usize..(next - offset) as usize];
            join(pieces, at..next, crc32fast::hash(new));
            at = next;
        }
        if let Some((&start, &(end, crc))) = pieces.first_key_value()
            && (start..end) == self.range
        {
            *seen = Seen::All(crc);
        }
    }
}

/// Adds a piece that overlaps no other, and combines it with adjacent ones.
fn join(pieces: &mut BTreeMap<u64, (u64, u32)>, piece: Range<u64>, mut crc: u32) {
    let Range { mut start, mut end } = piece;
    if let Some((&before, &(before_end, before_crc))) = pieces.range(..start).next_back()
        && before_end == start
    {
        crc = combined(before_crc, crc, end - start);
        start = before;
    }
    if let Some((after_end, after_crc)) = pieces.remove(&end) {
        crc = combined(crc, after_crc, after_end - end);
        end = after_end;
    }
    pieces.insert(start, (end, crc));
}

/// The CRC of two pieces, the second of which has `len` bytes.
fn combined(first: u32, second: u32, len: u64) -> u32 {
    let mut hasher = Hasher::new_with_initial(first);
    hasher.combine(&Hasher::new_with_initial_len(second, len));
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 77;

    fn bytes() -> Vec<u8> {
        (0..1000u32).map(|i| ((i * i) >> 3) as u8).collect()
    }

    fn checksum(wanted: u32) -> Checksum {
        Checksum::new(START..START + 1000, wanted)
    }

    #[test]
    fn pieces_in_any_order_make_the_whole() {
        let bytes = bytes();
        let right = crc32fast::hash(&bytes);
        let backwards: Vec<_> = (0..100).rev().map(|i| i * 10..i * 10 + 10).collect();
        let interleaved = (0..50).map(|i| i * 20..i * 20 + 10).chain((0..50).map(|i| i * 20 + 10..i * 20 + 20));
        let overlapping = [0..500, 200..300, 400..700, 900..950, 600..1000].to_vec();
        let whole = std::iter::once(0..1000).collect();
        for ranges in [backwards, interleaved.collect(), overlapping, whole] {
            let (good, bad) = (checksum(right), checksum(!right));
            let (last, rest) = ranges.split_last().unwrap();
            for piece in rest {
                good.check(START + piece.start as u64, &bytes[piece.clone()]).unwrap();
                bad.check(START + piece.start as u64, &bytes[piece.clone()]).unwrap();
            }
            assert!(matches!(*good.lock(), Seen::Pieces(_)));
            good.check(START + last.start as u64, &bytes[last.clone()]).unwrap();
            assert!(matches!(*good.lock(), Seen::All(crc) if crc == right));
            let message = bad.check(START + last.start as u64, &bytes[last.clone()]).unwrap_err();
            let wanted = format!("damaged: bytes 77 to 1077 have CRC-32 {right:08x}, wanted {:08x}", !right);
            assert_eq!(message, wanted);
            assert!(bad.check(START, &bytes[..1]).is_err());
        }
    }

    #[test]
    fn a_range_can_be_read_for_its_own_sake() {
        let bytes = bytes();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w");
        std::fs::write(&path, [vec![9; START as usize], bytes.clone()].concat()).unwrap();
        let file = PositionedFile::new(std::fs::File::open(path).unwrap());
        checksum(crc32fast::hash(&bytes)).check_all(&file).unwrap().unwrap();
        assert!(checksum(0).check_all(&file).unwrap().is_err());
        assert!(Checksum::new(START..START + 1001, 0).check_all(&file).is_err());
        // Nothing is read of a range without bytes.
        Checksum::new(5000..5000, 0).check_all(&file).unwrap().unwrap();
    }
}
