//! Devices: the processor, or a GPU if this build supports GPUs.

#[cfg_attr(feature = "cuda", path = "device/cuda.rs")]
#[cfg_attr(not(feature = "cuda"), path = "device/none.rs")]
mod gpu;

use crate::machine::memory_available;
use gpu::Gpu;
use pythia_kernels::{Cpu, limits};
pub use pythia_model::CPU;
use pythia_model::{BATCH_TOKENS, Budget, ContextShape, Error, Model, Options, Residence};
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

/// Receives notes: which device was chosen and why, and that kernels are being compiled.
pub type Notify = Arc<dyn Fn(&str) + Send + Sync>;

/// A requested device, named as in PyTorch: `cpu`, `cuda`, `cuda:N`; or `auto`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The processor.
    #[default]
    Cpu,
    /// A GPU, by the driver's number.
    Cuda(usize),
    /// The first GPU, if there is one and the model fits.
    Auto,
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':').unwrap_or((text, "0")) {
            ("cuda", number) => match number.parse() {
                Ok(number) => Ok(Self::Cuda(number)),
                Err(_) => Err(format!("found '{text}', wanted cuda:N with N the number of a GPU")),
            },
            _ if text == "cpu" => Ok(Self::Cpu),
            _ if text == "auto" => Ok(Self::Auto),
            _ => Err(format!("found '{text}', wanted cpu, cuda, cuda:N or auto")),
        }
    }
}

/// Measured limits of a device. A multiply and an add count as two operations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Read from memory.
    pub gigabytes_per_second: f64,
    /// Int8 operations.
    pub int8_gigaops_per_second: f64,
    /// Float operations.
    pub f32_gigaops_per_second: f64,
}

/// A device that was found.
#[derive(Clone)]
pub struct Device {
    /// `None` for the processor.
    gpu: Option<Gpu>,
    /// The driver's number of the GPU.
    number: usize,
    /// Whether the processor is used for a model that does not fit the GPU.
    is_auto: bool,
    notify: Notify,
}

impl Device {
    /// The processor.
    pub fn cpu() -> Self {
        Self { gpu: None, number: 0, is_auto: false, notify: Arc::new(|_: &str| ()) }
    }

    /// Finds the requested device.
    ///
    /// # Errors
    /// If it does not exist. `auto` always finds one.
    pub fn find(choice: Choice, notify: Notify) -> Result<Self, Error> {
        let gpu = |number| Gpu::find(number, Arc::clone(&notify));
        let (number, gpu) = match choice {
            Choice::Cpu => (0, None),
            Choice::Cuda(number) => (number, Some(gpu(number)?)),
            Choice::Auto => (0, gpu(0).map_err(|why| notify(&format!("device: cpu ({why})"))).ok()),
        };
        Ok(Self { gpu, number, is_auto: choice == Choice::Auto, notify })
    }

    /// Opens a model on it. `auto` uses the processor if the GPU cannot run the model with its whole context. The
    /// choice is notified once per model.
    ///
    /// # Errors
    /// If the file is not a model, or does not fit.
    pub fn open(&self, path: &Path, options: &Options) -> Result<Arc<Model>, Error> {
        let Some(gpu) = &self.gpu else { return open_on_processor(path, options) };
        let opened = gpu.open(path, options);
        if !self.is_auto {
            return opened;
        }
        match opened.and_then(|model| try_whole_context(&model).map(|()| model)) {
            Ok(model) => {
                (self.notify)(&format!("device: {}", model.device()));
                Ok(model)
            }
            Err(why @ (Error::Device(_) | Error::Request(_))) => {
                (self.notify)(&format!("device: cpu ({why})"));
                open_on_processor(path, options)
            }
            Err(other) => Err(other),
        }
    }

