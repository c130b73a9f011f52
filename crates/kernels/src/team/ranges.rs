//! Who takes which part of a job that is cut into ranges.

use super::Padded;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Ranges that a part is taken in. More would balance threads of unequal speed better, and cost more where they are equal.
const RANGES_PER_PART: usize = 32;

/// A job of some grains, a contiguous part for each thread, taken range by range.
pub(super) struct Ranges {
    grains: usize,
    /// Grains of a range.
    size: usize,
    /// Grains of each part that are taken. It may count some more than there are.
    taken: Vec<Padded<AtomicUsize>>,
}

/// What a thread remembers between two ranges: how many parts it has seen the end of.
#[derive(Default)]
pub(super) struct Finished(usize);

impl Ranges {
    pub(super) fn new(grains: usize, threads: usize) -> Self {
        let taken = (0..threads).map(|_| Padded(AtomicUsize::new(0))).collect();
        Self { grains, size: grains.div_ceil(threads * RANGES_PER_PART), taken }
    }

    /// The next range of thread `me`: of its own part, or of the first part after it that is not all taken.
    pub(super) fn next(&self, me: usize, finished: &mut Finished) -> Option<Range<usize>> {
        let threads = self.taken.len();
        let start_of = |part: usize| part * self.grains / threads;
        while finished.0 < threads {
            let part = (me + finished.0) % threads;
            let (first, end) = (start_of(part), start_of(part + 1));
            let start = first + self.taken[part].0.fetch_add(self.size, Ordering::Relaxed);
            if start < end {
                return Some(start..(start + self.size).min(end));
            }
            finished.0 += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The share of the work that threads of these speeds (grains per unit of time) could have done in the time that the
    /// schedule takes, if each starts after its delay: the real schedule, in order of simulated time.
    fn efficiency(grains: usize, speeds: &[f64], delays: &[f64]) -> f64 {
        let ranges = Ranges::new(grains, speeds.len());
        let mut finished: Vec<Finished> = speeds.iter().map(|_| Finished::default()).collect();
        let mut clocks = delays.to_vec();
        let mut waiting: Vec<usize> = (0..speeds.len()).collect();
        let (mut end, mut done) = (0.0f64, 0);
        while let Some(at) = (0..waiting.len()).min_by(|&a, &b| clocks[waiting[a]].total_cmp(&clocks[waiting[b]])) {
            let me = waiting[at];
            match ranges.next(me, &mut finished[me]) {
                Some(range) => {
                    done += range.len();
                    clocks[me] += range.len() as f64 / speeds[me];
                    end = end.max(clocks[me]);
                }
                None => drop(waiting.swap_remove(at)),
            }
        }
        assert_eq!(done, grains);
        let possible: f64 = speeds.iter().zip(delays).map(|(speed, delay)| speed * (end - delay).max(0.0)).sum();
        grains as f64 / possible
    }

    /// Rows of a matrix in grains of 16: the output matrix of Pythia (50304), and matrices of 410m and 70m.
    const MATRICES: [usize; 3] = [50304 / 16, 4096 / 16, 1536 / 16];

    /// `cargo test -p pythia-kernels --lib team::ranges -- --nocapture` prints the table.
    #[test]
    fn little_is_lost_at_the_end_of_a_job() {
        let mut lost = Vec::new();
        for threads in [2, 4, 8, 16] {
            let equal = vec![1.0; threads];
            // As a processor with two kinds of cores, and as one core that another program uses half of the time.
            let two_kinds: Vec<f64> = (0..threads).map(|i| if i < threads / 2 { 1.0 } else { 0.4 }).collect();
            let one_shared: Vec<f64> = (0..threads).map(|i| if i == threads / 2 { 0.5 } else { 1.0 }).collect();
            for (kind, speeds) in [("equal", &equal), ("two kinds", &two_kinds), ("one shared", &one_shared)] {
                for grains in MATRICES {
                    let found = efficiency(grains, speeds, &vec![0.0; threads]);
                    println!("{threads:>2} threads, {kind:<10} {grains:>4} grains: {:.1} %", 100.0 * found);
                    // A thread cannot do less than a grain, so short jobs lose about one per thread.
                    let least = if grains >= 32 * threads { 0.9 } else { 0.75 };
                    if found < least {
                        lost.push((threads, kind, grains, found));
                    }
                }
            }
        }
        assert!(lost.is_empty(), "{lost:?}");
    }

    #[test]
    fn a_thread_that_wakes_late_costs_no_more_than_its_share() {
        for threads in [2, 4, 8, 16] {
            let part = 3144.0 / threads as f64;
            let delays: Vec<f64> = (0..threads).map(|i| if i == 1 { part / 2.0 } else { 0.0 }).collect();
            let found = efficiency(3144, &vec![1.0; threads], &delays);
            assert!(found > 0.95, "{threads} threads: {found}");
        }
    }

    #[test]
    fn equal_threads_never_help_each_other() {
        for (grains, threads) in [(3144, 2), (96, 2), (4096, 16), (7, 3)] {
            let ranges = Ranges::new(grains, threads);
            for me in 0..threads {
                let (mut finished, mut next) = (Finished::default(), me * grains / threads);
                // Contiguous and in order, up to where the next part begins.
                while next < (me + 1) * grains / threads {
                    let range = ranges.next(me, &mut finished).unwrap();
                    assert_eq!(range.start, next);
                    next = range.end;
                }
                assert_eq!(next, (me + 1) * grains / threads);
            }
        }
    }
}
