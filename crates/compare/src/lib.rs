//! Compares quantization levels of a model on a text: size, quality, speed and memory.
//!
//! [`Comparison::prepare`] checks a [`Request`]: files, context, text. Nothing is written. [`Comparison::run`]
//!
//! 1. converts what the [`cache`] lacks, in one pass over the checkpoint or file for each [`Rounding`];
//! 2. reads the digests of all files;
//! 3. measures speed and memory of each, in a process of its own where there is a [`Worker`];
//! 4. scores all of them against the base, window by window, with the base's predictions computed once for as many
//!    files as fit into memory;
//!
//! and returns a [`Report`], which [`report::Files`] writes as JSON, CSV, Markdown and HTML. Converted files and scores
//! stay in the cache, so a comparison that was stopped continues where it was, and gives the same bits.
//!
//! ```no_run
//! use pythia_compare::{Base, CheckpointBase, Comparison, Request, report};
//! use pythia_runtime::{Device, Text};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let base = CheckpointBase { path: "pythia-70m".into(), ..CheckpointBase::default() };
//! let text = Text::open("wiki.test.raw".as_ref())?;
//! let request = Request { levels: vec!["Q4_0".parse()?], ..Request::new(Base::Checkpoint(base), text) };
//! let mut comparison = Comparison::prepare(request)?;
//! let report = comparison.run(&Device::cpu(), &())?;
//! for entry in &report.entries {
//!     println!("{}: perplexity {}", entry.name, entry.perplexity.value);
//! }
//! report::Files::create("report".as_ref(), &())?.write(&report, false)?;
//! comparison.finish();
//! # Ok(())
//! # }
//! ```
//!
//! A sweep prepares and runs one comparison after the other; they share the cache. A comparison can be moved to another
//! thread, reports its progress to an [`Observer`], and stops when [`Request::cancel`] is raised.

#![forbid(unsafe_code)]

pub mod bench;
pub mod cache;
mod comparison;
mod error;
mod facts;
pub mod fit;
mod journals;
mod levels;
mod measure;
mod observer;
mod prepare;
mod quality;
pub mod report;
mod request;
mod rounding;
mod speed;
mod tasks;
mod worker;

pub use cache::folder::program_id;
pub use comparison::{Candidate, Comparison, FileScore, Scores};
pub use error::Error;
pub use measure::{Measured, measure};
pub use observer::{Observer, Stage};
pub use quality::check_n_ctx;
pub use report::Report;
pub use request::{Base, CheckpointBase, Request};
pub use rounding::Rounding;
pub use worker::Worker;
