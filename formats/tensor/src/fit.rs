//! Scale fitting shared by the encoders. Every float operation is the reference's, in its order: the bytes depend on it.

use half::f16;

/// Little-endian bytes of the nearest f16.
pub(crate) fn f16_bytes(x: f32) -> [u8; 2] {
    f16::from_f32(x).to_le_bytes()
}

/// Value of a little-endian f16.
pub(crate) fn f16_value(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}

/// `1 / d`, or 0 for a block of zeros.
pub(crate) fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// The element of largest magnitude, sign kept; the first of equals.
pub(crate) fn signed_max(values: &[f32; 32]) -> f32 {
    // The magnitude first (a vector reduction), then its first holder: the same element as one strict scan.
    let amax = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    values.iter().copied().find(|v| v.abs() == amax).unwrap_or(0.0)
}

/// Smallest and largest element.
pub(crate) fn min_max(values: &[f32; 32]) -> (f32, f32) {
    values.iter().fold((f32::MAX, f32::MIN), |(lo, hi), &v| (if v < lo { v } else { lo }, if v > hi { v } else { hi }))
}

/// Adding and subtracting 1.5 * 2^23 leaves the nearest integer, ties to even. For |x| < 2^22.
pub(crate) fn nearest_even(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0;
    (x + MAGIC) - MAGIC
}

/// A symmetric quantizer for one group: `value ~ scale * code`, codes in `-half..half`.
pub(crate) struct SymmetricFit {
    /// Least-squares scale; 0 for an (almost) empty group.
    pub(crate) scale: f32,
    /// `code = nearest(inverse * value)`: the one the scale was fitted to, not `1 / scale`.
    inverse: f32,
    half: f32,
}

impl SymmetricFit {
    /// Tries 19 inverse scales around `-half / max`, errors weighted by the square of the value.
    pub(crate) fn new(values: &[f32; 16], half: f32) -> Self {
        let (mut amax, mut max) = (0.0f32, 0.0f32);
        for &v in values {
            if v.abs() > amax {
                (amax, max) = (v.abs(), v);
            }
        }
        if amax < EMPTY_GROUP {
            return Self { scale: 0.0, inverse: 0.0, half };
        }
        let weighted_sums = |inverse: f32| {
            let (mut sum_lx, mut sum_l2) = (0.0f32, 0.0f32);
            for &v in values {
                let code = nearest_even(inverse * v).clamp(-half, half - 1.0);
                let weight = v * v;
                sum_lx += weight * v * code;
                sum_l2 += weight * code * code;
            }
            (sum_lx, sum_l2)
        };
        let mut inverse = -half / max;
        let (sum_lx, sum_l2) = weighted_sums(inverse);
        let mut scale = if sum_l2 != 0.0 { sum_lx / sum_l2 } else { 0.0 };
        let mut best = scale * sum_lx;
        for step in (-9..=9).filter(|&s| s != 0) {
            let candidate = -(half + 0.1 * step as f32) / max;
            let (sum_lx, sum_l2) = weighted_sums(candidate);
            if sum_l2 > 0.0 && sum_lx * sum_lx > best * sum_l2 {
                scale = sum_lx / sum_l2;
                best = scale * sum_lx;
                inverse = candidate;
            }
        }
        Self { scale, inverse, half }
    }

    /// Codes shifted to `0..2 * half`. An empty group's are 0, not `half`: that is what the reference leaves.
    pub(crate) fn codes(&self, values: &[f32; 16]) -> [u8; 16] {
        if self.inverse == 0.0 {
            return [0; 16];
        }
        values.map(|v| (nearest_even(self.inverse * v).clamp(-self.half, self.half - 1.0) + self.half) as u8)
    }
}

/// Groups whose largest magnitude is below this are stored as zeros.
pub(crate) const EMPTY_GROUP: f32 = 1e-15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_max_takes_the_first_of_equal_magnitudes() {
        let mut v = [0.0; 32];
        (v[3], v[9]) = (-2.0, 2.0);
        assert_eq!(signed_max(&v), -2.0);
        assert_eq!(signed_max(&[0.0; 32]), 0.0);
    }

    #[test]
    fn nearest_even_breaks_ties_to_even() {
        for (x, want) in [(0.5, 0.0), (1.5, 2.0), (2.5, 2.0), (-0.5, 0.0), (-1.5, -2.0), (2.4999998, 2.0)] {
            assert_eq!(nearest_even(x), want, "{x}");
        }
    }
}
