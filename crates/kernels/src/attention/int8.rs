//! Keys and values as bytes: tiles of 16 positions, and how a position enters them.
//!
//! A tile of keys has steps of 4 dimensions, `[step][16 positions][4]`, as [`Isa::dot_steps`] reads them, prepared as
//! the instruction set wants its codes; then a scale per 32 dimensions, f32 `[ceil(dimensions / 32)][16 positions]`.
//! A tile of values has steps of 4 positions, `[4][sixteen of dimensions][16 dimensions][4 positions]`; then a scale per
//! position, f32 `[16]`. Dimensions are padded to 16.
//!
//! Bytes of positions that a sequence has not come to, or has been cut before, are whatever they are: a query gives
//! their scores no regard and their values the weight 0.

mod attend;

use super::append::load_padded;
use super::cache::TILE;
use crate::dot::UNIT;
use crate::isa::Isa;
use crate::quantize::{codes, quantize_32, scale_of};
pub(super) use attend::Int8Head;

/// Keys whose weights are quantized together: the positions `32 g` to `32 g + 31`.
pub(super) const GROUP: usize = 2 * TILE;

/// Bytes of a step: 4 codes in each of 16 lanes.
const STEP_BYTES: usize = 4 * TILE;

/// Bytes of 16 scales.
const SCALES_BYTES: usize = TILE * size_of::<f32>();

/// Bytes of a tile of keys, and of a tile of values; `None` if they cannot be counted.
pub(super) fn tile_bytes(padded_dim: usize) -> Option<[usize; 2]> {
    let codes = padded_dim.checked_mul(TILE)?;
    let keys = codes.checked_add(padded_dim.div_ceil(UNIT) * SCALES_BYTES)?;
    Some([keys, codes.checked_add(SCALES_BYTES)?])
}

/// A vector of a query or key as codes: 32 dimensions, the last 32 padded with zeros.
#[inline(always)]
fn unit_codes<I: Isa>(isa: I, x: &[f32]) -> (f32, [u8; UNIT], i32) {
    let (first, second) = x.split_at(x.len().min(TILE));
    let (scale, [a, b]) = quantize_32(isa, load_padded(isa, first), load_padded(isa, second));
    let mut bytes = [0; UNIT];
    // SAFETY: 32 bytes.
    let sum = unsafe { isa.store_i8(bytes.as_mut_ptr(), a) + isa.store_i8(bytes.as_mut_ptr().add(TILE), b) };
    (scale, bytes, sum)
}

/// Puts a key into place `lane` of its tile.
#[inline(always)]
pub(super) fn store_key<I: Isa>(isa: I, key: &[f32], tile: &mut [u8], lane: usize) {
    let (steps, scales) = tile.split_at_mut(key.len().next_multiple_of(TILE) * TILE);
    let words = steps.as_chunks_mut::<4>().0;
    let scales = scales.as_chunks_mut::<4>().0;
    let prepare = [I::I8_BIAS as u8; 4];
    for (unit, key) in key.chunks(UNIT).enumerate() {
        let (scale, codes, _) = unit_codes(isa, key);
        scales[unit * TILE + lane] = scale.to_ne_bytes();
        for (step, word) in codes[..key.len().next_multiple_of(TILE)].as_chunks::<4>().0.iter().enumerate() {
            let word = u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(prepare);
            words[isa.step_word(unit * UNIT / 4 + step, lane)] = word.to_ne_bytes();
        }
    }
}

/// Puts a value into place `lane` of its tile.
#[inline(always)]
pub(super) fn store_value<I: Isa>(isa: I, value: &[f32], tile: &mut [u8], lane: usize) {
    let padded_dim = value.len().next_multiple_of(TILE);
    let (steps, scales) = tile.split_at_mut(padded_dim * TILE);
    let mut largest = 0;
    for value in value.chunks(TILE) {
        let value = load_padded(isa, value);
        largest = largest.max(isa.largest_magnitude(value, value));
    }
    let amax = f32::from_bits(largest);
    let (scale, inverse) = scale_of(amax);
    scales.as_chunks_mut::<4>().0[lane] = scale.to_ne_bytes();
    let row = &mut steps[lane / 4 * padded_dim * 4..][..padded_dim * 4];
    for (value, step) in value.chunks(TILE).zip(row.as_chunks_mut::<STEP_BYTES>().0) {
        let mut bytes = [0u8; TILE];
        // SAFETY: 16 bytes.
        unsafe { isa.store_i8(bytes.as_mut_ptr(), codes(isa, load_padded(isa, value), amax, inverse)) };
        for (word, byte) in step.as_chunks_mut::<4>().0.iter_mut().zip(bytes) {
            word[lane % 4] = byte;
        }
    }
}
