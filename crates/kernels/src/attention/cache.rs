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
        let positions = shape.sequences * shape.heads * shape.padded_positions() * shape.ty.bytes();
        Self { shape, keys: vec![0; positions * shape.head_dim], values: vec![0; positions * shape.padded_dim()] }
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
            let [k_from, k_to] = [from, to].map(|sequence| self.keys_start(sequence, head));
            self.keys.copy_within(k_from..k_from + keys, k_to);
            let [v_from, v_to] = [from, to].map(|sequence| self.values_start(sequence, head));
            self.values.copy_within(v_from..v_from + values, v_to);
        }
    }

    pub(super) fn keys_start(&self, sequence: usize, head: usize) -> usize {
        let s = &self.shape;
        (sequence * s.heads + head) * s.padded_positions() * s.head_dim * s.ty.bytes()
    }

    pub(super) fn values_start(&self, sequence: usize, head: usize) -> usize {
        let s = &self.shape;
        (sequence * s.heads + head) * s.padded_positions() * s.padded_dim() * s.ty.bytes()
    }
}
