//! Rounds the matrices of a model together, in the metric of its output.

#![forbid(unsafe_code)]
// Columns and lanes are walked by index in several arrays at once.
#![allow(clippy::needless_range_loop)]

mod allocate;
mod cholesky;
mod descent;
mod divergence;
mod error;
mod feedback;
mod input;
mod knapsack;
mod matrix;
mod moments;
mod output;
mod report;
mod rescale;
mod rounded;
mod search;
mod sequential;
mod settings;
mod trial;
mod walk;

pub use allocate::{Allocate, Allocation, allocate};
pub use error::Error;
pub use feedback::Feedback;
pub use input::InputMetric;
pub use matrix::{MatrixProblem, round};
pub use output::{OutputBlock, OutputMetric};
pub use report::{Alternative, MatrixReport, Report};
pub use rounded::Rounded;
pub use settings::Settings;
pub use walk::{Target, Walk};

#[cfg(test)]
mod tests;
