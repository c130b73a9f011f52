//! Describes a GPU.

use super::driver::{self, ok};
use super::memory;
use crate::error::Error;
use cudarc::driver::sys;
use std::fmt;

/// The description of a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Description {
    /// Its product name.
    pub name: String,
    /// Compute capability: major and minor.
    pub capability: (u32, u32),
    /// Streaming multiprocessors.
    pub multiprocessors: usize,
    /// Bytes of memory.
    pub memory: usize,
    /// Bytes of it that are free.
    pub free: usize,
    /// The CUDA version that the driver is made for: major and minor.
    pub driver: (u32, u32),
    /// Whether it is the emulator for tests, and not a GPU.
    pub emulated: bool,
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gb = |bytes: usize| bytes as f64 / 1e9;
        write!(
            f,
            "{}, compute capability {}.{}, {} multiprocessors, {:.1} of {:.1} GB free, driver for CUDA {}.{}",
            self.name,
            self.capability.0,
            self.capability.1,
            self.multiprocessors,
            gb(self.free),
            gb(self.memory),
            self.driver.0,
            self.driver.1
        )
    }
}

/// Describes the GPU whose context is current on this thread.
pub(super) fn describe(device: sys::CUdevice) -> Result<Description, Error> {
    let (free, memory) = memory::free()?;
    let name = name(device).map_err(Error::Device)?;
    let mut version = 0;
    // SAFETY: writes a number.
    ok(unsafe { driver::cuDriverGetVersion(&mut version) }).map_err(Error::Device)?;
    Ok(Description {
        capability: capability(device).map_err(Error::Device)?,
        multiprocessors: multiprocessors(device).map_err(Error::Device)?,
        memory,
        free,
        driver: (version as u32 / 1000, version as u32 % 1000 / 10),
        emulated: name.contains("emulated"),
        name,
    })
}

pub(super) fn handle(ordinal: usize) -> Result<sys::CUdevice, String> {
    let mut device = 0;
    // SAFETY: writes a number.
    ok(unsafe { driver::cuDeviceGet(&mut device, ordinal as i32) })?;
    Ok(device)
}

pub(super) fn name(device: sys::CUdevice) -> Result<String, String> {
    let mut name = [0_u8; 256];
    // SAFETY: writes a string that ends in a zero, of at most as many bytes.
    ok(unsafe { driver::cuDeviceGetName(name.as_mut_ptr().cast(), name.len() as i32, device) })?;
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    Ok(String::from_utf8_lossy(&name[..end]).into_owned())
}

pub(super) fn capability(device: sys::CUdevice) -> Result<(u32, u32), String> {
    use sys::CUdevice_attribute::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
    };
    Ok((attribute(device, MAJOR)? as u32, attribute(device, MINOR)? as u32))
}

pub(super) fn multiprocessors(device: sys::CUdevice) -> Result<usize, String> {
    let count = attribute(device, sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
    Ok((count as usize).max(1))
}

fn attribute(device: sys::CUdevice, which: sys::CUdevice_attribute) -> Result<i32, String> {
    let mut value = 0;
    // SAFETY: writes a number.
    ok(unsafe { driver::cuDeviceGetAttribute(&mut value, which, device) })?;
    Ok(value)
}
