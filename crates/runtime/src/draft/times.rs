//! How long passes take, by their number of rows.

use std::collections::VecDeque;

/// The last few of some measurements.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    values: VecDeque<f64>,
    median: Option<f64>,
}

/// Enough for a median that ignores what the system did in between, few enough to follow a change.
const RECENT: usize = 5;

impl Recent {
    pub(super) fn push(&mut self, value: f64) {
        if self.values.len() == RECENT {
            self.values.pop_front();
        }
        self.values.push_back(value);
        let mut sorted: Vec<f64> = self.values.iter().copied().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        self.median = sorted.get((sorted.len() - 1) / 2).copied();
    }

    /// The middle one, the lower one of an even number. `None` without any.
    pub(super) fn median(&self) -> Option<f64> {
        self.median
    }
}

/// Seconds of passes with their choices, where every sequence has one token of its text and perhaps a draft.
#[derive(Clone, Debug, Default)]
pub(crate) struct PassTimes(Vec<Recent>);

/// What a row beyond those that were measured costs at most, as a share of a plain pass. Where a second row costs as much as
/// the first and the next ones little, a line through both would keep drafts short for ever; a guess that is too low is
/// corrected by the first draft of that length.
const ROW: f64 = 0.1;

impl PassTimes {
    pub(crate) fn record(&mut self, rows: usize, seconds: f64) {
        if self.0.len() <= rows {
            self.0.resize_with(rows + 1, Recent::default);
        }
        self.0[rows].push(seconds);
    }

    /// The time of a pass with so many rows: measured, or on a line between or beyond those that were. `None` before any
    /// pass with as few rows.
    pub(crate) fn of(&self, rows: usize) -> Option<f64> {
        let known = |at: usize| self.0.get(at).and_then(Recent::median).map(|seconds| (at, seconds));
        let (below, seconds) = (0..=rows).rev().find_map(known)?;
        if below == rows {
            return Some(seconds);
        }
        let slope = match (rows..self.0.len()).find_map(known) {
            Some((above, more)) => (more - seconds) / (above - below) as f64,
            None => match (0..below).find_map(known) {
                Some((first, less)) => ((seconds - less) / (below - first) as f64).clamp(0.0, less * ROW),
                None => seconds * ROW,
            },
        };
        Some(seconds + slope * (rows - below) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_ignores_outliers_and_forgets() {
        let mut recent = Recent::default();
        assert_eq!(recent.median(), None);
        recent.push(3.0);
        assert_eq!(recent.median(), Some(3.0));
        [1.0, 900.0, 2.0].into_iter().for_each(|x| recent.push(x));
        assert_eq!(recent.median(), Some(2.0));
        (0..5).for_each(|_| recent.push(7.0));
        assert_eq!(recent.median(), Some(7.0));
    }

    #[test]
    fn unknown_numbers_of_rows_lie_on_a_line() {
        let mut times = PassTimes::default();
        assert_eq!(times.of(1), None);
        times.record(2, 10.0);
        assert_eq!(times.of(1), None, "nothing is known of fewer rows");
        assert_eq!([2, 3, 7].map(|rows| times.of(rows)), [10.0, 11.0, 15.0].map(Some));
        times.record(6, 12.0);
        assert_eq!([4, 6, 8].map(|rows| times.of(rows)), [11.0, 12.0, 13.0].map(Some));
        times.record(8, 9.0);
        assert_eq!(times.of(12), Some(9.0), "more rows are not faster");
    }
}
