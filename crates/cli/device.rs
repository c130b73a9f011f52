//! Where models run: `--device`.

use crate::exit;
use pythia_model::Error;
use pythia_runtime::device::{Choice, Device};
use std::str::FromStr;
use std::sync::Arc;

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

impl DeviceArgs {
    /// What is asked for.
    pub(crate) fn choice(self) -> Choice {
        match self.gpu_layers {
            Some(GpuLayers { any: true }) => Choice::Auto,
            Some(GpuLayers { any: false }) => Choice::Cpu,
            None => self.device,
        }
    }

    /// Finds it. What was chosen is said on stderr.
    ///
    /// # Errors
    /// If it is not there; `auto` always finds one.
    pub(crate) fn find(self) -> Result<Device, Error> {
        Device::find(self.choice(), Arc::new(|line: &str| exit::note(line)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_on_a_gpu_are_all_or_none() {
        for (text, any) in [("0", false), ("1", true), ("99", true), ("all", true), ("auto", true)] {
            assert_eq!(text.parse(), Ok(GpuLayers { any }), "{text}");
        }
        assert!("-1".parse::<GpuLayers>().is_err() && "x".parse::<GpuLayers>().is_err());
    }
}
