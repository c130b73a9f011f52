//! Where keys and values live.

use super::int8;
use crate::matmul::CACHE_LINE_BYTES;
use std::ops::{Deref, DerefMut};

/// Positions in a tile.
pub(super) const TILE: usize = 16;

/// Element type of the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvType {
    /// Half precision.
    #[default]
    F16,
    /// Single precision.
    F32,
    /// Bytes with scales in single precision: for keys one per 32 dimensions, for values one per head.
    Q8_0,
}

/// Dimensions of one layer's cache.
#[derive(Clone, Copy, Debug)]
pub struct KvShape {
    /// Element type.
    pub ty: KvType,
    /// Independent sequences.
    pub sequences: usize,
    /// Heads.
    pub heads: usize,
    /// Elements of a head's key or value.
    pub head_dim: usize,
    /// Positions a sequence can hold.
    pub positions: usize,
}

impl KvShape {
    /// Elements of a row of queries, keys or values.
    pub fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Elements that a value takes: whole lanes.
    pub(super) fn padded_dim(&self) -> usize {
        self.head_dim.next_multiple_of(TILE)
    }

    /// Positions that memory is laid out for: as many as the kernels work on at once.
    fn padded_positions(&self) -> Option<usize> {
        self.positions.checked_next_multiple_of(match self.ty {
            KvType::F16 | KvType::F32 => TILE,
            KvType::Q8_0 => int8::GROUP,
        })
    }

    /// Bytes of a tile of a head's keys, and of its values.
    fn tile_bytes(&self) -> Option<[usize; 2]> {
        let padded_dim = self.head_dim.checked_next_multiple_of(TILE)?;
        let of = |element: usize, dims: usize| dims.checked_mul(TILE * element);
        Some(match self.ty {
            KvType::F16 => [of(2, self.head_dim)?, of(2, padded_dim)?],
            KvType::F32 => [of(4, self.head_dim)?, of(4, padded_dim)?],
            KvType::Q8_0 => int8::tile_bytes(padded_dim)?,
        })
    }

    /// Bytes of a tile of a head's keys.
    pub(super) fn key_tile_bytes(&self) -> usize {
        self.tile_bytes().expect(COUNTED)[0]
    }

    /// Bytes of a tile of a head's values.
    pub(super) fn value_tile_bytes(&self) -> usize {
        self.tile_bytes().expect(COUNTED)[1]
    }

    /// Bytes of a head's keys in one sequence.
    pub(super) fn key_bytes(&self) -> usize {
        self.padded_positions().expect(COUNTED) / TILE * self.key_tile_bytes()
    }

    /// Bytes of a head's values in one sequence.
    pub(super) fn value_bytes(&self) -> usize {
        self.padded_positions().expect(COUNTED) / TILE * self.value_tile_bytes()
    }

    /// The number of a head, among those of all sequences.
    pub(super) fn head(&self, sequence: usize, head: usize) -> usize {
        sequence * self.heads + head
    }

    /// Bytes of keys and values of one layer; `None` if they cannot be counted.
    pub fn bytes(&self) -> Option<usize> {
        let heads = self.heads.checked_mul(self.sequences)?;
        self.bytes_per_tile()?.checked_mul(heads)?.checked_mul(self.padded_positions()? / TILE)
    }

    /// Bytes that each position of a sequence takes in one layer, with its share of scales and padding; `None` if they
    /// cannot be counted.
    pub fn bytes_per_position(&self) -> Option<usize> {
        Some(self.bytes_per_tile()?.checked_mul(self.heads)? / TILE)
    }

    /// Bytes of a tile of a head's keys and values.
    fn bytes_per_tile(&self) -> Option<usize> {
        let [keys, values] = self.tile_bytes()?;
        keys.checked_add(values)
    }
}

/// Why sizes that a cache is used with do not overflow.
const COUNTED: &str = "sizes that were counted when the cache was made";

/// Keys and values of one layer.
#[derive(Debug)]
pub struct KvCache {
    pub(super) shape: KvShape,
    /// Floats: `[sequence][head][tile][dimension][16 positions]`. Bytes: `[sequence][head]` and tiles as
    /// [`int8`] describes them.
    pub(super) keys: Lines,
    /// Floats: `[sequence][head][position][dimension, padded to 16]`. Bytes: as above.
    pub(super) values: Lines,
}

impl KvCache {
    /// An empty cache. Memory is touched as positions are filled.
    ///
    /// # Panics
    /// If its size cannot be counted.
    pub fn new(shape: KvShape) -> Self {
        assert!(shape.bytes().is_some(), "a cache whose size can be counted");
        let heads = shape.sequences * shape.heads;
        Self { shape, keys: Lines::new(heads * shape.key_bytes()), values: Lines::new(heads * shape.value_bytes()) }
    }

    /// Its dimensions.
    pub fn shape(&self) -> KvShape {
        self.shape
    }

    /// Makes the first `positions` of sequence `to` those of sequence `from`.
    ///
    /// # Panics
    /// If there are no such sequences or positions.
    pub fn copy_prefix(&mut self, from: usize, to: usize, positions: usize) {
        let s = self.shape;
        assert!(from.max(to) < s.sequences && positions <= s.positions, "sequences and positions of the cache");
        let tiles = positions.div_ceil(TILE);
        let (keys, values) = (tiles * s.key_tile_bytes(), tiles * s.value_tile_bytes());
        for head in 0..s.heads {
            let [from, to] = [from, to].map(|sequence| s.head(sequence, head));
            self.keys.copy_within(from * s.key_bytes()..from * s.key_bytes() + keys, to * s.key_bytes());
            self.values.copy_within(from * s.value_bytes()..from * s.value_bytes() + values, to * s.value_bytes());
        }
    }
}

/// Zeroed bytes that begin with a cache line, so that no load of a whole line crosses two. Memory that nobody touches
/// is not there.
#[derive(Debug)]
pub(super) struct Lines {
    bytes: Vec<u8>,
    start: usize,
}

impl Lines {
    fn new(len: usize) -> Self {
        let bytes = vec![0; len + CACHE_LINE_BYTES];
        // A vector that is only read and written stays where it is.
        let start = bytes.as_ptr().align_offset(CACHE_LINE_BYTES).min(CACHE_LINE_BYTES);
        Self { bytes, start }
    }
}

impl Deref for Lines {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..][..self.bytes.len() - CACHE_LINE_BYTES]
    }
}

impl DerefMut for Lines {
    fn deref_mut(&mut self) -> &mut [u8] {
        let len = self.bytes.len() - CACHE_LINE_BYTES;
        &mut self.bytes[self.start..][..len]
    }
}
