//! Where keys and values live.

/// Positions in a tile of keys.
pub(super) const TILE: usize = 16;

/// Element type of the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvType {
    /// Half precision.
    #[default]
    F16,
    /// Single precision.
    F32,
}

impl KvType {
    /// Bytes of an element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }
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

    /// Positions that memory is laid out for: whole tiles.
    pub(super) fn padded_positions(&self) -> usize {
        self.positions.next_multiple_of(TILE)
    }

    /// Elements that a value takes: whole lanes.
    pub(super) fn padded_dim(&self) -> usize {
        self.head_dim.next_multiple_of(TILE)
    }

    /// Bytes of a head's keys in one sequence.
    pub(super) fn key_bytes(&self) -> usize {
        self.padded_positions() * self.head_dim * self.ty.bytes()
    }

    /// Bytes of a head's values in one sequence.
    pub(super) fn value_bytes(&self) -> usize {
        self.padded_positions() * self.padded_dim() * self.ty.bytes()
    }

    /// The number of a head, among those of all sequences.
    pub(super) fn head(&self, sequence: usize, head: usize) -> usize {
        sequence * self.heads + head
    }

    /// Bytes of keys and values of one layer; `None` if they cannot be counted.
    pub fn bytes(&self) -> Option<usize> {
        let per_position = self.ty.bytes().checked_mul(self.head_dim.checked_add(self.padded_dim())?)?;
        let positions = self.positions.checked_next_multiple_of(TILE)?;
        per_position.checked_mul(self.heads)?.checked_mul(self.sequences)?.checked_mul(positions)
    }
}

/// Keys and values of one layer.
#[derive(Debug)]
pub struct KvCache {
    pub(super) shape: KvShape,
    /// `[sequence][head][tile][dimension][16 positions]`.
    pub(super) keys: Vec<u8>,
    /// `[sequence][head][position][dimension, padded to 16]`.
    pub(super) values: Vec<u8>,
}

impl KvCache {
    /// An empty cache. Memory is touched as positions are filled.
    pub fn new(shape: KvShape) -> Self {
        let heads = shape.sequences * shape.heads;
        Self { shape, keys: vec![0; heads * shape.key_bytes()], values: vec![0; heads * shape.value_bytes()] }
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
        let keys = positions.next_multiple_of(TILE) * s.head_dim * s.ty.bytes();
        let values = positions * s.padded_dim() * s.ty.bytes();
        for head in 0..s.heads {
            let [from, to] = [from, to].map(|sequence| s.head(sequence, head));
            self.keys.copy_within(from * s.key_bytes()..from * s.key_bytes() + keys, to * s.key_bytes());
            self.values.copy_within(from * s.value_bytes()..from * s.value_bytes() + values, to * s.value_bytes());
        }
    }
}
