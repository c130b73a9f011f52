//! Eight 6-bit scales and minima in 12 bytes, as Q4_K and Q5_K store them.
//!
//! ```text
//! byte  0                      4                       8                                   12
//!       | scale g, low 6 bits  | min g, low 6 bits     | low nibble: scale g + 4, high: min |
//!       | upper 2: scale g + 4 | upper 2: min g + 4    |   (their lower four bits)          |     g in 0..4
//! ```

use std::array::from_fn;

/// Scale and minimum of group `g`.
pub(super) fn get(packed: &[u8; 12], g: usize) -> (u8, u8) {
    if g < 4 {
        (packed[g] & 63, packed[g + 4] & 63)
    } else {
        (packed[g + 4] & 15 | packed[g - 4] >> 6 << 4, packed[g + 4] >> 4 | packed[g] >> 6 << 4)
    }
}

/// The inverse of [`get`].
pub(super) fn pack(scales: &[u8; 8], mins: &[u8; 8]) -> [u8; 12] {
    from_fn(|i| match i {
        0..4 => scales[i] | scales[i + 4] >> 4 << 6,
        4..8 => mins[i - 4] | mins[i] >> 4 << 6,
        _ => scales[i - 4] & 15 | mins[i - 4] << 4,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_keeps_every_bit() {
        for seed in 0..64u8 {
            let scales: [u8; 8] = from_fn(|g| (seed.wrapping_mul(7).wrapping_add(11 * g as u8)) & 63);
            let mins: [u8; 8] = from_fn(|g| (seed.wrapping_mul(29).wrapping_add(5 * g as u8)) & 63);
            let packed = pack(&scales, &mins);
            for g in 0..8 {
                assert_eq!(get(&packed, g), (scales[g], mins[g]), "group {g} of {scales:?} {mins:?}");
            }
        }
    }
}
