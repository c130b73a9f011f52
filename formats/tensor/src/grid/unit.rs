//! Thirty-two elements of a grid format, as all five have them once unpacked.

/// Thirty-two elements: `N` entries of `32 / N` elements each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit<const N: usize> {
    /// Entries of the codebook, in order.
    pub entries: [u16; N],
    /// Signs of each eight elements, bit 0 first, set for minus.
    pub signs: [u8; 4],
    /// Codes of the scales of both halves, 0..=15.
    pub scales: [u8; 2],
}

/// Signs of 8 elements from the 7 that are stored: the last makes the number of minuses even.
#[inline(always)]
pub(crate) const fn even_signs(stored: u8) -> u8 {
    let signs = stored & 127;
    signs | ((signs.count_ones() % 2) << 7) as u8
}

/// Four times 7 signs, then a 4-bit scale, from the lowest bit on.
pub(crate) fn pack_signs_and_scale(signs: &[u8], scale: u8) -> [u8; 4] {
    let signs = signs[..4].iter().rev().fold(0, |bits, &signs| bits << 7 | u32::from(signs));
    (signs | u32::from(scale) << 28).to_le_bytes()
}

/// The signs, eight at a time, and the scale.
#[inline(always)]
pub(crate) fn unpack_signs_and_scale(bytes: [u8; 4]) -> ([u8; 4], u8) {
    let bits = u32::from_le_bytes(bytes);
    ([0, 7, 14, 21].map(|shift| even_signs((bits >> shift) as u8)), (bits >> 28) as u8)
}

/// Scales of 4 bits, two per byte, the first in the low one.
pub(crate) fn pack_scales<const BYTES: usize>(scales: &[u8; 16]) -> [u8; BYTES] {
    std::array::from_fn(|i| scales[2 * i] | scales[2 * i + 1] << 4)
}

/// Both scales of a byte.
#[inline(always)]
pub(crate) fn unpack_scales(byte: u8) -> [u8; 2] {
    [byte & 15, byte >> 4]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_sign_makes_minuses_even() {
        for stored in 0..128 {
            let signs = even_signs(stored);
            assert_eq!((signs & 127, signs.count_ones() % 2), (stored, 0));
        }
    }

    #[test]
    fn signs_and_scale_come_back() {
        let signs = [1, 0x7f, 0, 0x55];
        assert_eq!(unpack_signs_and_scale(pack_signs_and_scale(&signs, 9)), (signs.map(even_signs), 9));
    }
}
