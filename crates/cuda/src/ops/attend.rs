//! Causal attention over the cache.

use super::append::{Element, KvCacheArgs, KvPtrs, Rope, Rows, padded_positions};
use super::quantize::Quantized;
use crate::compile::{Kernel, Source};
use crate::device::{Args, Device, Ptr};
use crate::layout::{Shared, shared_structs};
use pythia_kernels::KvShape;

/// Rows of a tile, at most.
pub(crate) const TILE_QUERIES: usize = 32;

/// Keys of a block of `one_scores`.
const SCORE_THREADS: usize = 128;
const VALUE_THREADS: usize = 192;
/// Dimensions of a block of `one_values`.
const VALUE_DIMS: usize = 32;
const MANY_THREADS: usize = 128;

shared_structs! {
    /// Consecutive rows of a batch that are consecutive positions of a sequence.
    pub(crate) struct AttendTile {
        pub(crate) first_row: u32,
        /// 1 to [`TILE_QUERIES`].
        pub(crate) rows: u32,
        pub(crate) sequence: u32,
        /// Position of the first row.
        pub(crate) first_position: u32,
    }
}

shared_structs! {
    struct OneArgs {
        qkv: Ptr,
        rope: Rope,
        rows: Rows,
        cache: KvCacheArgs,
        scores: Ptr,
        out: Ptr,
        quantized: Quantized,
    }
}

shared_structs! {
    struct ManyArgs {
        tiles: Ptr,
        qkv: Ptr,
        out: Ptr,
        cache: KvCacheArgs,
        count: u64,
    }
}

pub(super) const SHARED: Shared = Shared {
    file: "attend.cu",
    structs: &[OneArgs::LAYOUT, AttendTile::LAYOUT, ManyArgs::LAYOUT],
    constants: &[
        ("SCORE_THREADS", SCORE_THREADS),
        ("VALUE_THREADS", VALUE_THREADS),
        ("DIMS", VALUE_DIMS),
        ("MANY_THREADS", MANY_THREADS),
        ("QUERIES", TILE_QUERIES),
    ],
};

/// Bytes of scratch that [`one`] takes for `n` rows.
pub(crate) fn scratch_bytes(n: usize, shape: KvShape) -> usize {
    n * shape.heads * padded_positions(shape) * size_of::<f32>()
}

fn kernel(name: &'static str) -> Kernel {
    Kernel { source: Source::Attend, format: None, name }
}

/// Where attention's results go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Results {
    /// f32 `[n, heads * head_dim]`.
    pub(crate) out: Ptr,
    /// The same rows quantized, if wanted: only if [`quantizes`] says so.
    pub(crate) quantized: Option<Quantized>,
}

/// Whether [`one`] can quantize its results: blocks of 32 must not reach into another head.
pub(crate) fn quantizes(shape: KvShape) -> bool {
    shape.head_dim.is_multiple_of(VALUE_DIMS)
}

/// Attention of `n` rows that are a sequence's newest position each: queries, keys and values in `qkv`, f32
/// `[n, 3 * heads * head_dim]`, not rotated yet, are rotated and appended to the cache first. What is launched depends
/// on
/// `n` and the cache's shape alone, not on positions.
///
/// # Safety
/// `rows`, `qkv`, `scratch` (of [`scratch_bytes`]) and the results must be good for `n` rows; the rows' sequences and
/// positions must be in the cache, the positions in `rope`, and no two rows of the same sequence.
#[allow(clippy::too_many_arguments)] // what attention takes
pub(crate) unsafe fn one(
    device: &Device,
    rows: Rows,
    n: usize,
    qkv: Ptr,
    rope: Rope,
    cache: KvPtrs,
    scratch: Ptr,
    results: Results,
) {
    debug_assert!(results.quantized.is_none() || quantizes(cache.shape), "blocks within heads");
    let KvShape { ty, heads, head_dim, .. } = cache.shape;
    let (scores, values) = match Element::of(ty) {
        Element::F16 => ("one_scores_f16", "one_values_f16"),
        Element::F32 => ("one_scores_f32", "one_values_f32"),
    };
    let quantized = results.quantized.unwrap_or(Quantized::NONE);
    let args = OneArgs { qkv, rope, rows, cache: cache.args(), scores: scratch, out: results.out, quantized };
    let blocks = padded_positions(cache.shape).div_ceil(SCORE_THREADS);
    // SAFETY: the caller's promise: each row reads its query and the keys and values up to its position, and writes its
    // place in the cache, its scores and its output.
    unsafe {
        device.launch(kernel(scores), [blocks, heads, n], SCORE_THREADS, args);
        device.launch(kernel(values), [head_dim.div_ceil(VALUE_DIMS), heads, n], VALUE_THREADS, args);
    }
}

/// Attention of rows in `n_tiles` tiles at `tiles`: rotated queries in `qkv`, f32 `[rows, 3 * heads * head_dim]`, to
/// `out`, f32 `[rows, heads * head_dim]`.
///
/// # Safety
/// `tiles` must be good for reading `n_tiles` of [`AttendTile`], `qkv` and `out` for their rows; the tiles' sequences and
/// positions must be in the cache.
pub(crate) unsafe fn many(device: &Device, tiles: Ptr, n_tiles: usize, qkv: Ptr, cache: KvPtrs, out: Ptr) {
    let KvShape { ty, heads, head_dim, .. } = cache.shape;
    let name = match (Element::of(ty), head_dim) {
        (Element::F16, ..=64) => "many_f16_64",
        (Element::F16, ..=128) => "many_f16_128",
        (Element::F16, _) => "many_f16_256",
        (Element::F32, ..=64) => "many_f32_64",
        (Element::F32, ..=128) => "many_f32_128",
        (Element::F32, _) => "many_f32_256",
    };
    let args = ManyArgs { tiles, qkv, out, cache: cache.args(), count: n_tiles as u64 };
    // SAFETY: the caller's promise: a block reads a tile's queries and its sequence's keys and values up to the last
    // row's position, and writes the tile's output.
    unsafe { device.launch(kernel(name), [n_tiles * heads, 1, 1], MANY_THREADS, args) };
}

#[cfg(test)]
mod tests;
