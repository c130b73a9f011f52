//! Speed and memory of a level, and whether the machine was busy meanwhile.

use crate::bench::median;
use pythia_show::number::plain;
use serde::Serialize;

/// A speed is unsteady if other programs took more than this share of the processor time.
const BUSY_SHARE: f64 = 0.05;
/// A speed is also unsteady if the fastest and the slowest repetition differ by more than this, relative to the median.
const WIDE_SPREAD: f64 = 0.25;

/// Speed and memory of a level.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Speed {
    /// Prompt tokens processed per second: the median of the repetitions.
    pub prefill_tokens_per_second: f64,
    /// The slowest and fastest of them.
    pub prefill_spread: Spread,
    /// Tokens generated per second, one sequence: from the median time of a token.
    pub decode_tokens_per_second: f64,
    /// The slowest and fastest part of the tokens, by the median time of a token in each.
    pub decode_spread: Spread,
    /// Share of the needed processor time that other programs took, 0 to 1, if the system reports it.
    pub contention: Option<f64>,
    /// Peak resident memory including file pages, if the system reports it.
    pub peak_rss_bytes: Option<u64>,
    /// GPU memory of the level, if it ran on a GPU.
    pub gpu_bytes: Option<u64>,
}

/// Smallest and largest of several measurements.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// How many there were.
    pub runs: usize,
}

impl Spread {
    /// Of these samples; zeros without any.
    pub fn of(samples: &[f64]) -> Self {
        let min = samples.iter().copied().min_by(f64::total_cmp).unwrap_or(0.0);
        let max = samples.iter().copied().max_by(f64::total_cmp).unwrap_or(0.0);
        Self { min, max, runs: samples.len() }
    }

    /// The difference of both, relative to `median`.
    fn width(self, median: f64) -> f64 {
        if median > 0.0 { (self.max - self.min) / median } else { 0.0 }
    }
}

impl Speed {
    /// Relative width of the wider spread.
    fn width(&self) -> f64 {
        let decode = self.decode_spread.width(self.decode_tokens_per_second);
        self.prefill_spread.width(self.prefill_tokens_per_second).max(decode)
    }
}

/// A sentence about unsteady speeds, if there are any.
pub(crate) fn busy<'a>(entries: impl Iterator<Item = (&'a str, &'a Speed)> + Clone) -> Option<String> {
    let largest = |share: fn(&Speed) -> f64| {
        let shares = entries.clone().map(|(name, speed)| (name, share(speed)));
        shares.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or(("", 0.0))
    };
    let (shared, contention) = largest(|speed| speed.contention.unwrap_or(0.0));
    let (varying, width) = largest(Speed::width);
    let what = if contention > BUSY_SHARE {
        let percent = plain(contention * 100.0, 0);
        format!("the machine was busy: other programs took {percent} % of the processor time that {shared} needed")
    } else if width > WIDE_SPREAD {
        let percent = plain(width * 100.0, 0);
        format!("repetitions of {varying} differ by {percent} %")
    } else {
        return None;
    };
    Some(format!("Speeds are unsteady: {what}. Measure them again on an idle machine before comparing them."))
}

impl Speed {
    /// From the rate of each repetition of a prompt, and the seconds that each generated token took, in `parts` of
    /// which the spread is taken.
    pub fn of(prefill: &[f64], decode_seconds: &[f64], parts: usize) -> Self {
        let rate = |seconds: &[f64]| 1.0 / median(seconds);
        let part = decode_seconds.len().div_ceil(parts.max(1)).max(1);
        let rates: Vec<f64> = decode_seconds.chunks(part).map(rate).collect();
        Self {
            prefill_tokens_per_second: median(prefill),
            prefill_spread: Spread::of(prefill),
            decode_tokens_per_second: rate(decode_seconds),
            decode_spread: Spread::of(&rates),
            contention: None,
            peak_rss_bytes: None,
            gpu_bytes: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_are_of_the_repetitions() {
        let speed = Speed::of(&[90.0, 110.0, 100.0], &[0.01, 0.01, 0.02, 0.02, 0.04, 0.04], 3);
        assert_eq!(speed.prefill_tokens_per_second, 100.0);
        assert_eq!(speed.prefill_spread, Spread { min: 90.0, max: 110.0, runs: 3 });
        assert_eq!(speed.decode_tokens_per_second, 50.0);
        assert_eq!(speed.decode_spread, Spread { min: 25.0, max: 100.0, runs: 3 });
    }

    #[test]
    fn a_busy_machine_is_told_by_its_worst_level() {
        let steady = Speed::of(&[100.0, 101.0], &[0.01; 4], 2);
        let say = |speeds: &[Speed]| busy(["a", "b"].into_iter().zip(speeds));
        assert_eq!(say(&[steady.clone(), steady.clone()]), None);
        assert_eq!(say(&[]), None);
        let shared = Speed { contention: Some(0.3), ..steady.clone() };
        assert!(say(&[steady.clone(), shared]).unwrap().contains("30 % of the processor time that b"));
        let varying = Speed::of(&[70.0, 100.0, 101.0], &[0.01; 4], 2);
        assert!(say(&[varying, steady]).unwrap().contains("repetitions of a differ by 31 %"));
    }
}
