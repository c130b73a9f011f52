//! The error that each width of format is known to make, and from which one on something else must be wrong.

use pythia_tensor::TensorType;

/// What rounding costs at one width, and at larger ones up to the row before.
struct Expected {
    /// Bits per weight, scales included.
    min_bits: f64,
    /// Mean square error in units of the mean square of the weights.
    nmse: f64,
}

/// The worst figure of the formats in each row, as the reference quantizers reach it on weights with heavy tails
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

/// How many times the expected error (as root mean square) a tensor may have. Weights with stronger outliers, or
/// rounded for the sake of some columns, have more than the figures above, by some ten percent. Weights that were
/// permuted, scaled, cut off or are of another model are off by 0.3 to 1.4 of their own size.
const MARGIN: f64 = 3.0;

/// Above this nothing counts as rounding, at any width: zeros in place of the weights have an error of 1.
const CEILING: f64 = 0.9;

/// The mean square error of `ty` in units of the mean square of the weights; 1 below the widths of the table.
pub(super) fn nmse(ty: TensorType) -> f64 {
    EXPECTED.iter().find(|row| ty.bits_per_weight() >= row.min_bits).map_or(1.0, |row| row.nmse)
}

/// The largest relative RMS error that is believable of `ty` made from `source`; `None` below the widths of the table.
pub(super) fn limit(ty: TensorType, source: TensorType) -> Option<f64> {
    // Every half is a single.
    if ty == source || ty == TensorType::F32 {
        return Some(0.0);
    }
    let expected = EXPECTED.iter().find(|row| ty.bits_per_weight() >= row.min_bits)?;
    Some((MARGIN * expected.nmse.sqrt()).min(CEILING))
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
    }
}
