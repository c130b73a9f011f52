//! The operands of products of quantized weights.

use super::quantize::Quantized;
use super::{Output, OutputArgs};
use crate::device::{Args, Ptr};
use crate::layout::{Shared, shared_structs};
use pythia_tensor::TensorType;

/// Weights on the device, with the layout of the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weights {
    pub(crate) ty: TensorType,
    /// Outputs.
    pub(crate) rows: usize,
    /// Inputs: whole blocks, and a multiple of 32.
    pub(crate) cols: usize,
    /// A multiple of 256; 64 bytes past the end may be read.
    pub(crate) at: Ptr,
}

shared_structs! {
    /// `ProductArgs` of kernels/product.cuh.
    pub(super) struct ProductArgs {
        weights: Ptr,
        x: Quantized,
        output: OutputArgs,
        row_bytes: u64,
        units: u32,
        n: u32,
    }
}

pub(super) const SHARED: Shared = Shared { file: "product.cuh", structs: &[ProductArgs::LAYOUT], constants: &[] };

impl ProductArgs {
    /// # Panics
    /// If a row is not whole units, or 32 bits do not count the units of x or the bytes of a row.
    pub(super) fn new(weights: Weights, x: Quantized, n: usize, output: Output) -> Self {
        let Weights { ty, rows, cols, at } = weights;
        let row_bytes = ty.row_bytes(cols).expect("whole blocks in a row");
        let units = cols / 32;
        assert!(cols.is_multiple_of(32) && u32::try_from(n * units).is_ok(), "units of x that 32 bits count");
        assert!(u32::try_from(row_bytes).is_ok(), "a row that 32 bits can address");
        let output = output.of_rows(rows);
        Self { weights: at, x, output, row_bytes: row_bytes as u64, units: units as u32, n: n as u32 }
    }
}
