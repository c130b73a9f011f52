//! Operations on logits: parts of what a row predicts, the largest logits.

use crate::compile::{Kernel, Source};
use crate::device::{Args, Device, Ptr};
use crate::layout::{Shared, shared_structs};
use pythia_kernels::LogSumPart;

const PARTS: Kernel = Kernel { source: Source::Head, format: None, name: "parts" };
const ARGMAX: Kernel = Kernel { source: Source::Head, format: None, name: "argmax" };
const TOP_OF_CHUNKS: Kernel = Kernel { source: Source::Head, format: None, name: "top_of_chunks" };
const TOP_K: Kernel = Kernel { source: Source::Head, format: None, name: "top_k" };

const PART_THREADS: usize = 128;
/// Threads that share a row.
const ROW_THREADS: usize = 1024;

/// Threads of a block of [`top_k`], which sorts as many logits.
const SORTED: usize = 1024;

/// Maximum `k` of [`top_k`].
pub(crate) const MOST_K: usize = SORTED - 1;

shared_structs! {
    struct PartsArgs {
        logits: Ptr,
        targets: Ptr,
        parts: Ptr,
        target_logits: Ptr,
        vocab: u32,
        chunks: u32,
    }
}

shared_structs! {
    struct ArgmaxArgs {
        logits: Ptr,
        out: Ptr,
        vocab: u32,
        valid: u32,
    }
}

shared_structs! {
    struct TopKArgs {
        logits: Ptr,
        kept: Ptr,
        ids: Ptr,
        values: Ptr,
        candidates: Ptr,
        vocab: u32,
        valid: u32,
        k: u32,
        chunks: u32,
    }
}

pub(super) const SHARED: Shared = Shared {
    file: "head.cu",
    structs: &[PartsArgs::LAYOUT, ArgmaxArgs::LAYOUT, TopKArgs::LAYOUT],
    constants: &[
        ("CHUNK", LogSumPart::LOGITS),
        ("PART_THREADS", PART_THREADS),
        ("ROW_THREADS", ROW_THREADS),
        ("SORTED", SORTED),
        ("sizeof(Part)", size_of::<LogSumPart>()),
    ],
};

/// Writes the parts of the predictions of `n` rows of logits, f32 `[n, vocab]`, to `parts`: [`LogSumPart`]s,
/// `[n, ceil(vocab / 1024)]`. Writes the logit of each row's target, u32 `[n]`, to `target_logits`, f32 `[n]`.
///
/// # Safety
/// The addresses must be good for as much, and the targets be below `vocab`.
pub(crate) unsafe fn parts(
    device: &Device,
    logits: Ptr,
    n: usize,
    vocab: usize,
    targets: Ptr,
    parts: Ptr,
    target_logits: Ptr,
) {
    let chunks = vocab.div_ceil(LogSumPart::LOGITS);
    let args = PartsArgs { logits, targets, parts, target_logits, vocab: vocab as u32, chunks: chunks as u32 };
    // SAFETY: the caller's promise: a block reads a chunk of a row and writes its part.
    unsafe { device.launch(PARTS, [n * chunks, 1, 1], PART_THREADS, args) };
}

/// Parts as they lie in the memory of a device.
pub(crate) fn parts_of(bytes: &[u8]) -> Vec<LogSumPart> {
    let float = |word: &[u8; 4]| f32::from_le_bytes(*word);
    let part = |[max, sum, first]: &[[u8; 4]; 3]| LogSumPart {
        max: float(max),
        sum: float(sum),
        first: u32::from_le_bytes(*first),
    };
    bytes.as_chunks::<4>().0.as_chunks::<3>().0.iter().map(part).collect()
}

/// The id for "none".
pub(crate) const NONE: u32 = u32::MAX;

/// Writes the first of the largest among the first `valid` logits of `n` rows, f32 `[n, vocab]`, to `out`, pairs of id
/// and bits `[n]`: [`NONE`] if none is above minus infinity. NaN is skipped.
///
/// # Safety
/// The addresses must be good for as much, and `valid` be at most `vocab`.
pub(crate) unsafe fn argmax(device: &Device, logits: Ptr, n: usize, vocab: usize, valid: usize, out: Ptr) {
    debug_assert!(valid <= vocab, "ids of the row");
    let args = ArgmaxArgs { logits, out, vocab: vocab as u32, valid: valid as u32 };
    // SAFETY: the caller's promise: a block reads a row and writes its number.
    unsafe { device.launch(ARGMAX, [n, 1, 1], ROW_THREADS, args) };
}

/// The outputs of [`top_k`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct TopK {
    /// Scratch of [`scratch_bytes`].
    pub(crate) scratch: Ptr,
    /// Ids, largest logit first, lower id first of equal ones: u32 `[n, k]`. If there are fewer candidates, the rest is
    /// [`NONE`].
    pub(crate) ids: Ptr,
    /// Their logits, f32 `[n, k]`.
    pub(crate) values: Ptr,
    /// Number of logits at least as large as the k-th, u32 `[n]`: any number above `k` if some that tie with the k-th
    /// were left out; fewer than `k` if there are fewer candidates.
    pub(crate) candidates: Ptr,
}

/// Bytes of scratch that [`top_k`] needs for `n` rows.
pub(crate) fn scratch_bytes(n: usize, valid: usize, k: usize) -> usize {
    n * valid.div_ceil(SORTED) * (k + 1) * 2 * size_of::<u32>()
}

/// The `k` largest, 1 to [`MOST_K`], of the first `valid` logits of `n` rows, f32 `[n, vocab]`. NaN and minus infinity
/// are not among them. As in sampling, infinity ties with the largest finite value, and 0 with -0.
///
/// # Safety
/// The addresses must be good for as much, and `valid` be at most `vocab`.
pub(crate) unsafe fn top_k(device: &Device, logits: Ptr, n: usize, vocab: usize, valid: usize, k: usize, top: TopK) {
    debug_assert!(valid <= vocab && (1..=MOST_K).contains(&k), "ids of the row");
    let chunks = valid.div_ceil(SORTED);
    let TopK { scratch: kept, ids, values, candidates } = top;
    let [vocab, valid, k, n_chunks] = [vocab, valid, k, chunks].map(|count| count as u32);
    let args = TopKArgs { logits, kept, ids, values, candidates, vocab, valid, k, chunks: n_chunks };
    // SAFETY: the caller's promise: a block reads a part of a row, then one what the others kept, and writes its
    // results.
    unsafe {
        device.launch(TOP_OF_CHUNKS, [chunks, n, 1], SORTED, args);
        device.launch(TOP_K, [n, 1, 1], SORTED, args);
    }
}

#[cfg(test)]
mod tests;
