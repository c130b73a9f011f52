//! Where models run: `--device`.

#[cfg_attr(feature = "cuda", path = "device/cuda.rs")]
#[cfg_attr(not(feature = "cuda"), path = "device/none.rs")]
mod gpu;

use crate::exit::{self, Failure};
use crate::report::memory_available;
use crate::run::bench::Limits;
use crate::run::bench::measure::BATCH_TOKENS;
use gpu::Gpu;
use pythia_model::{ContextShape, Error, Model, Options};
use std::path::Path;
use std::str::FromStr;

/// What [`Model::device`] says of the processor.
pub(crate) const CPU: &str = "cpu";

/// What `--device` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
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

/// The option.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct DeviceArgs {
    /// Where to compute: cpu, cuda, cuda:N, or auto (a GPU if the model fits in one); results do not depend on it
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: Choice,
    /// As llama.cpp's -ngl: 0 computes on the CPU, any other number is --device auto, since a model is on one device
    #[arg(long, visible_alias = "n-gpu-layers", value_name = "N", conflicts_with = "device")]
    gpu_layers: Option<GpuLayers>,
}

/// A number of layers, or `all` or `auto`; only whether there are any counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct GpuLayers {
    any: bool,
}

impl FromStr for GpuLayers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" | "auto" => Ok(Self { any: true }),
            _ => match text.parse::<u32>() {
                Ok(n) => Ok(Self { any: n > 0 }),
                Err(_) => Err(format!("found '{text}', wanted a number, all or auto")),
            },
        }
    }
}

/// Where to compute, found.
pub(crate) struct Device {
    /// The processor if there is none.
    gpu: Option<Gpu>,
    /// The driver's number of the GPU.
    number: usize,
    /// Whether the processor takes what does not fit the GPU.
    is_auto: bool,
}

impl DeviceArgs {
    /// Finds the device.
    ///
    /// # Errors
    /// If it is not there; `auto` always finds one.
    pub(crate) fn find(self) -> Result<Device, Failure> {
        let choice = match self.gpu_layers {
            Some(GpuLayers { any: true }) => Choice::Auto,
            Some(GpuLayers { any: false }) => Choice::Cpu,
            None => self.device,
        };
        let is_auto = choice == Choice::Auto;
        let gpu = match choice {
            Choice::Cpu => None,
            Choice::Cuda(number) => Some(Gpu::find(number).map_err(Failure::io)?),
            Choice::Auto => Gpu::find(0).map_err(|why| exit::note(format_args!("device: cpu ({why})"))).ok(),
        };
        let number = if let Choice::Cuda(number) = self.device { number } else { 0 };
        Ok(Device { gpu, number, is_auto })
    }
}

impl Device {
    /// Opens a model on it. Under `auto`, where the GPU cannot run it with its whole context, that is the processor; what
    /// was chosen is said once per model.
    ///
    /// # Errors
    /// If the file is no model, or does not fit.
    pub(crate) fn open(&self, path: &Path, options: &Options) -> Result<Model, Failure> {
        let Some(gpu) = &self.gpu else { return Ok(Model::open(path, options)?) };
        let opened = gpu.open(path, options);
        if !self.is_auto {
            return Ok(opened?);
        }
        match opened.and_then(|model| try_whole_context(&model).map(|()| model)) {
            Ok(model) => {
                exit::note(format_args!("device: {}", model.device()));
                Ok(model)
            }
            Err(why @ (Error::Device(_) | Error::Request(_))) => {
                exit::note(format_args!("device: cpu ({why})"));
                Ok(Model::open(path, options)?)
            }
            Err(other) => Err(other.into()),
        }
    }

    /// Decides for all of these models what `auto` would for each: results that stand side by side come from one device.
    /// Each is given by its first file and the size of all its files.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub(crate) fn settle<'p>(
        self,
        models: impl Iterator<Item = (&'p Path, u64)>,
        options: &Options,
    ) -> Result<Self, Failure> {
        let largest = models.max_by_key(|(_, bytes)| *bytes);
        let Some((largest, _)) = largest.filter(|_| self.is_auto && self.gpu.is_some()) else { return Ok(self) };
        let gpu = if self.open(largest, options)?.device() == CPU { None } else { self.gpu };
        Ok(Self { gpu, is_auto: false, ..self })
    }

    /// What `--device` calls it.
    pub(crate) fn argument(&self) -> String {
        if self.gpu.is_none() { CPU.to_owned() } else { format!("cuda:{}", self.number) }
    }

    /// The GPU in words, if there is one.
    ///
    /// # Errors
    /// If the GPU does not tell.
    pub(crate) fn describe(&self) -> Result<Option<String>, Failure> {
        self.gpu.as_ref().map(Gpu::describe).transpose().map_err(Failure::io)
    }

    /// Bytes that can be had for weights: of the GPU's memory, or what the system calls available.
    pub(crate) fn free_memory(&self) -> Option<u64> {
        match &self.gpu {
            Some(gpu) => gpu.free_memory(),
            None => memory_available(),
        }
    }

    /// Bytes of the GPU's memory that the models on it take; `None` without a GPU.
    pub(crate) fn allocated(&self) -> Option<u64> {
        self.gpu.as_ref().map(Gpu::allocated)
    }

    /// What it can do at most, measured; `None` for the processor, whose limits depend on the threads of a model.
    ///
    /// # Errors
    /// If the GPU fails.
    pub(crate) fn limits(&self) -> Result<Option<Limits>, Failure> {
        self.gpu.as_ref().map(Gpu::limits).transpose().map_err(Failure::io)
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
    #[test]
    fn layers_on_a_gpu_are_all_or_none() {
        for (text, any) in [("0", false), ("1", true), ("99", true), ("all", true), ("auto", true)] {
            assert_eq!(text.parse(), Ok(GpuLayers { any }), "{text}");
        }
        assert!("-1".parse::<GpuLayers>().is_err() && "x".parse::<GpuLayers>().is_err());
    }
}
