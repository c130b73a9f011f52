//! Eight 6-bit scales and minima in 12 bytes, as Q4_K and Q5_K store them.
//!
//! ```text
//! byte  0                      4                       8                                   12
//!       | scale g, low 6 bits  | min g, low 6 bits     | low nibble: scale g + 4, high: min |
//!       | upper 2: scale g + 4 | upper 2: min g + 4    |   (their lower four bits)          |     g in 0..4
//! ```

use crate::scales::Scales;
use std::array::from_fn;

/// Stores the first eight group scales and minima.
pub(super) fn pack(scales: &Scales) -> [u8; 12] {
    let (scales, mins) = (scales.scales.map(|scale| scale as u8), scales.mins);
    from_fn(|i| match i {
        0..4 => scales[i] | scales[i + 4] >> 4 << 6,
        4..8 => mins[i - 4] | mins[i] >> 4 << 6,
        _ => scales[i - 4] & 15 | mins[i - 4] << 4,
    })
}

/// The inverse of [`pack`]; the rest is as in `scales`.
pub(super) fn unpack(packed: &[u8; 12], mut scales: Scales) -> Scales {
    for g in 0..4 {
        scales.scales[g] = (packed[g] & 63) as i8;
        scales.mins[g] = packed[g + 4] & 63;
        scales.scales[g + 4] = (packed[g + 8] & 15 | packed[g] >> 6 << 4) as i8;
        scales.mins[g + 4] = packed[g + 8] >> 4 | packed[g + 4] >> 6 << 4;
    }
    scales
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_keeps_every_bit() {
        for seed in 0..64u8 {
            let mut scales = Scales::default();
            for g in 0..8 {
                scales.scales[g] = (seed.wrapping_mul(7).wrapping_add(11 * g as u8) & 63) as i8;
                scales.mins[g] = seed.wrapping_mul(29).wrapping_add(5 * g as u8) & 63;
            }
            assert_eq!(unpack(&pack(&scales), Scales::default()), scales);
        }
    }
}
