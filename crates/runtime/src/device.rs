//! Where models run: the processor, or a GPU where this build knows them.

#[cfg_attr(feature = "cuda", path = "device/cuda.rs")]
#[cfg_attr(not(feature = "cuda"), path = "device/none.rs")]
mod gpu;

use crate::machine::memory_available;
use gpu::Gpu;
use pythia_kernels::limits;
use pythia_model::{BATCH_TOKENS, ContextShape, Error, Model, Options};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

/// What [`Model::device`] says of the processor.
pub const CPU: &str = "cpu";

/// Hears remarks: which device was chosen and why, and that kernels are being compiled.
pub type Notify = Arc<dyn Fn(&str) + Send + Sync>;

/// What is asked for, by the names of PyTorch: `cpu`, `cuda`, `cuda:N` or `auto`.
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

/// What a device can do at most, as measured just before. A multiply and an add count as two operations.
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
pub struct Device {
    /// The processor if there is none.
    gpu: Option<Gpu>,
    /// The driver's number of the GPU.
    number: usize,
    /// Whether the processor takes what does not fit the GPU.
    is_auto: bool,
    notify: Notify,
}

impl Device {
    /// Finds what was chosen.
    ///
    /// # Errors
    /// If it is not there; `auto` always finds one.
    pub fn find(choice: Choice, notify: Notify) -> Result<Self, Error> {
        let gpu = |number| Gpu::find(number, Arc::clone(&notify));
        let (number, gpu) = match choice {
            Choice::Cpu => (0, None),
            Choice::Cuda(number) => (number, Some(gpu(number)?)),
            Choice::Auto => (0, gpu(0).map_err(|why| notify(&format!("device: cpu ({why})"))).ok()),
        };
        Ok(Self { gpu, number, is_auto: choice == Choice::Auto, notify })
    }

    /// Opens a model on it. Under `auto`, where the GPU cannot run it with its whole context, that is the processor; what
    /// was chosen is said once per model.
    ///
    /// # Errors
    /// If the file is no model, or does not fit.
    pub fn open(&self, path: &Path, options: &Options) -> Result<Model, Error> {
        let Some(gpu) = &self.gpu else { return Model::open(path, options) };
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
                Model::open(path, options)
            }
            Err(other) => Err(other),
        }
    }

    /// Decides for all of these models what `auto` would for each: results that stand side by side come from one device.
    /// Each is given by its first file and the size of all its files.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn settle<'p>(self, models: impl Iterator<Item = (&'p Path, u64)>, options: &Options) -> Result<Self, Error> {
        let largest = models.max_by_key(|(_, bytes)| *bytes);
        let Some((largest, _)) = largest.filter(|_| self.is_auto && self.gpu.is_some()) else { return Ok(self) };
        let gpu = if self.open(largest, options)?.device() == CPU { None } else { self.gpu };
        Ok(Self { gpu, is_auto: false, ..self })
    }

    /// What `--device` calls it.
    pub fn argument(&self) -> String {
        if self.gpu.is_none() { CPU.to_owned() } else { format!("cuda:{}", self.number) }
    }

    /// The GPU in words, if there is one.
    ///
    /// # Errors
    /// If the GPU does not tell.
    pub fn describe(&self) -> Result<Option<String>, Error> {
        self.gpu.as_ref().map(Gpu::describe).transpose()
    }

    /// Bytes that can be had for weights: of the GPU's memory, or what the system calls available.
    pub fn free_memory(&self) -> Option<u64> {
        match &self.gpu {
            Some(gpu) => gpu.free_memory(),
            None => memory_available(),
        }
    }

    /// Bytes of the GPU's memory that the models on it take; `None` without a GPU.
    pub fn allocated(&self) -> Option<u64> {
        self.gpu.as_ref().map(Gpu::allocated)
    }

    /// Measures what the device of `model` can do at most: the GPU, or the processor with the model's threads.
    ///
    /// # Errors
    /// If the GPU fails.
    pub fn limits(&self, model: &Model) -> Result<Limits, Error> {
        match &self.gpu {
            Some(gpu) if model.device() != CPU => gpu.limits(),
            _ => Ok(Limits {
                gigabytes_per_second: limits::read_bandwidth(model.cpu()) / 1e9,
                int8_gigaops_per_second: limits::int8_rate(model.cpu()) / 1e9,
                f32_gigaops_per_second: limits::f32_rate(model.cpu()) / 1e9,
            }),
        }
    }
}

/// Makes room for as long a context as the model knows, compiles what is needed, and lets both go.
fn try_whole_context(model: &Model) -> Result<(), Error> {
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
