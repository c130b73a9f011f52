//! Sweeps: many checkpoints of many models, each at many levels.
//!
//! A sweep is a folder. Its manifest lists [cells](manifest::Cell): a checkpoint, a recipe (level and rounding), a measure
//! (a text or tasks). Cells of checkpoints with the same files are a [group](manifest::Group). A group is the unit of work:
//! one download, one base, all levels side by side. A cell has one result file, so any number of runners, anywhere, fill the
//! same folder, and what is there is not computed again.

#![forbid(unsafe_code)]

mod classify;
pub mod collect;
pub mod emit;
mod error;
mod estimate;
mod folder;
mod id;
mod job;
mod lease;
pub mod manifest;
mod order;
mod plan;
mod prepare;
#[cfg(feature = "hub")]
mod remote;
pub mod report;
pub mod result;
pub mod run;
#[cfg(test)]
mod sample;
mod shard;
pub mod spec;
pub mod status;
mod steps;
mod sweep;

pub use error::Error;
pub use id::{CellId, digest};
pub use manifest::{Cell, Checkpoint, Group, Manifest, Missing};
pub use plan::{Model, Request, plan, relative};
pub use result::{CellResult, ErrorClass, Outcome};
pub use shard::{Shard, assign};
pub use spec::{Measure, Recipe, Spec, TextFile};
pub use status::Status;
pub use steps::{Steps, step_of};
pub use sweep::{MANIFEST, Sweep};
