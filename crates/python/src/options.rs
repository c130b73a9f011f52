//! How a model is opened: the keyword arguments that several functions share.

use crate::error::Problem;
use pythia_model::{Options, Residence};
use pythia_runtime::machine::MAX_THREADS;
use pythia_runtime::{Device, device, parse_activations, parse_gelu, parse_kv};
use std::sync::Arc;

/// Threads, arithmetic and device, as they were given.
#[derive(Debug)]
pub(crate) struct How {
    pub(crate) threads: Option<usize>,
    pub(crate) activations: String,
    pub(crate) gelu: Option<String>,
    pub(crate) kv: String,
    pub(crate) isa: Option<String>,
    pub(crate) device: String,
    /// `None` for a copy of the weights if it pays and there is room.
    pub(crate) mmap: Option<bool>,
}

impl How {
    /// The options of a model.
    pub(crate) fn options(&self) -> Result<Options, Problem> {
        let named = |name: &'static str| move |problem: String| Problem::usage(format_args!("{name}: {problem}"));
        Ok(Options {
            threads: threads(self.threads)?,
            isa: self
                .isa
                .as_deref()
                .map(str::parse)
                .transpose()
                .map_err(|e| Problem::usage(format_args!("isa: {e}")))?,
            activations: parse_activations(&self.activations).map_err(named("activations"))?,
            gelu: self.gelu.as_deref().map(parse_gelu).transpose().map_err(named("gelu"))?,
            kv: parse_kv(&self.kv).map_err(named("kv"))?,
            residence: match self.mmap {
                None => device::copied_if_roomy(),
                Some(true) => Residence::Mapped,
                Some(false) => Residence::Copied,
            },
            ..Options::default()
        })
    }

    /// The device; `notify` is told which was chosen.
    pub(crate) fn device(&self, notify: impl Fn(&str) + Send + Sync + 'static) -> Result<Device, Problem> {
        let choice = self.device.parse().map_err(|e| Problem::usage(format_args!("device: {e}")))?;
        Ok(Device::find(choice, Arc::new(notify) as device::Notify)?)
    }
}

/// A number of threads: `None` for one per core.
pub(crate) fn threads(given: Option<usize>) -> Result<usize, Problem> {
    match given {
        None => Ok(0),
        Some(n) if (1..=MAX_THREADS).contains(&n) => Ok(n),
        Some(n) => Err(Problem::usage(format_args!("threads: found {n}, wanted None or 1 to {MAX_THREADS}"))),
    }
}
