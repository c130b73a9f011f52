//! Which processors this process may use, and how many cores they are of.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Processors of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processors {
    /// Logical processors that its threads may run on.
    pub logical: usize,
    /// Cores that these belong to: fewer if a core runs several threads at once (SMT, Hyper-Threading).
    pub cores: usize,
}

impl Processors {
    /// Of this process; `None` if the system does not report them.
    pub fn here() -> Option<Self> {
        Self::of_system(Path::new("/"))
    }

    /// `root` is `/` outside tests.
    fn of_system(root: &Path) -> Option<Self> {
        let status = fs::read_to_string(root.join("proc/self/status")).ok()?;
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        let mut logical = 0;
        let mut cores = BTreeSet::new();
        for processor in numbers(allowed)? {
            let siblings = root.join(format!("sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list"));
            // A core is known by the first of its processors.
            let first = fs::read_to_string(siblings).ok().and_then(|list| numbers(&list)?.next());
            cores.insert(first.unwrap_or(processor));
            logical += 1;
        }
        (logical > 0).then_some(Self { logical, cores: cores.len() })
    }
}

/// The numbers of a list such as `0-3,8,10-11`.
fn numbers(list: &str) -> Option<impl Iterator<Item = usize> + use<>> {
    /// More than any kernel supports: a broken list shall not take long.
    const MOST: usize = 1 << 16;
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (last < MOST).then_some(first..=last)
    };
    let ranges: Option<Vec<_>> = list.trim().split(',').map(range).collect();
    Some(ranges?.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::system;
    use super::*;

    /// Four processors on two cores, numbered as Linux does on PCs: first threads first.
    fn pairs(allowed: &str) -> Option<Processors> {
        let status = format!("Name:\tx\nCpus_allowed:\tf\nCpus_allowed_list:\t{allowed}\n");
        let siblings = |n: usize| {
            let name = format!("sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list");
            (name, format!("{},{}\n", n % 2, n % 2 + 2))
        };
        let files = (0..4).map(siblings).chain([("proc/self/status".to_owned(), status)]);
        Processors::of_system(system(files).path())
    }

    #[test]
    fn siblings_are_one_core() {
        assert_eq!(pairs("0-3"), Some(Processors { logical: 4, cores: 2 }));
        assert_eq!(pairs("0,2"), Some(Processors { logical: 2, cores: 1 }));
        assert_eq!(pairs("1-2"), Some(Processors { logical: 2, cores: 2 }));
    }

    #[test]
    fn what_is_not_reported_is_not_guessed() {
        for broken in ["", "x", "1-", "0-99999999999", "3-2"] {
            assert_eq!(pairs(broken), None, "{broken:?}");
        }
        // Without a topology every processor is a core.
        let files = [("proc/self/status", "Cpus_allowed_list:\t0-1,4\n")];
        let found = Processors::of_system(system(files).path());
        assert_eq!(found, Some(Processors { logical: 3, cores: 3 }));
        assert_eq!(Processors::of_system(system([("a", "")]).path()), None);
    }
}
