//! Activations as int8 blocks of 32.

use crate::compile::{Kernel, Source};
use crate::device::{Args, Device, Ptr};
use crate::layout::{Shared, shared_structs};

shared_structs! {
    /// Rows of activations, quantized: what products with quantized weights read.
    pub(crate) struct Quantized {
        /// Codes, -127..=127, i8: `[rows, cols]`.
        pub(crate) codes: Ptr,
        /// Scales, `amax / 127`, f32: `[rows, cols / 32]`.
        pub(crate) scales: Ptr,
        /// Sums of the codes of each 16 elements, i32: `[rows, cols / 16]`.
        pub(crate) sums: Ptr,
    }
}

impl Quantized {
    /// Nowhere, for kernels that quantize in passing if they are asked to.
    pub(crate) const NONE: Self = Self { codes: Ptr(0), scales: Ptr(0), sums: Ptr(0) };
}

pub(crate) const QUANTIZE: Kernel = Kernel { source: Source::Quantize, format: None, name: "quantize" };
const THREADS: usize = 256;

shared_structs! {
    struct QuantizeArgs {
        x: Ptr,
        out: Quantized,
        fours: u64,
    }
}

pub(super) const SHARED: [Shared; 2] = [
    Shared { file: "quantize.cuh", structs: &[Quantized::LAYOUT], constants: &[] },
    Shared { file: "quantize.cu", structs: &[QuantizeArgs::LAYOUT], constants: &[("QUANTIZE_THREADS", THREADS)] },
];

/// Quantizes `x`, f32 `[n, cols]`, `cols` a multiple of 32.
///
/// # Safety
/// `x` must be good for reading `n * cols` floats, `out` for writing as many elements.
pub(crate) unsafe fn quantize(device: &Device, x: Ptr, n: usize, cols: usize, out: Quantized) {
    debug_assert!(cols.is_multiple_of(32), "whole blocks");
    let fours = n * (cols / 4);
    let args = QuantizeArgs { x, out, fours: fours as u64 };
    // SAFETY: the kernel reads and writes as many fours, which the caller vouches for.
    unsafe { device.launch(QUANTIZE, [fours.div_ceil(THREADS), 1, 1], THREADS, args) };
}

#[cfg(test)]
mod tests;
