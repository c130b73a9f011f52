//! The position of a tensor's rows in a file: contiguous or strided.

use crate::dtype::Dtype;
use crate::positioned::PositionedFile;
use std::io;
use std::ops::Range;

/// Bytes read at a time for strided elements.
const WINDOW_BYTES: u64 = 1 << 16;

/// Bytes that can be read in the time of a system call.
const CALL_BYTES: u64 = 512;

/// The position of a matrix in a file. A vector is a matrix of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// The first element, in bytes from the start of the file.
    pub(crate) start: u64,
    /// Rows and columns.
    pub(crate) shape: [usize; 2],
    /// Bytes of an element.
    pub(crate) elem_bytes: usize,
    /// Strides of rows and columns in bytes, if elements are not contiguous. 0 repeats.
    pub(crate) strides: Option<[u64; 2]>,
    /// Index of the file's checksum that covers it.
    pub(crate) checksum: Option<usize>,
}

impl View {
    /// A tensor with contiguous elements from `start` on.
    pub(crate) fn contiguous(start: u64, shape: &[usize], dtype: Dtype) -> Self {
        let (cols, rows) = match shape.split_last() {
            Some((&cols, outer)) => (cols, outer.iter().fold(1, |n: usize, &dim| n.saturating_mul(dim))),
            None => (1, 1),
        };
        Self { start, shape: [rows, cols], elem_bytes: dtype.size(), strides: None, checksum: None }
    }

    /// Bytes of all rows after reading.
    pub(crate) fn n_bytes(&self) -> u64 {
        (self.shape[0] as u64).saturating_mul(self.row_bytes() as u64)
    }

    /// Bytes that must be read for all rows, more than their own bytes if they are strided.
    pub(crate) fn cost_bytes(&self) -> u64 {
        let Some([row_stride, col_stride]) = self.strides else { return self.n_bytes() };
        let [rows, cols] = self.shape.map(|dim| dim as u64);
        // `read` follows the shorter stride.
        let (lines, len, stride) =
            if col_stride <= row_stride { (rows, cols, col_stride) } else { (cols, rows, row_stride) };
        let line_bytes = match stride {
            0 => CALL_BYTES,
            stride if stride <= WINDOW_BYTES => len.saturating_mul(stride).max(CALL_BYTES),
            _ => len.saturating_mul(CALL_BYTES),
        };
        lines.saturating_mul(line_bytes)
    }

    /// Bytes of a row after reading.
    fn row_bytes(&self) -> usize {
        self.shape[1].saturating_mul(self.elem_bytes)
    }

    /// Start of a row, if rows are contiguous.
    pub(crate) fn row_offset(&self, row: usize) -> u64 {
        self.start + row as u64 * self.row_bytes() as u64
    }

    /// Whether it is exactly `range` of the file, in order.
    pub(crate) fn fills(&self, range: Range<u64>) -> bool {
        self.strides.is_none() && range == (self.start..self.row_offset(self.shape[0]))
    }

    /// Fills `out` with whole rows from `first_row` on. They are within the matrix.
    pub(crate) fn read(&self, file: &PositionedFile, first_row: usize, out: &mut [u8]) -> io::Result<()> {
        let Some([row_stride, col_stride]) = self.strides else {
            return file.read_exact_at(out, self.row_offset(first_row));
        };
        let (row_bytes, elem_bytes) = (self.row_bytes().max(1), self.elem_bytes);
        let start = self.start + first_row as u64 * row_stride;
        // Along the shorter stride, so that a window contains as many wanted elements as possible.
        if col_stride <= row_stride {
            for (row, out) in out.chunks_exact_mut(row_bytes).enumerate() {
                let line = Line { start: start + row as u64 * row_stride, stride: col_stride, len: self.shape[1] };
                line.read(file, elem_bytes, |col, elem| out[col * elem_bytes..][..elem_bytes].copy_from_slice(elem))?;
            }
        } else {
            let n_rows = out.len() / row_bytes;
            for col in 0..self.shape[1] {
                let line = Line { start: start + col as u64 * col_stride, stride: row_stride, len: n_rows };
                let place = |row: usize| row * row_bytes + col * elem_bytes;
                line.read(file, elem_bytes, |row, elem| out[place(row)..][..elem_bytes].copy_from_slice(elem))?;
            }
        }
        Ok(())
    }
}

