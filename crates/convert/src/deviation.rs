//! Measures the deviation of values from reference values.

/// Deviation of `b` from `a`, over the pairs in which both are finite.
///
/// Sums are f64 and depend on the order in which parts are [merged](Self::merge).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Deviation {
    /// Pairs measured.
    pub n: u64,
    /// Pairs left out because one of the two is infinite or NaN.
    pub n_not_finite: u64,
    /// The largest |b - a|.
    pub max_abs: f64,
    square_error: f64,
    square_a: f64,
    square_b: f64,
    product: f64,
}

impl Deviation {
    /// Adds the pairs of two slices of the same length.
    pub(crate) fn add(&mut self, a: &[f32], b: &[f32]) {
        for (&a, &b) in a.iter().zip(b) {
            let (a, b) = (f64::from(a), f64::from(b));
            // One test for both: the product is finite only if both are, and a product of f32 values cannot overflow
            // f64.
            let product = a * b;
            if !product.is_finite() {
                self.n_not_finite += 1;
                continue;
            }
            let error = b - a;
            self.max_abs = self.max_abs.max(error.abs());
            self.square_error += error * error;
            self.square_a += a * a;
            self.square_b += b * b;
            self.product += product;
            self.n += 1;
        }
    }

    /// Adds the pairs of `other`.
    #[must_use]
    pub fn merge(mut self, other: &Self) -> Self {
        self.n += other.n;
        self.n_not_finite += other.n_not_finite;
        self.max_abs = self.max_abs.max(other.max_abs);
        self.square_error += other.square_error;
        self.square_a += other.square_a;
        self.square_b += other.square_b;
        self.product += other.product;
        self
    }

    /// Whether every pair was finite and equal.
    pub fn is_zero(&self) -> bool {
        self.max_abs == 0.0 && self.n_not_finite == 0
    }

    /// Root of the mean square of b - a.
    pub fn rms(&self) -> f64 {
        if self.n == 0 { 0.0 } else { (self.square_error / self.n as f64).sqrt() }
    }

    /// [`rms`](Self::rms) in units of the root mean square of a: 0 if all are equal, about 1 if b is all zeros, about
    /// 1.4 if the two are unrelated. `None` if a is zero and b is not.
    pub fn relative_rms(&self) -> Option<f64> {
        if self.square_error == 0.0 {
            return Some(0.0);
        }
        (self.square_a > 0.0).then(|| (self.square_error / self.square_a).sqrt())
    }

    /// Cosine of the angle between the vectors a and b. `None` if one of them is zero.
    pub fn cosine(&self) -> Option<f64> {
        let norms = self.square_a.sqrt() * self.square_b.sqrt();
        // Rounding must not lead beyond -1..1.
        (norms > 0.0).then(|| (self.product / norms).clamp(-1.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_by_hand() {
        let mut whole = Deviation::default();
        whole.add(&[3.0, 0.0, 1.0, -1.0], &[3.0, 4.0, 1.0, -1.0]);
        assert_eq!((whole.n, whole.max_abs, whole.rms()), (4, 4.0, 2.0));
        assert_eq!(whole.relative_rms(), Some((16.0f64 / 11.0).sqrt()));
        assert_eq!(whole.cosine(), Some(11.0 / (11f64.sqrt() * 27f64.sqrt())));
        assert!(!whole.is_zero());

        let mut parts = [Deviation::default(); 2];
        parts[0].add(&[3.0, 0.0], &[3.0, 4.0]);
        parts[1].add(&[1.0, -1.0], &[1.0, -1.0]);
        assert!(parts[1].is_zero());
        assert_eq!(parts[0].merge(&parts[1]), whole);
    }

    #[test]
    fn what_is_not_finite_is_counted_apart() {
        let mut deviation = Deviation::default();
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        deviation.add(&[1.0, inf, 0.0, nan, 0.0], &[1.0, 2.0, -inf, 0.0, nan]);
        assert_eq!((deviation.n, deviation.n_not_finite, deviation.max_abs), (1, 4, 0.0));
        assert!(!deviation.is_zero());
        // The product of the largest f32 values is 1.2e77, which f64 holds.
        deviation.add(&[f32::MAX], &[f32::MIN]);
        assert_eq!((deviation.n, deviation.n_not_finite), (2, 4));
    }

    #[test]
    fn ratios_to_nothing_are_none() {
        let mut deviation = Deviation::default();
        deviation.add(&[0.0, 0.0], &[0.0, 0.0]);
        assert_eq!((deviation.relative_rms(), deviation.cosine()), (Some(0.0), None));
        deviation.add(&[0.0], &[1.0]);
        assert_eq!((deviation.relative_rms(), deviation.cosine()), (None, None));
        assert_eq!(Deviation::default().rms(), 0.0);
    }
}
