//! Means with their errors, and percentiles.

use serde::{Deserialize, Deserializer, Serialize};

/// A value and its standard error, samples taken as independent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Estimate {
    /// The value.
    #[serde(deserialize_with = "nan_if_null")]
    pub value: f64,
    /// Its standard error.
    #[serde(deserialize_with = "nan_if_null")]
    pub se: f64,
}

/// For `deserialize_with`: JSON has null for what is not a number, such as the error of a single sample.
///
/// # Errors
/// If it is neither null nor a number.
pub fn nan_if_null<'de, D: Deserializer<'de>>(json: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(json)?.unwrap_or(f64::NAN))
}

impl Estimate {
    /// Whether it is below two standard errors: a difference that chance alone may have made.
    pub fn may_be_chance(self) -> bool {
        self.value.abs() < 2.0 * self.se
    }

    /// `exp` of it, the error carried over to first order: how a perplexity follows from a mean log-likelihood.
    pub(crate) fn exp(self) -> Self {
        let value = libm::exp(self.value);
        Self { value, se: value * self.se }
    }

    /// Share of `hits` among `n`. The error is that of the mean of `n` zeros and ones, with n - 1 degrees of freedom.
    pub fn share(hits: usize, n: usize) -> Self {
        let p = hits as f64 / n as f64;
        Self { value: p, se: (p * (1.0 - p) / (n as f64 - 1.0)).sqrt() }
    }
}

/// Running mean and variance (Welford): one pass, and no cancellation if the mean is large compared with the spread.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moments {
    n: usize,
    mean: f64,
    /// Sum of squared distances from the mean.
    squares: f64,
}

impl Moments {
    /// Takes a sample.
    pub(crate) fn push(&mut self, x: f64) {
        self.n += 1;
        let before = x - self.mean;
        self.mean += before / self.n as f64;
        self.squares += before * (x - self.mean);
    }

    /// Samples taken.
    pub(crate) fn n(&self) -> usize {
        self.n
    }

    /// Mean and its standard error, `sqrt((E[x^2] - E[x]^2) / (n - 1))`, which is not a number for one sample.
    pub(crate) fn estimate(&self) -> Estimate {
        let n = self.n as f64;
        Estimate { value: self.mean, se: (self.squares / n / (n - 1.0)).sqrt() }
    }
}

impl Extend<f64> for Moments {
    fn extend<T: IntoIterator<Item = f64>>(&mut self, samples: T) {
        samples.into_iter().for_each(|x| self.push(x));
    }
}

impl FromIterator<f64> for Moments {
    fn from_iter<T: IntoIterator<Item = f64>>(samples: T) -> Self {
        let mut moments = Self::default();
        moments.extend(samples);
        moments
    }
}

/// The value below which `fraction` of the samples lie, linear between neighbours at `fraction * (n - 1)`.
///
/// # Panics
/// If there are no samples.
pub(crate) fn percentile(sorted: &[f64], fraction: f64) -> f64 {
    let at = fraction * (sorted.len() - 1) as f64;
    let below = at.floor();
    let low = sorted[below as usize];
    let high = sorted[at.ceil() as usize];
    low + (high - low) * (at - below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_match_the_textbook() {
        let m: Moments = [1.0, 2.0, 4.0, 9.0].into_iter().collect();
        // E[x] = 4, E[x^2] = 25.5, so the variance of the mean is (25.5 - 16) / 3.
        assert_eq!(m.estimate().value, 4.0);
        assert!((m.estimate().se - (9.5f64 / 3.0).sqrt()).abs() < 1e-15);
        let far: Moments = [1.0, 2.0, 4.0, 9.0].into_iter().map(|x| x + 1e9).collect();
        assert!((far.estimate().se - m.estimate().se).abs() < 1e-6);
        assert!([1.0].into_iter().collect::<Moments>().estimate().se.is_nan());
    }

    #[test]
    fn percentiles_interpolate() {
        let sorted = [0.0, 10.0, 20.0, 30.0];
        assert_eq!(percentile(&sorted, 0.0), 0.0);
        assert_eq!(percentile(&sorted, 0.5), 15.0);
        assert_eq!(percentile(&sorted, 0.9), 27.0);
        assert_eq!(percentile(&sorted, 1.0), 30.0);
        assert_eq!(percentile(&[7.0], 0.99), 7.0);
    }

    #[test]
    fn exponential_and_share() {
        let e = Estimate { value: 2.0, se: 0.01 }.exp();
        assert!((e.value - 7.38905609893065).abs() < 1e-14 && (e.se / e.value - 0.01).abs() < 1e-15);
        assert_eq!(Estimate::share(3, 4).value, 0.75);
        assert_eq!(Estimate::share(3, 4).se, 0.25);
    }
}
