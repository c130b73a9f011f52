//! What the operating system tells about the machine and this process.

use crate::device::CPU;
use pythia_model::Model;
use serde::Serialize;
use std::fmt;

/// Where the measurements were made.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// Where models ran: `cpu`, or the name of a GPU.
    pub(crate) device: String,
    /// The processor's name.
    pub(crate) cpu: String,
    /// The instruction set the kernels used.
    pub(crate) isa: String,
    /// Threads that computed.
    pub(crate) threads: usize,
}

impl Machine {
    /// This machine as an opened model uses it.
    pub(crate) fn of(model: &Model) -> Self {
        let (device, isa) = (model.device().to_owned(), model.isa_name().to_owned());
        Self { device, cpu: cpu_name(), isa, threads: model.threads() }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.device != CPU {
            write!(f, "{}; host: ", self.device)?;
        }
        let threads = if self.threads == 1 { "thread" } else { "threads" };
        write!(f, "{}, {}, {} {threads}", self.cpu, self.isa, self.threads)
    }
}

/// The processor's name as Linux gives it, else the architecture. Arm kernels name no model.
fn cpu_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = ["model name", "Hardware", "Model"].iter().find_map(|key| field(&info, key));
    named.unwrap_or(std::env::consts::ARCH).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The value of a `key : value` line.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.into_iter().find(|(k, _)| k.trim() == key).map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
}

/// The peak resident memory of this process, counted from the last reset where the system has one.
#[derive(Debug)]
pub(crate) struct PeakRss {
    was_reset: bool,
}

impl PeakRss {
    /// Starts counting again from what is resident now. Linux allows it to the process itself.
    pub(crate) fn reset() -> Self {
        Self { was_reset: std::fs::write("/proc/self/clear_refs", "5").is_ok() }
    }

    /// Whether the count began at the reset; else it began with the process.
    pub(crate) fn was_reset(&self) -> bool {
        self.was_reset
    }

    /// The peak in bytes; `None` where the system does not tell.
    pub(crate) fn bytes(&self) -> Option<u64> {
        high_water_mark(&std::fs::read_to_string("/proc/self/status").ok()?)
    }
}

/// Memory that can be had without swapping, file cache included; `None` where the system does not tell.
pub(crate) fn memory_available() -> Option<u64> {
    kib_field(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable")
}

fn high_water_mark(status: &str) -> Option<u64> {
    kib_field(status, "VmHWM")
}

/// Bytes of a `key: 12 kB` line.
fn kib_field(text: &str, key: &str) -> Option<u64> {
    let kib: u64 = field(text, key)?.strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_high_water_mark() {
        assert_eq!(high_water_mark("VmPeak:\t 900 kB\nVmHWM:\t    1234 kB\n"), Some(1_263_616));
        for broken in ["", "VmHWM:", "VmHWM: x kB", "VmHWM: 12 MB", "VmHWM: 99999999999999999999 kB"] {
            assert_eq!(high_water_mark(broken), None, "{broken}");
        }
    }

    #[test]
    fn always_has_a_name() {
        assert!(!cpu_name().is_empty());
        assert_eq!(field("model name\t: AMD  EPYC\nflags: x", "model name"), Some("AMD  EPYC"));
        assert_eq!(field("model name:\n", "model name"), None);
    }
}
