//! What an engine is asked for: the estimates of the manifest with a margin, in round numbers.

use crate::Error;
use crate::manifest::Group;
use crate::shard::assign;

/// A shard is to take about so long, which most clusters like: not too many jobs, none that lasts days.
const SHARD_SECONDS: f64 = 2.0 * 3600.0;
/// More shards need a cluster that is set up for it: Slurm takes indices up to 1000 by default.
const MAX_SHARDS: usize = 1000;
/// Bytes per second of a download, which a cluster shares.
const DOWNLOAD_RATE: f64 = 20e6;
/// What is asked for, times the estimate; estimates know nothing about the machine.
const TIME_MARGIN: f64 = 1.5;
const MEMORY_MARGIN: f64 = 1.25;
/// Minutes to start, to read a cold disk, and to keep unfinished work before the limit.
const START_MINUTES: f64 = 10.0;
/// The two in words.
const TIME_RULE: &str = "half as much again and 10 minutes";
/// Bytes of the system's own in a job.
const START_BYTES: f64 = 256.0 * 1024.0 * 1024.0;
const GIB: f64 = (1 << 30) as f64;

/// What a shard takes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Needs {
    pub(super) shards: usize,
    pub(super) threads: usize,
    /// Estimated seconds of the longest shard, downloads included.
    seconds: f64,
    /// The time to ask for.
    pub(super) minutes: u64,
    /// The time to ask for if each group is on its own: it is what must be done to get ahead at all.
    pub(super) group_minutes: u64,
    /// Estimated bytes of the largest group.
    memory_bytes: u64,
    /// The memory to ask for.
    pub(super) memory_gib: u64,
    /// Bytes on a scratch disk, to ask for.
    pub(super) scratch_gib: u64,
    /// Whether something is downloaded.
    has_downloads: bool,
}

impl Needs {
    pub(super) fn of(groups: &[Group], shards: Option<usize>, threads: usize) -> Result<Self, Error> {
        if groups.is_empty() {
            return Err(Error::Request("the sweep has no checkpoints, so there is nothing to run".to_owned()));
        }
        let threads = threads.max(1);
        let seconds_of = |group: &Group| {
            group.estimate.core_seconds / threads as f64 + group.estimate.download_bytes as f64 / DOWNLOAD_RATE
        };
        let total: f64 = groups.iter().map(seconds_of).sum();
        let wanted = shards.unwrap_or(((total / SHARD_SECONDS).ceil() as usize).min(MAX_SHARDS));
        let shards = wanted.clamp(1, groups.len());
        let mut loads = vec![0.0; shards];
        for (group, shard) in groups.iter().zip(assign(groups, shards)) {
            loads[shard] += seconds_of(group);
        }
        let max = |value: &dyn Fn(&Group) -> f64| groups.iter().map(value).fold(0.0, f64::max);
        let seconds = loads.into_iter().fold(0.0, f64::max);
        let memory = max(&|group| group.estimate.memory_bytes as f64);
        Ok(Self {
            shards,
            threads,
            seconds,
            minutes: minutes_to_ask(seconds),
            group_minutes: minutes_to_ask(max(&seconds_of)),
            memory_bytes: memory as u64,
            memory_gib: gib_to_ask(memory * MEMORY_MARGIN + START_BYTES),
            scratch_gib: gib_to_ask(max(&|group| group.estimate.disk_bytes as f64) * MEMORY_MARGIN),
            has_downloads: groups.iter().any(|group| group.estimate.download_bytes > 0),
        })
    }

    /// How long the longest shard takes.
    pub(super) fn time(&self) -> String {
        let downloads = if self.has_downloads { " with downloads at 20 MB/s" } else { "" };
        format!("Estimated for the longest shard{downloads}: {}.", duration(self.seconds))
    }

    /// The same, with what is asked for.
    pub(super) fn time_asked(&self) -> String {
        format!("{} Asked for: {}, {TIME_RULE}.", self.time(), duration(self.minutes as f64 * 60.0))
    }

