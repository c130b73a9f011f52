//! GPUs, with the feature `cuda`.

use super::{Limits, Notify};
use pythia_cuda::{Device, Limits as DeviceLimits};
use pythia_model::{Error, Model, Options};
use std::path::Path;
use std::sync::{Arc, Once};

/// A GPU.
#[derive(Clone)]
pub(super) struct Gpu(Arc<Device>);

impl Gpu {
    pub(super) fn find(number: usize, notify: Notify) -> Result<Self, Error> {
        let device = Device::open(number).map_err(failed)?;
        let once = Once::new();
        let told = move || notify("compiling CUDA kernels for this GPU: once, they are kept");
        device.on_compile(move |_| once.call_once(&told));
        Ok(Self(Arc::new(device)))
    }

    pub(super) fn open(&self, path: &Path, options: &Options) -> Result<Arc<Model>, Error> {
        pythia_cuda::open(&self.0, path, options)
    }

    pub(super) fn free_memory(&self) -> Option<u64> {
        self.0.memory().ok().map(|(free, _)| free as u64)
    }

    pub(super) fn allocated(&self) -> u64 {
        self.0.allocated() as u64
    }

    pub(super) fn describe(&self) -> Result<String, Error> {
        self.0.describe().map(|description| description.to_string()).map_err(failed)
    }

    pub(super) fn limits(&self) -> Result<Limits, Error> {
        let limits = DeviceLimits::measure(&self.0).map_err(failed)?;
        Ok(Limits {
            gigabytes_per_second: limits.copy_bandwidth / 1e9,
            int8_gigaops_per_second: limits.int8_rate / 1e9,
            f32_gigaops_per_second: limits.f32_rate / 1e9,
        })
    }
}

fn failed(error: pythia_cuda::Error) -> Error {
    Error::Device(error.to_string())
}
