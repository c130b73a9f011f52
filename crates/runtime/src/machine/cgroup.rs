//! What the control groups of this process leave it of memory, in both versions of the interface.
//!
//! The kernel's documentation describes the files: `admin-guide/cgroup-v2` and `admin-guide/cgroup-v1/memory`.

use std::fs;
use std::path::{Path, PathBuf};

/// A version of the interface: the names of its files.
struct Version {
    limit: &'static str,
    used: &'static str,
    /// The fields of `memory.stat` with the pages of files, those of groups below included. The kernel takes them back
    /// when memory is short, as it counts them in `MemAvailable`.
    files: [&'static str; 2],
}

const V1: Version = Version {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    files: ["total_inactive_file", "total_active_file"],
};
const V2: Version = Version { limit: "memory.max", used: "memory.current", files: ["inactive_file", "active_file"] };

/// The least that a limit leaves, of the group of this process and of those around it. `None` if none has a limit.
/// `root` is `/` outside tests.
pub(super) fn memory_left(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
    // A machine may have both versions at once.
    groups.lines().filter_map(|group| left_in(group, &mounts, root)).min()
}

/// What the group in a line of `/proc/self/cgroup` leaves: `ID:CONTROLLERS:PATH`, without controllers in version 2.
fn left_in(group: &str, mounts: &str, root: &Path) -> Option<u64> {
    let (controllers, path) = group.split_once(':')?.1.split_once(':')?;
    let version = match controllers {
        "" => V2,
        _ if controllers.split(',').any(|controller| controller == "memory") => V1,
        _ => return None,
    };
    let (mount, inside) = mounts.lines().find_map(|line| mount_of(line, controllers.is_empty()))?;
    let mount = root.join(mount.trim_start_matches('/'));
    // A container may see only its own part of the hierarchy, and its group by the name it has outside.
    let path = path.strip_prefix(inside.trim_end_matches('/')).unwrap_or("").trim_start_matches('/');
    let group = mount.join(path);
    let around = group.ancestors().take_while(|folder| folder.starts_with(&mount));
    around.filter_map(|folder| version.left(folder)).min()
}

/// Where a line of `/proc/self/mountinfo` mounts the hierarchy of memory, and which part of it, if it does.
fn mount_of(line: &str, is_v2: bool) -> Option<(&str, &str)> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let (inside, at) = (mount.next()?, mount.next()?);
    let mut filesystem = filesystem.split(' ');
    let (ty, options) = (filesystem.next()?, filesystem.nth(1)?);
    let is_wanted =
        if is_v2 { ty == "cgroup2" } else { ty == "cgroup" && options.split(',').any(|option| option == "memory") };
    is_wanted.then_some((at, inside))
}

impl Version {
    fn left(&self, folder: &Path) -> Option<u64> {
        let number = |name: &str| read(folder.join(name))?.trim().parse::<u64>().ok();
        // Version 2 says `max` without a limit, which is no number, and version 1 a number that no machine has.
        let limit = number(self.limit).filter(|&limit| limit < 1 << 60)?;
        let stat = read(folder.join("memory.stat")).unwrap_or_default();
        let fields = stat.lines().filter_map(|line| line.split_once(' '));
        let files = fields.filter(|(name, _)| self.files.contains(name));
        let files: u64 = files.filter_map(|(_, bytes)| bytes.trim().parse::<u64>().ok()).sum();
        Some(limit.saturating_sub(number(self.used)?.saturating_sub(files)))
    }
}

fn read(path: PathBuf) -> Option<String> {
    fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::system;
    use super::*;

    const V2_MOUNT: (&str, &str) =
        ("proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n");

    #[test]
    fn the_tightest_group_of_version_2_counts() {
        let root = system([
            ("proc/self/cgroup", "0::/user/run.scope\n"),
            V2_MOUNT,
            ("sys/fs/cgroup/user/memory.max", "1000\n"),
            ("sys/fs/cgroup/user/memory.current", "700\n"),
            ("sys/fs/cgroup/user/memory.stat", "anon 300\ninactive_file 250\nactive_file 150\n"),
            ("sys/fs/cgroup/user/run.scope/memory.max", "max\n"),
            ("sys/fs/cgroup/user/run.scope/memory.current", "600\n"),
        ]);
        assert_eq!(memory_left(root.path()), Some(1000 - (700 - 400)));
        fs::write(root.path().join("sys/fs/cgroup/user/run.scope/memory.max"), "900\n").unwrap();
        assert_eq!(memory_left(root.path()), Some(300));
    }

    #[test]
    fn version_1_of_a_container_beside_an_empty_version_2() {
        let root = system([
            ("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/docker/abc\n0::/\n"),
            (
                "proc/self/mountinfo",
                "35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                 41 31 0:38 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n",
            ),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "5000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "4000\n"),
            ("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 3500\ntotal_active_file 200\n"),
        ]);
        assert_eq!(memory_left(root.path()), Some(4700));
        fs::write(root.path().join("sys/fs/cgroup/memory/memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        assert_eq!(memory_left(root.path()), None);
    }

    #[test]
    fn without_groups_or_with_broken_files_there_is_no_limit() {
        assert_eq!(memory_left(system::<&str>([]).path()), None);
        for (cgroup, max) in [("0::/\n", "max\n"), ("0::/\n", "x\n"), ("0::/", "-5"), ("nonsense", "5"), ("", "5")] {
            let files = [("proc/self/cgroup", cgroup), V2_MOUNT, ("sys/fs/cgroup/memory.max", max)];
            assert_eq!(memory_left(system(files).path()), None, "{cgroup:?} {max:?}");
        }
    }
}