    /// The same for an engine that only needs to know which workers are of use.
    pub(super) fn time_of_group(&self) -> String {
        let asked = duration(self.group_minutes as f64 * 60.0);
        format!("{} Workers need {asked} left: the longest checkpoint, {TIME_RULE}.", self.time())
    }

    /// How much memory the largest group takes, with what is asked for.
    pub(super) fn memory(&self) -> String {
        format!(
            "Estimated for the largest checkpoint: {:.1} GiB. Asked for: {} GiB, a quarter more and 0.25 GiB.",
            self.memory_bytes as f64 / GIB,
            self.memory_gib,
        )
    }
}

/// With the margin, rounded up: to quarters of an hour up to 4 hours, then to hours.
fn minutes_to_ask(seconds: f64) -> u64 {
    let minutes = seconds / 60.0 * TIME_MARGIN + START_MINUTES;
    let step = if minutes <= 240.0 { 15.0 } else { 60.0 };
    ((minutes / step).ceil() * step) as u64
}

fn gib_to_ask(bytes: f64) -> u64 {
    ((bytes / GIB).ceil() as u64).max(1)
}

/// `2 h`, `2.4 h`, `15 min`, `9 s`.
fn duration(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 90.0 => format!("{seconds:.0} s"),
        seconds if seconds < 5400.0 => format!("{:.0} min", seconds / 60.0),
        seconds => format!("{:.1} h", seconds / 3600.0).replace(".0 h", " h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Estimate;

    fn group(core_seconds: f64, memory_bytes: u64, download_bytes: u64) -> Group {
        let estimate = Estimate { core_seconds, memory_bytes, disk_bytes: memory_bytes, download_bytes };
        Group { group: String::new(), checkpoints: Vec::new(), files: Vec::new(), estimate }
    }

    #[test]
    fn shards_take_about_two_hours() {
        let groups = vec![group(8.0 * 3600.0, 3 << 30, 0); 10];
        let needs = Needs::of(&groups, None, 8).unwrap();
        assert_eq!((needs.shards, needs.minutes, needs.group_minutes, needs.memory_gib), (5, 195, 105, 4));
        assert_eq!(
            [needs.time_asked(), needs.memory()],
            [
                "Estimated for the longest shard: 2 h. Asked for: 3.2 h, half as much again and 10 minutes.",
                "Estimated for the largest checkpoint: 3.0 GiB. Asked for: 4 GiB, a quarter more and 0.25 GiB.",
            ]
        );
    }

    #[test]
    fn there_are_no_more_shards_than_groups_and_no_empty_ones() {
        let small = vec![group(1.0, 1, 0); 3];
        assert_eq!(Needs::of(&small, None, 8).unwrap().shards, 1);
        assert_eq!(Needs::of(&small, Some(7), 8).unwrap().shards, 3);
        assert_eq!(Needs::of(&vec![group(1e9, 1, 0); 4000], None, 1).unwrap().shards, MAX_SHARDS);
        assert!(Needs::of(&[], None, 8).is_err());
    }

    #[test]
    fn the_longest_shard_and_the_largest_group_count() {
        // 8000 s on 8 threads; 40 GB take 2000 s to come.
        let groups = [group(8000.0, 20 << 30, 40_000_000_000), group(800.0, 1 << 30, 0)];
        let needs = Needs::of(&groups, Some(2), 8).unwrap();
        // 3000 s and half of it, and ten minutes: 85 minutes.
        assert_eq!((needs.minutes, needs.memory_gib, needs.scratch_gib), (90, 26, 25));
        assert!(needs.time().contains("20 MB/s: 50 min"), "{}", needs.time());
        // Long times are rounded to hours.
        assert_eq!(Needs::of(&[group(8.0 * 3600.0 * 5.0, 1, 0)], None, 8).unwrap().minutes, 8 * 60);
    }
}
