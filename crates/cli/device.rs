//! The option `--device`.

use crate::exit;
use pythia_model::Error;
use pythia_runtime::device::{Choice, Device};
use std::str::FromStr;
use std::sync::Arc;

/// The options that choose a device.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct DeviceArgs {
    /// Device: cpu, cuda, cuda:N, or auto (the first GPU if the model fits there); does not change results
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: Choice,
    /// For llama.cpp command lines: 0 means --device cpu, any other number --device auto (a model is on one device)
    #[arg(long, visible_alias = "n-gpu-layers", value_name = "N", conflicts_with = "device")]
    gpu_layers: Option<GpuLayers>,
}

/// A number of layers, or `all` or `auto`. Only zero and non-zero differ.
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
    /// The requested device.
    pub(crate) fn choice(self) -> Choice {
        match self.gpu_layers {
            Some(GpuLayers { any: true }) => Choice::Auto,
            Some(GpuLayers { any: false }) => Choice::Cpu,
            None => self.device,
        }
    }

    /// Finds the device. A note on stderr says which one `auto` has chosen.
    ///
    /// # Errors
    /// If it does not exist. `auto` always finds one.
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
