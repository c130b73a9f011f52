//! Activations on the device, with the int8 blocks that products read.

use crate::Error;
use crate::device::{Device, Memory, Ptr};
use crate::ops::quantize::Quantized;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Elements of an activation block.
const BLOCK: usize = 32;

/// Rows of f32, `[rows, cols]`, and memory for the same rows quantized.
pub(crate) struct Buffer {
    cols: usize,
    floats: Memory,
    codes: Memory,
    scales: Memory,
    sums: Memory,
    /// Rows whose quantized copy is current. The first product to read a row quantizes it; later ones reuse the copy.
    quantized_rows: AtomicUsize,
}

impl Buffer {
    /// Bytes of such a buffer: floats, codes, and a scale and two sums per block.
    pub(super) fn bytes(rows: usize, cols: usize) -> u128 {
        let elements = rows as u128 * cols as u128;
        elements * 5 + elements.div_ceil(BLOCK as u128) * 12
    }

    pub(super) fn new(device: &Device, rows: usize, cols: usize) -> Result<Self, Error> {
        let elements = rows * cols;
        let blocks = elements.div_ceil(BLOCK);
        Ok(Self {
            cols,
            floats: device.alloc(elements * size_of::<f32>())?,
            codes: device.alloc(elements)?,
            scales: device.alloc(blocks * size_of::<f32>())?,
            sums: device.alloc(2 * blocks * size_of::<i32>())?,
            quantized_rows: AtomicUsize::new(0),
        })
    }

    pub(super) fn cols(&self) -> usize {
        self.cols
    }

    /// Start of the floats of a row.
    pub(super) fn row(&self, row: usize) -> Ptr {
        self.floats.ptr().add(row * self.cols * size_of::<f32>())
    }

    /// The quantized rows from `row` on.
    pub(super) fn quantized(&self, row: usize) -> Quantized {
        let blocks = row * self.cols / BLOCK;
        Quantized {
            codes: self.codes.ptr().add(row * self.cols),
            scales: self.scales.ptr().add(blocks * size_of::<f32>()),
            sums: self.sums.ptr().add(2 * blocks * size_of::<i32>()),
        }
    }

    /// The rows among the first `rows` that the caller must quantize before it reads their quantized copy. They are
    /// then marked as current.
    pub(super) fn to_quantize(&self, rows: usize) -> Range<usize> {
        self.quantized_rows.fetch_max(rows, Ordering::Relaxed)..rows
    }

    /// Marks the floats as changed.
    pub(super) fn rewritten(&mut self) {
        *self.quantized_rows.get_mut() = 0;
    }

    /// The same, for `rows` rows that are quantized while they are written. Returns their destination.
    pub(super) fn rewritten_quantized(&mut self, rows: usize) -> Quantized {
        *self.quantized_rows.get_mut() = rows;
        self.quantized(0)
    }
}
