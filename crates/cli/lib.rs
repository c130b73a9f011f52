//! The two command lines, `pythia-quant` and `pythia-run`: arguments, progress, reports and exit codes.
//!
//! All computation is in the libraries. This crate turns a command line into a request, and a result into text or JSON.

mod device;
pub mod exit;
mod habits;
mod input;
mod outputs;
pub mod progress;
pub mod quant;
pub mod run;
mod shown;
