//! The error type.

use pythia_text::Escaper;
use std::fmt::{self, Write};

/// Why a device cannot be used, or stopped working.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// No driver, no such GPU, or one that is too old: what was found and what was expected.
    Unavailable(String),
    /// The device has too little free memory.
    OutOfMemory {
        /// Requested bytes.
        wanted: usize,
        /// Bytes free on the device.
        free: usize,
    },
    /// No compiler for the kernels, or one that cannot compile for this device.
    Compiler(String),
    /// A kernel that the compiler refused, which is a bug.
    Kernel {
        /// Its source, and the format it was compiled for.
        unit: String,
        /// What the compiler said.
        log: String,
    },
    /// A call that failed, or a kernel that did.
    Device(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut Escaper::line(f);
        match self {
            Self::Unavailable(problem) | Self::Compiler(problem) | Self::Device(problem) => f.write_str(problem),
            Self::OutOfMemory { wanted, free } => {
                write!(f, "out of device memory: {wanted} bytes wanted, {free} free")
            }
            Self::Kernel { unit, log } => {
                let line = log.lines().find(|line| line.contains("error")).or_else(|| log.lines().next());
                write!(f, "kernels of {unit} do not compile: {}", line.unwrap_or("no reason given"))
            }
        }
    }
}

impl std::error::Error for Error {}
