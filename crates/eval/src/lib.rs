//! Tasks of language models: their documents, how they are scored, and the metrics.
//!
//! A [`Task`] turns rows of a dataset into [`Doc`]uments, each with what it [asks](Asks) of a model. A [`Selection`] names
//! tasks and loads their documents; [`evaluate`] puts them to a [`Subject`], a model, and gives the task's
//! [metrics](Metric); [`results`] writes them down. Requests, token rules, metrics, standard errors and result files are
//! those of lm-evaluation-harness 0.4.13 with its `hf` backend.

#![forbid(unsafe_code)]

mod answer;
mod dataset;
mod doc;
mod drop;
mod encode;
mod error;
mod evaluation;
pub mod journal;
mod measure;
mod metric;
mod paired;
pub mod plot;
mod python;
mod replies;
mod reply;
mod results;
mod runner;
mod samples;
mod selection;
mod statistics;
mod task;

pub use dataset::{Data, PARQUET_THREAD};
pub use doc::{Asks, DEFAULT_MAX_TOKENS, Doc, Row};
pub use error::Error;
pub use evaluation::{GroupResult, GroupValue, TaskResult, evaluate};
pub use measure::{Item, Measured};
pub use metric::{Extract, Filter, Kind, Metric};
pub use paired::Paired;
pub use replies::REPLIES;
pub use reply::Reply;
pub use results::{Facts, results, sanitize};
pub use runner::{Keeping, Kept, Subject};
pub use samples::Sample;
pub use selection::{Selected, Selection, Work};
pub use task::{Dataset, Group, Mean, Member, Rows, Task, Which};
