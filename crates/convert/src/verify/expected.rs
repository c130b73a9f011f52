//! The quantization error of formats by width, and the limit above which an error has another cause.

use pythia_tensor::TensorType;

/// The error at this width and above, up to that of the row before.
struct Expected {
    /// Bits per weight, scales included.
    min_bits: f64,
    /// Mean square error in units of the mean square of the weights.
    nmse: f64,
}

/// The largest error of the formats in each row, measured with the reference quantizers on weights with heavy tails
/// (Student's t with 5 degrees of freedom). That of bf16 follows from its 8 significant bits.
const EXPECTED: &[Expected] = &[
    // BF16; F16 is finer.
    Expected { min_bits: 16.0, nmse: 2.4e-6 },
    // Q8_0
    Expected { min_bits: 8.5, nmse: 4.6e-5 },
    // Q6_K
    Expected { min_bits: 6.5, nmse: 4.6e-4 },
    // Q5_0; Q5_1 and Q5_K are finer.
    Expected { min_bits: 5.5, nmse: 2.9e-3 },
    // Q4_0; Q4_1, Q4_K and IQ4 are finer.
    Expected { min_bits: 4.25, nmse: 1.2e-2 },
    // IQ3_S; Q3_K is finer.
    Expected { min_bits: 3.4, nmse: 3.6e-2 },
    // IQ3_XXS
    Expected { min_bits: 3.0, nmse: 5.9e-2 },
    // IQ2_XXS; the other IQ2 and Q2_K are finer.
    Expected { min_bits: 2.0, nmse: 1.5e-1 },
];

/// Limit for the error of a tensor (root mean square), as a multiple of the expected error. Weights with stronger
/// outliers, or encoded with importances, exceed the figures above by some ten percent. Weights that are permuted,
/// scaled, truncated or from another model have errors of 0.3 to 1.4 times their own size.
const MARGIN: f64 = 3.0;

/// The same for matrices that were rounded together: each takes over errors of those before it, so the coarsest type
/// of the file sets the expected error of all. With feedback on 64 windows, the worst matrix of the model in `tests/data`
/// is at 0.44 of the limit (Q2_K; 0.23 for Q4_0 and Q8_0).
const MARGIN_TOGETHER: f64 = 6.0;

/// No error above this counts as rounding, at any width. All zeros would have an error of 1.
const CEILING: f64 = 0.9;

/// The mean square error of `ty` in units of the mean square of the weights; 1 below the widths of the table.
pub(super) fn nmse(ty: TensorType) -> f64 {
    EXPECTED.iter().find(|row| ty.bits_per_weight() >= row.min_bits).map_or(1.0, |row| row.nmse)
}

/// The largest plausible relative RMS error of `ty` made from `source`. `None` below the widths of the table.
pub(super) fn limit(ty: TensorType, source: TensorType) -> Option<f64> {
    // F32 holds every value of a half-width type.
    if ty == source || ty == TensorType::F32 {
        return Some(0.0);
    }
    let expected = EXPECTED.iter().find(|row| ty.bits_per_weight() >= row.min_bits)?;
    Some((MARGIN * expected.nmse.sqrt()).min(CEILING))
}

/// The largest plausible relative RMS error of a matrix that was rounded together with those of the types `all`.
pub(super) fn limit_together(all: impl Iterator<Item = TensorType>) -> f64 {
    let expected = all.map(nmse).fold(0.0, f64::max);
    (MARGIN_TOGETHER * expected.sqrt()).min(CEILING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_grow_as_bits_shrink() {
        let limits: Vec<f64> = EXPECTED.iter().map(|row| (MARGIN * row.nmse.sqrt()).min(CEILING)).collect();
        assert!(limits.is_sorted() && EXPECTED.is_sorted_by(|a, b| a.min_bits > b.min_bits));
        assert!(TensorType::ALL.iter().all(|&ty| ty.bits_per_weight() < 2.0 || limit(ty, TensorType::F32).is_some()));
        assert_eq!(limit(TensorType::F32, TensorType::BF16), Some(0.0));
        assert_eq!(limit(TensorType::F16, TensorType::F16), Some(0.0));
        assert!(limit(TensorType::F16, TensorType::F32).unwrap() < 0.005);
        assert!(limit(TensorType::Q8_0, TensorType::F16).unwrap() < 0.021);
        assert!(limit(TensorType::Q4_0, TensorType::F16).unwrap() < 0.4);
        let together = |types: &[TensorType]| limit_together(types.iter().copied());
        assert!(together(&[TensorType::Q8_0]) < together(&[TensorType::Q8_0, TensorType::Q4_0, TensorType::Q6_K]));
        assert_eq!(together(&[TensorType::Q2_K]), CEILING);
    }
}
