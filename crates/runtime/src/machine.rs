//! Facts from the operating system about the machine and this process.

mod cgroup;
mod processors;

pub use processors::Processors;

use crate::device::CPU;
use pythia_model::Model;
use serde::Serialize;
use std::fmt;
use std::path::Path;

/// An upper limit for threads. More than any machine has would waste memory or be refused by the system.
pub const MAX_THREADS: usize = 1024;

/// The machine of a measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The device: `cpu`, or the name of a GPU.
    pub device: String,
    /// The processor's name.
    pub cpu: String,
    /// The instruction set the kernels used.
    pub isa: String,
    /// Threads that computed.
    pub threads: usize,
}

impl Machine {
    /// This machine as an opened model uses it.
    pub fn of(model: &Model) -> Self {
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
pub fn cpu_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = ["model name", "Hardware", "Model"].iter().find_map(|key| field(&info, key));
    named.unwrap_or(std::env::consts::ARCH).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The value of a `key : value` line.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.into_iter().find(|(k, _)| k.trim() == key).map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
}

/// Resets [`peak_rss`] to the present value, where the system allows it (Linux).
pub fn reset_peak_rss() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Peak resident memory of this process in bytes. `None` if the system does not report it.
pub fn peak_rss() -> Option<u64> {
    high_water_mark(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// Nanoseconds that threads of this process ran, and that they could have run but waited for a processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessorTime {
    ran: u64,
    waited: u64,
}

impl ProcessorTime {
    /// Sums over all present threads, since the start of each. `None` if the system does not report it.
    pub fn now() -> Option<Self> {
        let mut sum = Self::default();
        for task in std::fs::read_dir("/proc/self/task").ok()?.flatten() {
            // A thread may end meanwhile.
            let Ok(text) = std::fs::read_to_string(task.path().join("schedstat")) else { continue };
            let Self { ran, waited } = Self::parse(&text)?;
            sum = Self { ran: sum.ran + ran, waited: sum.waited + waited };
        }
        (sum.ran > 0).then_some(sum)
    }

    fn parse(schedstat: &str) -> Option<Self> {
        let mut numbers = schedstat.split_whitespace().map(|number| number.parse().ok());
        Some(Self { ran: numbers.next()??, waited: numbers.next()?? })
    }

    /// Share of the time wanted since `earlier` that was waited, 0 to 1.
    pub fn waited_since(self, earlier: Self) -> f64 {
        let (ran, waited) = (self.ran.saturating_sub(earlier.ran), self.waited.saturating_sub(earlier.waited));
        waited as f64 / (ran + waited).max(1) as f64
    }
}

/// Memory available without swapping, including file cache: of the machine, of the limits that this process's control
/// groups have, as those of a container, and of its address space, if that is limited. `None` if the system reports none.
pub fn memory_available() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|text| kib_field(&text, "MemAvailable"));
    machine.into_iter().chain(cgroup::memory_left(Path::new("/"))).chain(address_space_left()).min()
}

/// What `ulimit -v` leaves.
fn address_space_left() -> Option<u64> {
    let limit = address_space_limit(&std::fs::read_to_string("/proc/self/limits").ok()?)?;
    let used = kib_field(&std::fs::read_to_string("/proc/self/status").ok()?, "VmSize")?;
    Some(limit.saturating_sub(used))
}

/// The soft limit, unless it is `unlimited`.
fn address_space_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
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
mod fixture {
    use std::fs;

    /// A file system with these files, by name and text.
    pub(super) fn system<S: AsRef<str>>(files: impl IntoIterator<Item = (S, S)>) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name.as_ref());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text.as_ref()).unwrap();
        }
        root
    }
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
    fn an_address_space_may_be_limited() {
        let limits = |soft| format!("Max data size  1  1  bytes\nMax address space    {soft}    unlimited    bytes\n");
        assert_eq!(address_space_limit(&limits("512000")), Some(512_000));
        assert_eq!(address_space_limit(&limits("unlimited")), None);
        assert_eq!(address_space_limit("Max data size  1  1  bytes"), None);
    }

    #[test]
    fn waiting_is_a_share_of_the_time_wanted() {
        let at = |text| ProcessorTime::parse(text).unwrap();
        assert_eq!(at("400 200 9").waited_since(at("100 100 3")), 0.25);
        assert_eq!(at("1 1 1").waited_since(at("1 1 1")), 0.0);
        assert_eq!(ProcessorTime::parse("x"), None);
    }

    #[test]
    fn always_has_a_name() {
        assert!(!cpu_name().is_empty());
        assert_eq!(field("model name\t: AMD  EPYC\nflags: x", "model name"), Some("AMD  EPYC"));
        assert_eq!(field("model name:\n", "model name"), None);
    }
}
