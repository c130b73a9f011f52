//! Activations on the device, with the int8 blocks that products read.

use crate::Error;
use crate::device::{Device, Memory, Ptr};
use crate::ops::quantize::Quantized;
use std::sync::atomic::{AtomicBool, Ordering};

/// Elements of an activation block.
const BLOCK: usize = 32;

/// Rows of f32, `[rows, cols]`, and room for the same rows quantized.
pub struct Buffer {
    cols: usize,
    floats: Memory,
    codes: Memory,
    scales: Memory,
    sums: Memory,
    /// Whether the quantized rows are those of the floats. Who reads a buffer first quantizes it for those after.
    is_quantized: AtomicBool,
}

impl Buffer {
    pub(super) fn new(device: &Device, rows: usize, cols: usize) -> Result<Self, Error> {
        let elements = rows * cols;
        let blocks = elements.div_ceil(BLOCK);
        Ok(Self {
            cols,
            floats: device.alloc(elements * size_of::<f32>())?,
            codes: device.alloc(elements)?,
            scales: device.alloc(blocks * size_of::<f32>())?,
            sums: device.alloc(2 * blocks * size_of::<i32>())?,
            is_quantized: AtomicBool::new(false),
        })
    }

    pub(super) fn cols(&self) -> usize {
        self.cols
    }

    /// Where the floats of a row begin.
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

    /// Whether the caller has to quantize the rows before reading them so. It is asked once.
    pub(super) fn needs_quantizing(&self) -> bool {
        !self.is_quantized.swap(true, Ordering::Relaxed)
    }

    /// Notes that the floats are others now; where the same rows go, quantized, if they are `quantized` as they are
    /// written.
    pub(super) fn rewritten(&mut self, quantized: bool) -> Option<Quantized> {
        *self.is_quantized.get_mut() = quantized;
        quantized.then(|| self.quantized(0))
    }
}
