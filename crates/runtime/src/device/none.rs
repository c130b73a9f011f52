//! Without the feature `cuda`, there are no GPUs.

use super::{Limits, Notify};
use pythia_model::{Error, Model, Options};
use std::path::Path;
use std::sync::Arc;

/// Has no values.
#[derive(Clone)]
pub(super) enum Gpu {}

impl Gpu {
    pub(super) fn find(_: usize, _: Notify) -> Result<Self, Error> {
        let problem = "this program was built without CUDA: `cargo build --release --features cuda` has it";
        Err(Error::Device(problem.to_owned()))
    }

    pub(super) fn open(&self, _: &Path, _: &Options) -> Result<Arc<Model>, Error> {
        match *self {}
    }

    pub(super) fn free_memory(&self) -> Option<u64> {
        match *self {}
    }

    pub(super) fn allocated(&self) -> u64 {
        match *self {}
    }

    pub(super) fn describe(&self) -> Result<String, Error> {
        match *self {}
    }

    pub(super) fn limits(&self) -> Result<Limits, Error> {
        match *self {}
    }
}
