//! New positions of one head: rotate queries and keys, append keys and values to the cache.

use super::cache::{KvShape, KvType, TILE};
use super::int8;
use crate::isa::{Isa, Kernel};
use crate::rope::RopeTable;
use crate::shared::SharedMut;

/// How far ahead rows are asked for.
const ROWS_AHEAD: usize = 4;

/// Appends `n` consecutive positions of one head of one sequence.
pub(super) struct Append<'a> {
    pub(super) shape: KvShape,
    /// The head's part of the cache.
    pub(super) keys: &'a mut [u8],
    pub(super) values: &'a mut [u8],
    pub(super) rope: &'a RopeTable,
    /// As [`super::Attention::qkv`]; this task alone works on the head's part of these rows.
    pub(super) qkv: SharedMut<'a, f32>,
    pub(super) head: usize,
    pub(super) first_row: usize,
    pub(super) n: usize,
    pub(super) first_position: usize,
}

impl Kernel for Append<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        let KvShape { ty, head_dim, .. } = self.shape;
        let width = self.shape.width();
        for i in 0..self.n {
            let position = self.first_position + i;
            let at = |part: usize| ((self.first_row + i) * 3 + part) * width + self.head * head_dim;
            for part in 0..3 {
                // Rows are far from each other: the processor does not guess the next one.
                let ahead = self.qkv.at(at(part) + ROWS_AHEAD * 3 * width).cast::<u8>();
                isa.prefetch_bytes(ahead, head_dim * size_of::<f32>());
            }
            // SAFETY: the three vectors of this head in this row; only this task touches this head's.
            let (query, key, value) = unsafe {
                (self.qkv.slice(at(0), head_dim), self.qkv.slice(at(1), head_dim), self.qkv.slice(at(2), head_dim))
            };
            self.rope.rotate(position, query);
            self.rope.rotate(position, key);
            match ty {
                KvType::F16 => self.floats::<I, 2>(isa, position, key, value),
                KvType::F32 => self.floats::<I, 4>(isa, position, key, value),
                KvType::Q8_0 => {
                    let tile = |bytes: usize| position / TILE * bytes..(position / TILE + 1) * bytes;
                    let (keys, values) = (tile(self.shape.key_tile_bytes()), tile(self.shape.value_tile_bytes()));
                    int8::store_key(isa, key, &mut self.keys[keys], position % TILE);
                    int8::store_value(isa, value, &mut self.values[values], position % TILE);
                }
            }
        }
    }
}

impl Append<'_> {
    /// Appends a key and a value as floats of some bytes.
    #[inline(always)]
    fn floats<I: Isa, const BYTES: usize>(&mut self, isa: I, position: usize, key: &[f32], value: &[f32]) {
        let (tile, row) = (self.shape.key_tile_bytes(), self.shape.padded_dim() * BYTES);
        let tile = &mut self.keys[position / TILE * tile..][..tile];
        let mut encoded = [0u8; TILE * size_of::<f32>()];
        let encoded = &mut encoded[..TILE * BYTES];
        for (key, tile) in key.chunks(TILE).zip(tile.chunks_mut(TILE * TILE * BYTES)) {
            encode::<I, BYTES>(isa, key, encoded);
            // One element per dimension, a tile's width apart.
            scatter::<BYTES>(encoded, &mut tile[position % TILE * BYTES..], key.len());
        }
        for (value, out) in value.chunks(TILE).zip(self.values[position * row..][..row].chunks_mut(TILE * BYTES)) {
            encode::<I, BYTES>(isa, value, out);
        }
    }
}

/// Element d of `from` goes to element `16 d` of `to`.
#[inline(always)]
fn scatter<const BYTES: usize>(from: &[u8], to: &mut [u8], elements: usize) {
    let to = to.as_chunks_mut::<BYTES>().0.iter_mut().step_by(TILE);
    for (to, from) in to.zip(&from.as_chunks::<BYTES>().0[..elements]) {
        *to = *from;
    }
}

/// Converts up to 16 floats to floats of 2 or 4 bytes; elements of `out`, which has 16, past their end become 0.
#[inline(always)]
fn encode<I: Isa, const BYTES: usize>(isa: I, x: &[f32], out: &mut [u8]) {
    assert!(out.len() == TILE * BYTES);
    let v = load_padded(isa, x);
    // SAFETY: 16 elements.
    unsafe { if BYTES == 2 { isa.store_f16(out.as_mut_ptr(), v) } else { isa.store(out.as_mut_ptr().cast(), v) } }
}

/// The first 16 floats; those past the end are 0.
#[inline(always)]
pub(super) fn load_padded<I: Isa>(isa: I, x: &[f32]) -> I::F {
    let mut lanes = [0.0f32; TILE];
    let lanes = x.first_chunk().unwrap_or_else(|| {
        lanes[..x.len()].copy_from_slice(x);
        &lanes
    });
    // SAFETY: 16 floats.
    unsafe { isa.load(lanes.as_ptr()) }
}
