//! Rounds the matrices of a model together, in the metric of its output.

#![forbid(unsafe_code)]
// Columns and lanes are walked by index in several arrays at once.
#![allow(clippy::needless_range_loop)]

mod cholesky;
mod descent;
mod feedback;
mod input;
mod matrix;
mod output;
mod parallel;
mod rescale;
mod rounded;
mod search;
mod trial;

pub use input::InputMetric;
pub use matrix::{MatrixProblem, round};
pub use output::{OutputBlock, OutputMetric};
pub use rounded::Rounded;
