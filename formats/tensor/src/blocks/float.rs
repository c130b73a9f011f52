//! Plain floats, as blocks of one element.

use super::{Codec, block, encode_each};

/// A little-endian f32.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct F32(pub [u8; 4]);

/// A little-endian f16.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct F16(pub [u8; 2]);

/// A little-endian bfloat16.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct BF16(pub [u8; 2]);

block!(F32, elems = 1, bytes = 4);
block!(F16, elems = 1, bytes = 2);
block!(BF16, elems = 1, bytes = 2);

impl Codec for F32 {
    fn encode(src: &[f32], _: Option<&[f32]>, dst: &mut [Self]) {
        encode_each(src, dst, |values| Self(values[0].to_le_bytes()));
    }
    fn decode(&self, values: &mut [f32]) {
        values[0] = f32::from_le_bytes(self.0);
    }
}

impl Codec for F16 {
    fn encode(src: &[f32], _: Option<&[f32]>, dst: &mut [Self]) {
        encode_each(src, dst, |values| Self(half::f16::from_f32(values[0]).to_le_bytes()));
    }
    fn decode(&self, values: &mut [f32]) {
        values[0] = half::f16::from_le_bytes(self.0).to_f32();
    }
}

impl Codec for BF16 {
    fn encode(src: &[f32], _: Option<&[f32]>, dst: &mut [Self]) {
        encode_each(src, dst, |values| Self(half::bf16::from_f32(values[0]).to_le_bytes()));
    }
    fn decode(&self, values: &mut [f32]) {
        values[0] = half::bf16::from_le_bytes(self.0).to_f32();
    }
}
