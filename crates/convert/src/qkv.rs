//! The row order of the fused query-key-value projection.
//!
//! Hugging Face stores the rows of each head together, `[head][q, k, v][head_dim]`. GGUF has all queries, then all
//! keys, then all values, `[q, k, v][head][head_dim]`. Both consist of runs of `head_dim` rows, so regrouping means
//! reading the runs in another order.

use std::ops::Range;

/// The permutation for one head count and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QkvOrder {
    pub(crate) n_head: usize,
    pub(crate) head_dim: usize,
}

impl QkvOrder {
    /// The source rows of the GGUF rows `rows`, in order, as contiguous runs.
    pub(crate) fn source_runs(self, rows: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let Self { n_head, head_dim } = self;
        let mut next = rows.start;
        std::iter::from_fn(move || {
            if next >= rows.end {
                return None;
            }
            let (block, within) = (next / head_dim, next % head_dim);
            let (part, head) = (block / n_head, block % n_head);
            let len = (head_dim - within).min(rows.end - next);
            let start = (3 * head + part) * head_dim + within;
            next += len;
            Some(start..start + len)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_heads_of_two() {
        // Source rows: q0 q0 k0 k0 v0 v0 q1 q1 k1 k1 v1 v1.
        let order = QkvOrder { n_head: 2, head_dim: 2 };
        let rows: Vec<usize> = order.source_runs(0..12).flatten().collect();
        assert_eq!(rows, [0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11]);
    }

    #[test]
    fn any_split_reads_the_same_rows_and_each_row_once() {
        let order = QkvOrder { n_head: 3, head_dim: 4 };
        let whole: Vec<usize> = order.source_runs(0..36).flatten().collect();
        let mut sorted = whole.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq(0..36));
        for step in 1..=36 {
            let pieces = (0..36).step_by(step).map(|start| start..(start + step).min(36));
            let split: Vec<usize> = pieces.flat_map(|rows| order.source_runs(rows)).flatten().collect();
            assert_eq!(split, whole, "in pieces of {step}");
        }
    }
}
