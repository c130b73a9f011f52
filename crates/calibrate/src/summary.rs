//! How the importances of a matrix are distributed.

use pythia_gguf::ImatrixEntry;
use serde::Serialize;

/// Mean squared inputs of the columns of a matrix, in numbers.
#[derive(Debug, Serialize)]
pub struct ColumnSummary {
    /// Name of the matrix in GGUF.
    pub tensor: String,
    /// Number of columns.
    pub cols: usize,
    /// Mean over the columns.
    pub mean: f64,
    /// The largest.
    pub max: f64,
    /// The column that has it.
    pub max_column: usize,
    /// Share of the sum in the largest hundredth of the columns: 0.01 if all columns are equal, 0 if all inputs were
    /// zero. The larger it is, the more an importance matrix can gain.
    pub top_percent_share: f64,
}

impl ColumnSummary {
    /// That of an entry with one count.
    pub fn of(entry: &ImatrixEntry) -> Self {
        let count = f64::from(entry.counts()[0]);
        let mut columns: Vec<(usize, f64)> =
            entry.sums().iter().map(|&sum| f64::from(sum) / count).enumerate().collect();
        columns.sort_by(|a, b| b.1.total_cmp(&a.1));
        let sum_of = |columns: &[(usize, f64)]| columns.iter().map(|column| column.1).sum::<f64>();
        let total = sum_of(&columns);
        let top = sum_of(&columns[..columns.len().div_ceil(100)]);
        let (max_column, max) = columns[0];
        Self {
            tensor: entry.name().to_owned(),
            cols: columns.len(),
            mean: total / columns.len() as f64,
            max,
            max_column,
            // A matrix whose inputs were all zero has none.
            top_percent_share: if total > 0.0 { top / total } else { 0.0 },
        }
    }
}
