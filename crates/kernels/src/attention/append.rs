//! New positions of one head: rotate queries and keys, append keys and values to the cache.

use super::cache::{KvShape, KvType, TILE};
use crate::isa::{Isa, Kernel};
use crate::rope::RopeTable;
use crate::shared::SharedMut;

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
    fn run<I: Isa>(self, isa: I) {
        let KvShape { ty, head_dim, .. } = self.shape;
        let (width, element) = (self.shape.width(), ty.bytes());
        for i in 0..self.n {
            let position = self.first_position + i;
            let at = |part: usize| ((self.first_row + i) * 3 + part) * width + self.head * head_dim;
            // SAFETY: the three vectors of this head in this row; only this task touches this head's.
            let (query, key, value) = unsafe {
                (self.qkv.slice(at(0), head_dim), self.qkv.slice(at(1), head_dim), self.qkv.slice(at(2), head_dim))
            };
            self.rope.rotate(position, query);
            self.rope.rotate(position, key);
            let tile = &mut self.keys[position / TILE * TILE * head_dim * element..][..TILE * head_dim * element];
            let mut encoded = [0u8; TILE * KvType::F32.bytes()];
            let encoded = &mut encoded[..TILE * element];
            for (key, tile) in key.chunks(TILE).zip(tile.chunks_mut(TILE * TILE * element)) {
                encode(isa, ty, key, encoded);
                let tile = &mut tile[position % TILE * element..];
                // One element per dimension, a tile's width apart.
                match ty {
                    KvType::F16 => scatter::<2>(encoded, tile, key.len()),
                    KvType::F32 => scatter::<4>(encoded, tile, key.len()),
                }
            }
            let row = self.shape.padded_dim() * element;
            for (value, out) in value.chunks(TILE).zip(self.values[position * row..][..row].chunks_mut(TILE * element))
            {
                encode(isa, ty, value, out);
            }
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

/// Converts up to 16 floats to the cache's type; elements of `out`, which has 16, past their end become 0.
#[inline(always)]
fn encode<I: Isa>(isa: I, ty: KvType, x: &[f32], out: &mut [u8]) {
    assert!(out.len() == TILE * ty.bytes());
    let mut lanes = [0.0f32; TILE];
    let lanes = x.first_chunk().unwrap_or_else(|| {
        lanes[..x.len()].copy_from_slice(x);
        &lanes
    });
    // SAFETY: 16 floats in, 16 elements out.
    unsafe {
        let v = isa.load(lanes.as_ptr());
        match ty {
            KvType::F16 => isa.store_f16(out.as_mut_ptr(), v),
            KvType::F32 => isa.store(out.as_mut_ptr().cast(), v),
        }
    }
}
