//! Means and their standard errors, as lm-evaluation-harness computes them.

use crate::python::Random;
use rayon::prelude::*;

/// Resamples of the bootstrap.
pub(crate) const RESAMPLES: usize = 100_000;
/// Resamples that share a generator, seeded with the number of the chunk.
const CHUNK: usize = 1000;

/// `sum(values) / len(values)`, in order; NaN for none.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The standard deviation with n - 1.
fn stddev(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|x| (x - mean) * (x - mean)).sum();
    (squares / (values.len() as f64 - 1.0)).sqrt()
}

/// The standard error of the mean; `None` for fewer than two values.
pub(crate) fn mean_stderr(values: &[f64]) -> Option<f64> {
    (values.len() > 1).then(|| stddev(values) / (values.len() as f64).sqrt())
}

/// The standard error of `exp(-mean)` by bootstrap, with the harness's resamples: chunk `i` of 1000 draws from Python's
/// `random.Random(i).choices`. `None` for fewer than two values, or if `stop` says so.
pub(crate) fn bootstrap_perplexity(values: &[f64], stop: &(dyn Fn() -> bool + Sync)) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let n = values.len() as f64;
    let chunk = |seed: usize| {
        let mut random = Random::new(seed as u32);
        let resample = |_| {
            let sum: f64 = (0..values.len()).map(|_| values[(random.unit() * n) as usize]).sum();
            libm::exp(-(sum / n))
        };
        if stop() { None } else { Some((0..CHUNK).map(resample).collect::<Vec<f64>>()) }
    };
    let chunks: Option<Vec<Vec<f64>>> = (0..RESAMPLES / CHUNK).into_par_iter().map(chunk).collect();
    Some(stddev(&chunks?.concat()))
}

/// The standard error of a mean weighted by size, from those of its parts
/// (<https://en.wikipedia.org/wiki/Pooled_variance>).
pub(crate) fn pooled_stderr(parts: &[(f64, usize)]) -> f64 {
    let squares = parts.iter().map(|&(stderr, size)| (size as f64 - 1.0) * stderr * stderr * size as f64);
    let total = parts.iter().map(|part| part.1).sum::<usize>() as f64;
    let variance = squares.sum::<f64>() / (total - parts.len() as f64);
    (variance / total).sqrt()
}

/// The standard error of a plain mean of independent parts.
pub(crate) fn plain_stderr(parts: &[f64]) -> f64 {
    parts.iter().map(|stderr| stderr * stderr).sum::<f64>().sqrt() / parts.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-12 * b.abs(), "{a} {b}");
    }

    /// Values of `lm_eval/api/metrics.py` 0.4.13 with Python 3.11.
    #[test]
    fn values_are_those_of_the_harness() {
        let acc = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0];
        close(mean(&acc), 0.571_428_571_428_571_4);
        close(mean_stderr(&acc).unwrap(), 0.202_030_508_910_442_14);
        assert_eq!(mean_stderr(&[1.0]), None);
        let values: Vec<f64> = (0..20).map(|i| -f64::from(i * 37 % 101) / 10.0 - 0.5).collect();
        close(libm::exp(-mean(&values)), 210.608_297_866_674_38);
        close(bootstrap_perplexity(&values, &|| false).unwrap(), 201.756_352_056_566_5);
        assert_eq!(bootstrap_perplexity(&values, &|| true), None);
        close(pooled_stderr(&[(0.1, 10), (0.02, 200), (0.05, 33)]), 0.018_266_807_845_418_807);
        close(plain_stderr(&[0.1, 0.02, 0.05]), 0.037_859_388_972_001_83);
    }
}
