//! Runs a model over a text and collects statistics with which quantizers weight errors.
//!
//! - [`imatrix`]: the importance of every column of every weight matrix.
//! - [`ColumnSummary`]: how uneven those importances are.
//! - [`calibration`]: the metric of the model's output at every matrix, by gradients; a file of its own.
//! - [`network`]: the model in f32, layer by layer, for what a pass of the runtime does not keep.
//!
//! A calibration runs the model, so this crate depends on `model` and `runtime`. [`network`] reads weights from any
//! source of a conversion, so it depends on `convert` too; `convert` knows nothing of it.

#![forbid(unsafe_code)]

pub mod calibration;
mod error;
pub mod imatrix;
pub mod network;
mod summary;

pub use calibration::{Calibration, METRIC_ROWS, MetricBlock};
pub use error::Error;
pub use summary::ColumnSummary;
