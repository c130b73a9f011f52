//! What a text says about the weights of a model, for quantizers that weigh errors by it.
//!
//! - [`imatrix`]: the importance of every column of every weight matrix.
//! - [`ColumnSummary`]: how uneven those importances are.
//!
//! A calibration runs the model over a text, so it stands above `model` and `runtime`. What it finds is a file, which
//! conversion reads: the two need not know each other.

#![forbid(unsafe_code)]

pub mod imatrix;
mod summary;

pub use summary::ColumnSummary;
