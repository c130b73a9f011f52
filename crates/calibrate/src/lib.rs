//! Runs a model over a text and collects statistics with which quantizers weight errors.
//!
//! - [`imatrix`]: the importance of every column of every weight matrix.
//! - [`ColumnSummary`]: how uneven those importances are.
//!
//! A calibration runs the model, so this crate depends on `model` and `runtime`. Its result is a file that the
//! conversion reads, so neither depends on the other.

#![forbid(unsafe_code)]

pub mod imatrix;
mod summary;

pub use summary::ColumnSummary;
