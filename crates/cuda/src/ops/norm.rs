//! LayerNorm.

use super::quantize::Quantized;
use crate::compile::{Kernel, Source};
use crate::device::{Args, Device, Ptr};
use crate::layout::{Shared, shared_structs};

const LAYER_NORM: Kernel = Kernel { source: Source::Norm, format: None, name: "layer_norm" };
const THREADS: usize = 256;

shared_structs! {
    /// What becomes of the normalised rows: a norm's parameters and where its results go.
    pub(crate) struct NormTarget {
        /// Scale, f32 `[cols]`.
        pub(crate) gamma: Ptr,
        /// Shift, f32 `[cols]`.
        pub(crate) beta: Ptr,
        /// Results, f32 `[n, cols]`.
        pub(crate) out: Ptr,
        /// The same rows quantized; addresses of 0 for none.
        quantized: Quantized,
    }
}

impl NormTarget {
    /// Results into `out`, and into `quantized` if given.
    pub(crate) fn new(gamma: Ptr, beta: Ptr, out: Ptr, quantized: Option<Quantized>) -> Self {
        Self { gamma, beta, out, quantized: quantized.unwrap_or(Quantized::NONE) }
    }
}

shared_structs! {
    struct NormArgs {
        x: Ptr,
        targets: [NormTarget; 2],
        count: u32,
        cols: u32,
        inverse_count: f32,
        eps: f32,
    }
}

pub(super) const SHARED: Shared = Shared {
    file: "norm.cu",
    structs: &[NormTarget::LAYOUT, NormArgs::LAYOUT],
    constants: &[("NORM_THREADS", THREADS)],
};

/// LayerNorm of `x`, f32 `[n, cols]`, `cols` a multiple of 16, or of 32 if results are quantized too.
///
/// # Safety
/// `x` must be good for reading, the results for writing `n` rows, gamma and beta for reading `cols` floats.
pub(crate) unsafe fn layer_norm(device: &Device, x: Ptr, target: NormTarget, eps: f32, n: usize, cols: usize) {
    // SAFETY: the caller's promise; only the first target is written.
    unsafe { launch(device, x, [target; 2], 1, eps, n, cols) };
}

/// Two norms of the same rows, for the parallel layers of GPT-NeoX. Mean and variance are computed once.
///
/// # Safety
/// As for [`layer_norm`], with results that do not overlap.
pub(crate) unsafe fn layer_norm_pair(
    device: &Device,
    x: Ptr,
    targets: [NormTarget; 2],
    eps: f32,
    n: usize,
    cols: usize,
) {
    // SAFETY: the caller's promise.
    unsafe { launch(device, x, targets, 2, eps, n, cols) };
}

/// # Safety
/// As for [`layer_norm`], for the first `count` targets.
unsafe fn launch(device: &Device, x: Ptr, targets: [NormTarget; 2], count: u32, eps: f32, n: usize, cols: usize) {
    debug_assert!(cols.is_multiple_of(16), "whole lanes");
    debug_assert!(targets.iter().all(|t| t.quantized.codes == Ptr(0)) || cols.is_multiple_of(32), "whole blocks");
    let inverse_count = 1.0 / cols as f32;
    let args = NormArgs { x, targets, count, cols: cols as u32, inverse_count, eps };
    // Four columns to a thread: as many blocks to a row as that takes, if that does not make more than a device runs.
    let parts = (cols / 4).div_ceil(THREADS);
    let parts = if n * parts <= 2 * device.multiprocessors() { parts } else { 1 };
    // SAFETY: the blocks of a row read that row and the parameters, and write a part of it each.
    unsafe { device.launch(LAYER_NORM, [n, parts, 1], THREADS, args) };
}

#[cfg(test)]
mod tests;
