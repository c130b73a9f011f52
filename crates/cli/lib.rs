//! The two command lines, `pythia-quant` and `pythia-run`: arguments, progress, reports and exit codes.
//!
//! Everything that computes is in the libraries; here a command line becomes a request, and a result text or JSON.

mod device;
pub mod exit;
mod habits;
mod input;
pub mod progress;
pub mod quant;
mod report;
pub mod run;
