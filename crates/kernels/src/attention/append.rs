//! New positions: rotate queries and keys, append keys and values to the cache.

use super::cache::{KvCache, KvShape, KvType, TILE};
use crate::isa::{Isa, Kernel, Supported};
use crate::rope::RopeTable;
use crate::shared::SharedMut;
use crate::team::Team;

/// Appends `n` consecutive positions of one sequence.
#[derive(Debug)]
pub struct Append<'a> {
    /// Where keys and values go.
    pub cache: &'a mut KvCache,
    /// The rotation.
    pub rope: &'a RopeTable,
    /// Which sequence.
    pub sequence: usize,
    /// Position of the first row.
    pub first_position: usize,
    /// `[n, 3 * heads * head_dim]`: per row all queries, all keys, all values, each head by head. Queries and keys
    /// are rotated in place.
    pub qkv: &'a mut [f32],
}

impl Append<'_> {
    pub(crate) fn run(self, team: &Team, isa: Supported) {
        let shape = self.cache.shape;
        let width = shape.heads * shape.head_dim;
        let n = self.qkv.len() / (3 * width);
        assert!(self.qkv.len().is_multiple_of(3 * width) && self.sequence < shape.sequences);
        assert!(self.first_position + n <= shape.positions, "positions within the cache");
        let starts = |head| (self.cache.keys_start(self.sequence, head), self.cache.values_start(self.sequence, head));
        let starts: Vec<_> = (0..shape.heads).map(starts).collect();
        let keys = SharedMut::new(&mut self.cache.keys);
        let values = SharedMut::new(&mut self.cache.values);
        let qkv = SharedMut::new(self.qkv);
        let positions = shape.padded_positions() * shape.ty.bytes();
        let task = |head: usize| {
            // SAFETY: every head has its own part of keys and values, and is one task.
            let (keys, values) = unsafe {
                let (k, v) = starts[head];
                (keys.slice(k, positions * shape.head_dim), values.slice(v, positions * shape.padded_dim()))
            };
            let rope = self.rope;
            isa.dispatch(Head { shape, keys, values, rope, qkv, head, n, first_position: self.first_position });
        };
        // One position takes less time than waking the team.
        if n == 1 { (0..shape.heads).for_each(task) } else { team.run(shape.heads, &task) }
    }
}

struct Head<'a> {
    shape: KvShape,
    keys: &'a mut [u8],
    values: &'a mut [u8],
    rope: &'a RopeTable,
    qkv: SharedMut<'a, f32>,
    head: usize,
    n: usize,
    first_position: usize,
}

impl Kernel for Head<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let KvShape { ty, heads, head_dim, .. } = self.shape;
        let (width, element) = (heads * head_dim, ty.bytes());
        let mut encoded = vec![0u8; self.shape.padded_dim() * element];
        for i in 0..self.n {
            let position = self.first_position + i;
            let at = |part: usize| (i * 3 + part) * width + self.head * head_dim;
            // SAFETY: the three vectors of this head in this row; only this task touches this head's.
            let (query, key, value) = unsafe {
                (self.qkv.slice(at(0), head_dim), self.qkv.slice(at(1), head_dim), self.qkv.slice(at(2), head_dim))
            };
            self.rope.rotate(position, query);
            self.rope.rotate(position, key);
            encode(isa, ty, key, &mut encoded);
            let tile = position / TILE * TILE * head_dim * element + position % TILE * element;
            // One element per dimension, a tile's width apart.
            match ty {
                KvType::F16 => scatter::<2>(&encoded, &mut self.keys[tile..], head_dim),
                KvType::F32 => scatter::<4>(&encoded, &mut self.keys[tile..], head_dim),
            }
            let row = encoded.len();
            encode(isa, ty, value, &mut self.values[position * row..][..row]);
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

/// Converts `x` to the cache's type; elements of `out` past its end become 0.
#[inline(always)]
fn encode<I: Isa>(isa: I, ty: KvType, x: &[f32], out: &mut [u8]) {
    for (x, out) in x.chunks(TILE).zip(out.chunks_exact_mut(TILE * ty.bytes())) {
        let mut lanes = [0.0f32; TILE];
        lanes[..x.len()].copy_from_slice(x);
        // SAFETY: 16 floats in, 16 elements out.
        unsafe {
            let v = isa.load(lanes.as_ptr());
            match ty {
                KvType::F16 => isa.store_f16(out.as_mut_ptr(), v),
                KvType::F32 => isa.store(out.as_mut_ptr().cast(), v),
            }
        }
    }
}
