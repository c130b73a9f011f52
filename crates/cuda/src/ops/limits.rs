//! Measures the limits of a device, for `bench`.

use crate::compile::{Kernel, Source};
use crate::device::{Args, Device, Ptr};
use crate::error::Error;
use crate::layout::{Shared, shared_structs};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Limits of a device, each the best of several passes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes per second that a copy within the device's memory reads and writes together.
    pub copy_bandwidth: f64,
    /// Integer operations (a multiply and an add count as two) per second, by the instruction that prompts use: of the
    /// tensor cores, where there are any.
    pub int8_rate: f64,
    /// Float operations (a fused multiply-add counts as two) per second.
    pub f32_rate: f64,
}

/// Bytes of a copy, at least and at most: the most is larger than any second-level cache.
const BUFFER_BYTES: (usize, usize) = (1 << 20, 512 << 20);

/// Rounds of the arithmetic kernels, at least and at most.
const ROUNDS: (usize, usize) = (1 << 4, 1 << 16);

/// Work is doubled until a pass takes this long, so that the cost of a launch does not matter.
const ENOUGH: Duration = Duration::from_millis(2);

/// Passes of each measurement: the best one counts.
const PASSES: usize = 5;

const THREADS: usize = 256;
/// 16 bytes that a thread moves, times this: `AT_ONCE` of kernels/limits.cu.
const AT_ONCE: usize = 4;
/// Chains of a thread or warp: `CHAINS` of both arithmetic kernels.
const CHAINS: usize = 8;
/// Blocks per multiprocessor, with enough threads to hide the latency of instructions.
const BLOCKS: usize = 4;

shared_structs! {
    struct LimitsArgs {
        from: Ptr,
        to: Ptr,
        sink: Ptr,
        words: u64,
        rounds: u32,
        one: u32,
    }
}

pub(super) const SHARED: Shared =
    Shared { file: "limits.cu", structs: &[LimitsArgs::LAYOUT], constants: &[("AT_ONCE", AT_ONCE)] };

impl Limits {
    /// Measures an otherwise idle device, in about a tenth of a second.
    ///
    /// # Errors
    /// If the device fails, or has no memory for the buffers.
    pub fn measure(device: &Device) -> Result<Self, Error> {
        let most = BUFFER_BYTES.1.min(device.memory()?.0 / 4) / 16 * 16;
        let (from, to) = (device.alloc(most)?, device.alloc(most)?);
        let sink = device.alloc(BLOCKS * device.multiprocessors() * THREADS * 4)?;
        let (from, to, sink) = (from.ptr(), to.ptr(), sink.ptr());
        // SAFETY: buffers of the largest size, and a sink with a word per thread.
        unsafe {
            Ok(Self {
                copy_bandwidth: best_rate(device, (BUFFER_BYTES.0, most), |bytes| copy(device, from, to, bytes))?,
                int8_rate: best_rate(device, ROUNDS, |rounds| int8_products(device, rounds, sink))?,
                f32_rate: best_rate(device, ROUNDS, |rounds| fused_multiply_adds(device, rounds, sink))?,
            })
        }
    }
}

/// Work per second of what launches once, of a size between these, and returns its work: the best pass after those that
/// compile, warm up and find the size.
fn best_rate(device: &Device, (least, most): (usize, usize), launch: impl Fn(usize) -> usize) -> Result<f64, Error> {
    let mut size = least.min(most);
    device.time(|| _ = launch(size))?;
    while size < most && device.time(|| _ = launch(size))? < ENOUGH {
        size = (2 * size).min(most);
    }
    let mut best = 0.0f64;
    for _ in 0..PASSES {
        let mut work = 0;
        let time = device.time(|| work = launch(size))?;
        best = best.max(work as f64 / time.as_secs_f64());
    }
    Ok(best)
}

/// Copies `bytes`, a multiple of 16; returns the bytes that are read and written.
///
/// # Safety
/// `from` must be good for reading and `to` for writing them, both at multiples of 16.
unsafe fn copy(device: &Device, from: Ptr, to: Ptr, bytes: usize) -> usize {
    let words = bytes / 16;
    let args = LimitsArgs { from, to, sink: Ptr(0), words: words as u64, rounds: 0, one: 1 };
    // SAFETY: the kernel stays within these words.
    unsafe { device.launch(kernel("limits_copy"), [words.div_ceil(THREADS * AT_ONCE), 1, 1], THREADS, args) };
    2 * bytes
}

/// Multiplies int8 matrices in registers; returns the operations.
///
/// # Safety
/// `sink` must be good for writing a word per thread of [`BLOCKS`] blocks of [`THREADS`] to a multiprocessor.
unsafe fn int8_products(device: &Device, rounds: usize, sink: Ptr) -> usize {
    // SAFETY: the caller's promise.
    let threads = unsafe { compute(device, "limits_int8", rounds, sink) };
    2 * 16 * 8 * 32 * CHAINS * rounds * (threads / 32)
}

/// Multiplies and adds floats in registers; returns the operations.
///
/// # Safety
/// As [`int8_products`].
unsafe fn fused_multiply_adds(device: &Device, rounds: usize, sink: Ptr) -> usize {
    // SAFETY: the caller's promise.
    let threads = unsafe { compute(device, "limits_fma", rounds, sink) };
    2 * CHAINS * rounds * threads
}

/// Returns the threads that take part.
unsafe fn compute(device: &Device, name: &'static str, rounds: usize, sink: Ptr) -> usize {
    let blocks = BLOCKS * device.multiprocessors();
    let rounds = u32::try_from(rounds).expect("a number of rounds");
    let args = LimitsArgs { from: Ptr(0), to: Ptr(0), sink, words: 0, rounds, one: 1 };
    // SAFETY: the kernels write a word per thread, which the caller's sink holds.
    unsafe { device.launch(kernel(name), [blocks, 1, 1], THREADS, args) };
    blocks * THREADS
}

fn kernel(name: &'static str) -> Kernel {
    Kernel { source: Source::Limits, format: None, name }
}
