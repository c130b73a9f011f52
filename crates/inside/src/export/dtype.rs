//! Numbers as they are exported.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use serde::{Deserialize, Serialize};

/// Type of the exported values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// As they were computed.
    #[default]
    F32,
    /// Rounded to the nearest, ties to even. Beyond 65519 it is infinity.
    F16,
    /// Rounded to the nearest, ties to even.
    Bf16,
}

/// Values that a reader should know about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// NaN or infinite as they were computed. Scores that are masked do not count.
    pub not_finite: u64,
    /// Finite as they were computed, and infinite in the type that they were rounded to.
    pub overflowed: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        self.not_finite += other.not_finite;
        self.overflowed += other.overflowed;
    }
}

/// Values that are rounded at a time.
const TILE: usize = 512;

impl Dtype {
    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// Appends values to `out`, little-endian. `masked` of them may be minus infinity without being counted.
    pub(super) fn encode(self, values: &[f32], masked: bool, out: &mut Vec<u8>, tally: &mut Tally) {
        let odd = |x: &&f32| !(x.is_finite() || masked && **x == f32::NEG_INFINITY);
        tally.not_finite += values.iter().filter(odd).count() as u64;
        out.reserve(values.len() * self.bytes());
        match self {
            Self::F32 => values.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
            Self::F16 => halves(values, f16::ZERO, f16::is_infinite, f16::to_le_bytes, out, tally),
            Self::Bf16 => halves(values, bf16::ZERO, bf16::is_infinite, bf16::to_le_bytes, out, tally),
        }
    }
}

/// Rounds to 16 bits. Both types have the same methods, but not by a trait.
fn halves<H: Copy>(
    values: &[f32],
    zero: H,
    is_infinite: fn(H) -> bool,
    to_bytes: fn(H) -> [u8; 2],
    out: &mut Vec<u8>,
    tally: &mut Tally,
) where
    [H]: HalfFloatSliceExt,
{
    let mut tile = [zero; TILE];
    for values in values.chunks(TILE) {
        let tile = &mut tile[..values.len()];
        tile.convert_from_f32_slice(values);
        let infinite = tile.iter().zip(values).filter(|(y, x)| is_infinite(**y) && x.is_finite());
        tally.overflowed += infinite.count() as u64;
        tile.iter().for_each(|&y| out.extend_from_slice(&to_bytes(y)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(dtype: Dtype, values: &[f32], masked: bool) -> (Vec<u8>, Tally) {
        let (mut out, mut tally) = (Vec::new(), Tally::default());
        dtype.encode(values, masked, &mut out, &mut tally);
        (out, tally)
    }

    #[test]
    fn halves_are_the_nearest_and_what_overflows_is_counted() {
        let values: Vec<f32> = (0..2000).map(|i| (i as f32 - 1000.0) * 1.000_488_3).collect();
        let (bytes, tally) = encoded(Dtype::F16, &values, false);
        assert_eq!(tally, Tally::default());
        let wanted: Vec<u8> = values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
        assert_eq!(bytes, wanted);
        let wanted: Vec<u8> = values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect();
        assert_eq!(encoded(Dtype::Bf16, &values, false).0, wanted);

        let odd = [65519.0, 65520.0, -1e6, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
        assert_eq!(encoded(Dtype::F16, &odd, false).1, Tally { not_finite: 3, overflowed: 3 });
        assert_eq!(encoded(Dtype::F16, &odd, true).1, Tally { not_finite: 2, overflowed: 3 });
        assert_eq!(encoded(Dtype::Bf16, &odd, true).1, Tally { not_finite: 2, overflowed: 1 });
        assert_eq!(encoded(Dtype::F32, &odd, true).1, Tally { not_finite: 2, overflowed: 0 });
        let exact: Vec<u8> = odd.iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(encoded(Dtype::F32, &odd, false).0, exact);
    }
}
