//! The element types of float checkpoints.

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use std::fmt;

/// How a checkpoint stores the elements of a tensor, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a single.
    BF16,
}

impl Dtype {
    /// Every type.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::BF16];

    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    /// Its name in a safetensors header.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
        }
    }

    /// The type of a safetensors tensor, if it is a float this project converts.
    pub(crate) fn from_safetensors(dtype: safetensors::Dtype) -> Option<Self> {
        match dtype {
            safetensors::Dtype::F32 => Some(Self::F32),
            safetensors::Dtype::F16 => Some(Self::F16),
            safetensors::Dtype::BF16 => Some(Self::BF16),
            _ => None,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Replaces `out` by the elements in `bytes` as f32. All three types widen exactly.
///
/// Bytes that do not make a whole element at the end are ignored.
pub fn to_f32(dtype: Dtype, bytes: &[u8], out: &mut Vec<f32>) {
    // Without `clear`: only growth is zero-filled, so a reused buffer costs one pass.
    out.resize(bytes.len() / dtype.size(), 0.0);
    match dtype {
        Dtype::F32 => {
            for (value, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *value = f32::from_le_bytes(*bytes);
            }
        }
        Dtype::BF16 => {
            for (value, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            }
        }
        Dtype::F16 => f16_to_f32(bytes, out),
    }
}

/// Widens f16 through an aligned copy on the stack, so that `half` can use the CPU's conversion for a whole slice.
fn f16_to_f32(bytes: &[u8], out: &mut [f32]) {
    const CHUNK_ELEMS: usize = 1024;
    let mut bits = [0u16; CHUNK_ELEMS];
    for (values, bytes) in out.chunks_mut(CHUNK_ELEMS).zip(bytes.chunks(2 * CHUNK_ELEMS)) {
        for (bits, bytes) in bits.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *bits = u16::from_le_bytes(*bytes);
        }
        bits[..values.len()].reinterpret_cast::<f16>().convert_to_f32_slice(values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    #[test]
    fn every_half_widens_exactly() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let mut out = vec![f32::NAN; 7];
        for (dtype, widen) in [
            (Dtype::F16, (|b| f16::from_bits(b).to_f32()) as fn(u16) -> f32),
            (Dtype::BF16, |b| bf16::from_bits(b).to_f32()),
        ] {
            to_f32(dtype, &bytes, &mut out);
            assert_eq!(out.len(), 1 << 16);
            for (value, bits) in out.iter().zip(0..=u16::MAX) {
                let want = widen(bits);
                assert!(value.to_bits() == want.to_bits() || (value.is_nan() && want.is_nan()), "{dtype} {bits:#06x}");
            }
        }
    }

    #[test]
    fn singles_pass_through_and_a_torn_tail_is_ignored() {
        let mut out = Vec::new();
        let bytes: Vec<u8> = [1.5f32, -0.0, f32::INFINITY].iter().flat_map(|v| v.to_le_bytes()).collect();
        to_f32(Dtype::F32, &bytes, &mut out);
        assert_eq!(
            out.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
            [1.5f32, -0.0, f32::INFINITY].map(f32::to_bits)
        );
        to_f32(Dtype::F32, &bytes[..7], &mut out);
        assert_eq!(out, [1.5]);
        to_f32(Dtype::F16, &[0x00, 0x3c, 0xff], &mut out);
        assert_eq!(out, [1.0]);
    }
}
