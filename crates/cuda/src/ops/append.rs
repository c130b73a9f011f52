//! Rotates queries and keys, and appends to the cache.

use crate::compile::{Kernel, Source};
use crate::device::{Args, Device, Ptr};
use crate::layout::{Shared, shared_structs};
use pythia_kernels::{KvShape, KvType};

/// Threads of a block, a warp per head of a row.
const THREADS: usize = 128;

/// Positions in a tile of keys: `TILE` in kernels/cache.cuh, where the layout is described.
const TILE: usize = 32;

shared_structs! {
    /// Sequences and positions of the rows of a batch. They are on the device, so that a graph can be replayed with
    /// others.
    pub(crate) struct Rows {
        /// Sequences, u32 `[n]`.
        pub(crate) sequences: Ptr,
        /// Positions in them, u32 `[n]`.
        pub(crate) positions: Ptr,
    }
}

/// The keys and values of one layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KvPtrs {
    pub(crate) keys: Ptr,
    pub(crate) values: Ptr,
    pub(crate) shape: KvShape,
}

/// Whether the kernels support heads of this size.
pub(crate) fn knows_heads_of(head_dim: usize) -> bool {
    head_dim.is_multiple_of(8) && (8..=256).contains(&head_dim)
}

/// The types of elements that the kernels know.
#[derive(Clone, Copy)]
pub(super) enum Element {
    F16,
    F32,
}

impl Element {
    /// That of a cache.
    pub(super) fn of(ty: KvType) -> Self {
        match ty {
            KvType::F16 => Self::F16,
            KvType::F32 => Self::F32,
            KvType::Q8_0 => unreachable!("refused when a model is opened"),
        }
    }

    /// Its bytes.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

/// Bytes of the keys and of the values of one layer. `None` on overflow.
pub(crate) fn kv_bytes(shape: KvShape) -> Option<(usize, usize)> {
    let positions = shape.positions.checked_next_multiple_of(TILE)?;
    let heads = shape.sequences.checked_mul(shape.heads)?;
    let bytes = positions.checked_mul(heads)?.checked_mul(shape.head_dim * Element::of(shape.ty).bytes())?;
    Some((bytes, bytes))
}

shared_structs! {
    /// `KvCache` of kernels/cache.cuh.
    pub(super) struct KvCacheArgs {
        keys: Ptr,
        values: Ptr,
        heads: u32,
        head_dim: u32,
        tiles: u32,
        scale: f32,
    }
}

impl KvPtrs {
    pub(super) fn args(&self) -> KvCacheArgs {
        let KvShape { heads, head_dim, .. } = self.shape;
        KvCacheArgs {
            keys: self.keys,
            values: self.values,
            heads: heads as u32,
            head_dim: head_dim as u32,
            tiles: tiles(self.shape) as u32,
            scale: 1.0 / (head_dim as f32).sqrt(),
        }
    }
}

/// Tiles of keys of a sequence.
pub(super) fn tiles(shape: KvShape) -> usize {
    shape.positions.div_ceil(TILE)
}

/// Positions of a sequence that memory is laid out for.
pub(super) fn padded_positions(shape: KvShape) -> usize {
    tiles(shape) * TILE
}

shared_structs! {
    /// Cosines and sines by which queries and keys turn: `Rope` of kernels/cache.cuh.
    pub(crate) struct Rope {
        /// f32 pairs of cosine and sine, `[positions][pairs]`.
        pub(crate) turns: Ptr,
        /// Dimensions that turn, by two: at most half of a head.
        pub(crate) pairs: u64,
    }
}

shared_structs! {
    struct AppendArgs {
        qkv: Ptr,
        rope: Rope,
        rows: Rows,
        cache: KvCacheArgs,
        n: u64,
    }

    struct CopyArgs {
        cache: KvCacheArgs,
        from: u32,
        to: u32,
        positions: u64,
    }
}

pub(super) const SHARED: [Shared; 2] = [
    Shared {
        file: "cache.cuh",
        structs: &[KvCacheArgs::LAYOUT, Rows::LAYOUT, Rope::LAYOUT],
        constants: &[("TILE", TILE)],
    },
    Shared {
        file: "append.cu",
        structs: &[AppendArgs::LAYOUT, CopyArgs::LAYOUT],
        constants: &[("APPEND_THREADS", THREADS)],
    },
];

/// Rotates the queries in `qkv`, f32 `[n, 3 * heads * head_dim]`, by their positions, and appends its values and its
/// keys, rotated, to the cache.
///
/// # Safety
/// `qkv` must be good for reading and writing, `rows` for reading `n` rows; their sequences must be in the cache, their
/// positions in the cache and in `rope`, and no two rows the same position of the same sequence.
pub(crate) unsafe fn append(device: &Device, rows: Rows, n: usize, qkv: Ptr, rope: Rope, cache: KvPtrs) {
    debug_assert!(2 * rope.pairs <= cache.shape.head_dim as u64, "pairs of a head");
    let name = match Element::of(cache.shape.ty) {
        Element::F16 => "append_f16",
        Element::F32 => "append_f32",
    };
    let kernel = Kernel { source: Source::Append, format: None, name };
    let blocks = (n * cache.shape.heads).div_ceil(THREADS / 32);
    let args = AppendArgs { qkv, rope, rows, cache: cache.args(), n: n as u64 };
    // SAFETY: each warp works on a head of a row and its places in the cache, which the caller vouches for.
    unsafe { device.launch(kernel, [blocks, 1, 1], THREADS, args) };
}

/// Makes the first `positions` of sequence `to` those of sequence `from`.
///
/// # Safety
/// The cache must be good for reading and writing, with these sequences and positions.
pub(crate) unsafe fn copy_prefix(device: &Device, cache: KvPtrs, from: usize, to: usize, positions: usize) {
    let KvShape { ty, heads, head_dim, .. } = cache.shape;
    let (name, piece) = match Element::of(ty) {
        Element::F16 => ("copy_f16", 8),
        Element::F32 => ("copy_f32", 4),
    };
    let kernel = Kernel { source: Source::Append, format: None, name };
    let pieces = positions.next_multiple_of(TILE) * head_dim / piece;
    let args = CopyArgs { cache: cache.args(), from: from as u32, to: to as u32, positions: positions as u64 };
    // SAFETY: a thread copies a piece of the keys and one of the values, which the caller vouches for.
    unsafe { device.launch(kernel, [pieces.div_ceil(THREADS), heads, 1], THREADS, args) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_that_cannot_be_counted_are_seen() {
        let shape = KvShape { ty: KvType::F16, sequences: 3, heads: 5, head_dim: 80, positions: 33 };
        assert_eq!(kv_bytes(shape), Some((3 * 5 * 64 * 160, 3 * 5 * 64 * 160)));
        assert_eq!(kv_bytes(KvShape { sequences: usize::MAX, ..shape }), None);
        assert_eq!(kv_bytes(KvShape { positions: usize::MAX, ..shape }), None);
        assert!([0, 12, 264].iter().all(|&head_dim| !knows_heads_of(head_dim)));
        assert!([8, 64, 80, 128, 256].iter().all(|&head_dim| knows_heads_of(head_dim)));
    }
}
