//! Compiles kernels: assembles their source, compiles it with NVRTC, and keeps the result on disk by a hash of its
//! inputs.

mod cache;
mod nvrtc;
mod search;
mod sources;
mod tables;
#[cfg(test)]
mod tests;

use crate::error::Error;
use cache::ImageCache;
use nvrtc::Nvrtc;
use pythia_tensor::TensorType;
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::{env, fmt};

#[cfg(test)]
pub(crate) use nvrtc::Nvrtc as Compiler;
pub(crate) use sources::Source;

/// A kernel: its file, the format that the file is compiled for, and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kernel {
    /// Which source.
    pub(crate) source: Source,
    /// The format for `Format` in the source, if the source is generic over formats.
    pub(crate) format: Option<TensorType>,
    /// The name it is declared by.
    pub(crate) name: &'static str,
}

/// A compilation unit: a source, and a format if the source is generic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Unit {
    pub(crate) source: Source,
    pub(crate) format: Option<TensorType>,
}

/// A compute capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Architecture {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

/// Options other than the architecture. Contraction of products and sums is off, because the numeric contract fixes
/// which are fused. Subnormal numbers and exact division and square root are the defaults.
#[doc(hidden)]
pub const OPTIONS: [&str; 3] = ["--fmad=false", "--std=c++17", "-default-device"];

/// The image of a unit, from the cache or compiled. `before` is called with the unit's name before it is compiled.
pub(crate) fn image(unit: Unit, device: Architecture, before: impl FnOnce(&str)) -> Result<Vec<u8>, Error> {
    let nvrtc = Nvrtc::get()?;
    let cache = ImageCache::of(variable);
    let target = nvrtc.target(device)?;
    let text = sources::assemble(unit);
    let key = key(&text, nvrtc, target);
    if let Some(image) = cache.as_ref().and_then(|cache| cache.read(&key)) {
        return Ok(image);
    }
    before(&unit.to_string());
    let image = nvrtc.compile(&text, target, &OPTIONS).map_err(|error| error.of(unit))?;
    if let Some(cache) = cache {
        cache.write(&key, &image);
    }
    Ok(image)
}

/// Whether there is a compiler for a device.
pub(crate) fn check(device: Architecture) -> Result<(), Error> {
    Nvrtc::get()?.target(device).map(|_| ())
}

/// A path in an environment variable, if it is set.
fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The name of an image in the cache, a hash of all its inputs.
fn key(text: &str, nvrtc: &Nvrtc, target: nvrtc::Target) -> String {
    let mut hash = Sha256::new();
    let identity = nvrtc.identity();
    let architecture = target.to_string();
    for part in [&[text, &identity, &architecture][..], &OPTIONS].concat() {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    format!("{}.{}", pythia_text::hex(&hash.finalize()), target.extension())
}

/// Every unit by name, with its assembled text, for checks with other compilers.
#[doc(hidden)]
pub fn units() -> impl Iterator<Item = (String, String)> {
    sources::units().map(|unit| (unit.to_string(), sources::assemble(unit)))
}

impl Kernel {
    pub(crate) fn unit(self) -> Unit {
        Unit { source: self.source, format: self.format }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.format {
            None => write!(f, "{}", self.source.name()),
            Some(format) => write!(f, "{} {}", self.source.name(), format.name()),
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.unit())
    }
}