/// Elements at equal distances. All fields are in bytes, except for `len`.
struct Line {
    start: u64,
    stride: u64,
    len: usize,
}

impl Line {
    /// Passes every element to `put`, with its number. Reads a window at a time, or a single element if they are too
    /// far apart.
    fn read(self, file: &PositionedFile, elem_bytes: usize, mut put: impl FnMut(usize, &[u8])) -> io::Result<()> {
        let Self { start, stride, len } = self;
        let per_window = match stride {
            0 => len.max(1),
            stride => (WINDOW_BYTES / stride).max(1) as usize,
        };
        let mut window = Vec::new();
        for first in (0..len).step_by(per_window) {
            let n = per_window.min(len - first);
            // With one element per window, the stride may be larger than a window.
            let step = if n > 1 { stride as usize } else { 0 };
            window.resize((n - 1) * step + elem_bytes, 0);
            file.read_exact_at(&mut window, start + first as u64 * stride)?;
            for index in 0..n {
                put(first + index, &window[index * step..][..elem_bytes]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_cost_is_that_of_what_is_read() {
        let cost = |shape: [usize; 2], strides: Option<[u64; 2]>| {
            View { start: 0, shape, elem_bytes: 2, strides, checksum: None }.cost_bytes()
        };
        assert_eq!(cost([300, 400], None), 300 * 400 * 2);
        // A transpose, every third column, a row repeated, one column, elements far apart in both directions.
        assert_eq!(cost([300, 400], Some([2, 600])), 300 * 400 * 2);
        assert_eq!(cost([300, 400], Some([4000, 6])), 300 * 400 * 6);
        assert_eq!(cost([300, 400], Some([0, 2])), 400 * 512);
        assert_eq!(cost([1, 400], Some([0, 4000])), 400 * 512);
        assert_eq!(cost([60, 60], Some([60_000, 60_000])), 60 * 60 * 60_000);
        assert_eq!(cost([60, 60], Some([600_000, 70_000])), 60 * 60 * 512);
        assert_eq!(cost([usize::MAX, 2], Some([u64::MAX, u64::MAX])), u64::MAX);
    }

    #[test]
    fn every_stride_gives_the_elements_of_its_definition() {
        // Elements of two bytes that hold their number.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w");
        fs::write(&path, (0..60_000).flat_map(u16::to_le_bytes).collect::<Vec<_>>()).unwrap();
        let file = PositionedFile::new(fs::File::open(path).unwrap());
        for (shape, strides) in [
            ([3, 4], [4, 1]),
            ([4, 3], [1, 4]),
            ([5, 7], [20, 2]),
            ([5, 7], [2, 20]),
            ([6, 5], [0, 1]),
            ([6, 5], [1, 0]),
            ([6, 5], [0, 0]),
            ([1, 9], [0, 3]),
            ([9, 1], [3, 0]),
            ([200, 230], [230, 1]),
            ([200, 230], [1, 200]),
            // Farther apart than a window, and no farther than half of one.
            ([2, 2], [40_000, 7]),
            ([3, 2], [7, 40_000]),
            ([3, 4], [1, 16_000]),
        ] {
            let in_bytes = Some(strides.map(|stride| 2 * stride as u64));
            let view = View { start: 10, shape, elem_bytes: 2, strides: in_bytes, checksum: None };
            for rows in [0..shape[0], 1..shape[0], 0..1, 0..0] {
                let mut out = vec![0xee; rows.len() * view.row_bytes()];
                view.read(&file, rows.start, &mut out).unwrap();
                let wanted = rows.flat_map(|row| {
                    (0..shape[1]).flat_map(move |col| (5 + (row * strides[0] + col * strides[1]) as u16).to_le_bytes())
                });
                assert_eq!(out, wanted.collect::<Vec<_>>(), "{shape:?} {strides:?}");
            }
        }
    }
}