    /// Makes the choice of `auto` once for all of these models, so that comparable results come from one device. Each
    /// model is given by its first file and the size of all its files.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn settle<'p>(self, models: impl Iterator<Item = (&'p Path, u64)>, options: &Options) -> Result<Self, Error> {
        let largest = models.max_by_key(|(_, bytes)| *bytes);
        let Some((largest, _)) = largest.filter(|_| self.is_auto && self.gpu.is_some()) else { return Ok(self) };
        let gpu = if self.open(largest, options)?.device() == CPU { None } else { self.gpu };
        Ok(Self { gpu, is_auto: false, ..self })
    }

    /// Its name for `--device`.
    pub fn argument(&self) -> String {
        if self.gpu.is_none() { CPU.to_owned() } else { format!("cuda:{}", self.number) }
    }

    /// A description of the GPU, if it is one.
    ///
    /// # Errors
    /// If the driver fails.
    pub fn describe(&self) -> Result<Option<String>, Error> {
        self.gpu.as_ref().map(Gpu::describe).transpose()
    }

    /// Bytes available for weights: free memory of the GPU, or the system's available memory.
    pub fn free_memory(&self) -> Option<u64> {
        match &self.gpu {
            Some(gpu) => gpu.free_memory(),
            None => memory_available(),
        }
    }

    /// Bytes of GPU memory used by models; `None` for the processor.
    pub fn allocated(&self) -> Option<u64> {
        self.gpu.as_ref().map(Gpu::allocated)
    }

    /// Measures the limits of the device of `model`: the GPU, or the processor with the model's threads.
    ///
    /// # Errors
    /// If the GPU fails.
    pub fn limits(&self, model: &Model) -> Result<Limits, Error> {
        match &self.gpu {
            Some(gpu) if model.device() != CPU => gpu.limits(),
            _ => Ok(Limits::of_processor(model.cpu())),
        }
    }
}

impl Limits {
    /// One in this many of the bytes that are available may be used to measure how fast memory is.
    const SHARE: u64 = 4;

    /// Of each the higher.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            gigabytes_per_second: self.gigabytes_per_second.max(other.gigabytes_per_second),
            int8_gigaops_per_second: self.int8_gigaops_per_second.max(other.int8_gigaops_per_second),
            f32_gigaops_per_second: self.f32_gigaops_per_second.max(other.f32_gigaops_per_second),
        }
    }

    /// Measures the limits of the processor with the threads of `cpu`.
    pub fn of_processor(cpu: &Cpu) -> Self {
        let share = memory_available().map_or(limits::BUFFER_BYTES as u64, |bytes| bytes / Self::SHARE);
        let buffer_bytes = usize::try_from(share).unwrap_or(usize::MAX).min(limits::BUFFER_BYTES);
        Self {
            gigabytes_per_second: limits::read_bandwidth(cpu, buffer_bytes) / 1e9,
            int8_gigaops_per_second: limits::int8_rate(cpu) / 1e9,
            f32_gigaops_per_second: limits::f32_rate(cpu) / 1e9,
        }
    }
}

/// For weights that many passes will read: a copy, as long as all of these copies take no more than half of the memory that
/// was available when this was first called.
pub fn copied_if_roomy() -> Residence {
    static COPIES: LazyLock<Option<Arc<Budget>>> =
        LazyLock::new(|| memory_available().map(|bytes| Budget::new(bytes / 2)));
    COPIES.clone().map_or(Residence::Mapped, Residence::Within)
}

/// Opens a model for the processor, with the memory that is available.
fn open_on_processor(path: &Path, options: &Options) -> Result<Arc<Model>, Error> {
    let available_bytes = options.available_bytes.or_else(memory_available);
    Model::open(path, &Options { available_bytes, ..options.clone() })
}

/// Allocates the longest context of the model and compiles the kernels, then frees both.
fn try_whole_context(model: &Arc<Model>) -> Result<(), Error> {
    let n_ctx = model.hparams().n_ctx;
    model.context(ContextShape { n_seq: 1, n_ctx, n_batch: n_ctx.min(BATCH_TOKENS) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_as_in_torch() {
        assert_eq!("cpu".parse(), Ok(Choice::Cpu));
        assert_eq!("auto".parse(), Ok(Choice::Auto));
        assert_eq!("cuda".parse(), Ok(Choice::Cuda(0)));
        assert_eq!("cuda:3".parse(), Ok(Choice::Cuda(3)));
        for wrong in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "CUDA"] {
            assert!(wrong.parse::<Choice>().unwrap_err().starts_with(&format!("found '{wrong}'")), "{wrong}");
        }
    }
}
