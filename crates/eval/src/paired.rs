//! Two models on the same documents.
//!
//! What is easy or hard about a document is the same for both, so the difference is known much better than either value.

use crate::statistics::mean_stderr;
use serde::{Deserialize, Serialize};

/// The difference between two models on one metric.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Paired {
    /// Value of the model less that of the base.
    pub difference: f64,
    /// Its standard error; `None` for a single document.
    pub stderr: Option<f64>,
    /// For documents that are right or wrong: the exact two-sided p of McNemar's test, the probability that the
    /// documents that changed would split at least as unevenly if either direction were as likely.
    pub mcnemar_p: Option<f64>,
    /// Documents that only the model has right, by number.
    pub gained: Vec<usize>,
    /// Documents that only the base has right.
    pub lost: Vec<usize>,
}

impl Paired {
    /// `influence` holds, per document and for the base and the model, what the document adds to the value (see
    /// [`crate::Items`]); `ids` are their numbers.
    pub(crate) fn new(difference: f64, ids: &[usize], influence: (&[f64], &[f64]), is_binary: bool) -> Self {
        let (base, model) = influence;
        let differences: Vec<f64> = base.iter().zip(model).map(|(base, model)| model - base).collect();
        let of = |wanted: f64| -> Vec<usize> {
            let changed = ids.iter().zip(&differences).filter(|(_, d)| is_binary && **d == wanted);
            changed.map(|(id, _)| *id).collect()
        };
        let (gained, lost) = (of(1.0), of(-1.0));
        let mcnemar_p = is_binary.then(|| mcnemar(gained.len(), lost.len()));
        Self { difference, stderr: mean_stderr(&differences), mcnemar_p, gained, lost }
    }
}

/// The exact two-sided p of McNemar's test: that of a fair coin which fell `a` times on one side and `b` on the other.
pub(crate) fn mcnemar(a: usize, b: usize) -> f64 {
    let (n, least) = (a + b, a.min(b));
    // The probability of 0 heads may be below what a float can hold, so logarithms are summed.
    let log_half = n as f64 * -std::f64::consts::LN_2;
    let mut log_choose = 0.0;
    let mut sum = 0.0;
    for heads in 0..=least {
        if heads > 0 {
            log_choose += libm::log((n - heads + 1) as f64) - libm::log(heads as f64);
        }
        sum += libm::exp(log_choose + log_half);
    }
    (2.0 * sum).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of `scipy.stats.binomtest(min(a, b), a + b, 0.5)` 1.17.
    #[test]
    fn mcnemar_is_the_binomial_test() {
        let cases = [
            (0, 0, 1.0),
            (1, 0, 1.0),
            (5, 5, 1.0),
            (3, 9, 0.145_996_093_75),
            (30, 12, 0.007_915_897_334_896_727),
            (0, 40, 1.818_989_403_545_856_5e-12),
            (700, 600, 0.006_015_793_861_044_94),
            (2000, 0, 0.0),
        ];
        for (a, b, want) in cases {
            let p = mcnemar(a, b);
            assert!((p - want).abs() <= 1e-10 * want, "{a} {b}: {p}");
            assert_eq!(p, mcnemar(b, a));
        }
    }

    /// The standard error of `scipy.stats.ttest_rel`: difference by statistic.
    #[test]
    fn differences_are_paired() {
        let base = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0];
        let model = [1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0];
        let ids = [3, 4, 5, 6, 7, 8, 9, 20];
        let paired = Paired::new(0.25, &ids, (&base, &model), true);
        assert!(paired.mcnemar_p.is_some_and(|p| (p - 0.625).abs() < 1e-12), "{paired:?}");
        assert!(paired.stderr.is_some_and(|stderr| (stderr - 0.25).abs() < 1e-12), "{paired:?}");
        assert_eq!((&paired.gained[..], &paired.lost[..]), (&[4, 8, 20][..], &[6][..]));
        let plain = Paired::new(0.25, &ids, (&base, &model), false);
        assert_eq!((plain.mcnemar_p, plain.gained.len()), (None, 0));
    }
}
