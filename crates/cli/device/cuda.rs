//! GPUs, with the feature `cuda`.

use crate::exit;
use crate::run::bench::Limits;
use pythia_cuda::{Device, Limits as DeviceLimits};
use pythia_model::{Error, Model, Options};
use std::path::Path;
use std::sync::{Arc, Once};

/// A GPU.
pub(super) struct Gpu(Arc<Device>);

impl Gpu {
    pub(super) fn find(number: usize) -> Result<Self, String> {
        let device = Device::open(number).map_err(|e| e.to_string())?;
        let once = Once::new();
        let told = || exit::note("compiling CUDA kernels for this GPU: once, they are kept");
        device.on_compile(move |_| once.call_once(told));
        Ok(Self(Arc::new(device)))
    }

    pub(super) fn open(&self, path: &Path, options: &Options) -> Result<Model, Error> {
        pythia_cuda::open(&self.0, path, options)
    }

    pub(super) fn free_memory(&self) -> Option<u64> {
        self.0.memory().ok().map(|(free, _)| free as u64)
    }

    pub(super) fn allocated(&self) -> u64 {
        self.0.allocated() as u64
    }

    pub(super) fn describe(&self) -> Result<String, String> {
        self.0.describe().map(|description| description.to_string()).map_err(|e| e.to_string())
    }

    pub(super) fn limits(&self) -> Result<Limits, String> {
        let limits = DeviceLimits::measure(&self.0).map_err(|e| e.to_string())?;
        Ok(Limits {
            gigabytes_per_second: limits.copy_bandwidth / 1e9,
            int8_gigaops_per_second: limits.int8_rate / 1e9,
            f32_gigaops_per_second: limits.f32_rate / 1e9,
        })
    }
}
