//! What encoders share. Every float operation is the reference's, in its order: the bytes depend on it.

use crate::lanes::Lanes;
use half::f16;

/// Little-endian bytes of the nearest f16.
pub(crate) fn f16_bytes(x: f32) -> [u8; 2] {
    f16::from_f32(x).to_le_bytes()
}

/// What is left of a scale once it is stored as f16.
#[inline(always)]
pub(crate) fn stored<V: Lanes>(d: V) -> V {
    d.map(|d| f16::from_f32(d).to_f32())
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

/// 1.5 * 2^23: a sum with it keeps the nearest integer, ties to even, in the low bits of its mantissa.
pub(crate) const MAGIC: f32 = 12_582_912.0;

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
}
