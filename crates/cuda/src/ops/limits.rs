//! What a device can do at most, measured: the yardstick that `bench` holds results against.

use crate::compile::{Kernel, Source};
use crate::device::{Args, Device, Ptr};
use crate::error::Error;

#[cfg(test)]
mod tests;

/// What a device can do at most, the best of several passes each.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes per second that a copy within the device's memory reads and writes together.
    pub copy_bandwidth: f64,
    /// Bytes per second that are read where nothing is written.
    pub read_bandwidth: f64,
    /// Integer operations (a multiply and an add count as two) per second of the tensor cores, by the instruction that
    /// the products use.
    pub int8_rate: f64,
    /// Float operations (a fused multiply-add counts as two) per second.
    pub f32_rate: f64,
}

/// Larger than any second-level cache.
const BUFFER_BYTES: usize = 512 << 20;

/// Rounds of the arithmetic kernels: milliseconds on a large device, beside which a launch does not count.
const ROUNDS: usize = 1 << 14;

/// Passes of each measurement: the best one counts.
const PASSES: usize = 5;

const THREADS: usize = 256;
/// 16 bytes that a thread moves, times this: `AT_ONCE` of kernels/limits.cu.
const AT_ONCE: usize = 4;
/// Chains of a thread or warp: `CHAINS` of both arithmetic kernels.
const CHAINS: usize = 8;
/// Blocks for each multiprocessor: as many threads as hide how long an instruction takes.
const BLOCKS: usize = 4;

#[derive(Clone, Copy)]
#[repr(C)]
struct LimitsArgs {
    from: Ptr,
    to: Ptr,
    sink: Ptr,
    words: u64,
    rounds: u32,
    one: u32,
}

// SAFETY: the layout of `LimitsArgs` in kernels/limits.cu: fields of 8 bytes, then a pair of 4.
unsafe impl Args for LimitsArgs {}

impl Limits {
    /// Measures a device that has nothing else to do, in about a tenth of a second.
    ///
    /// # Errors
    /// If the device fails, or has no room for the buffers.
    pub fn measure(device: &Device) -> Result<Self, Error> {
        let bytes = BUFFER_BYTES.min(device.memory()?.0 / 4) / 16 * 16;
        let (from, to) = (device.alloc(bytes)?, device.alloc(bytes)?);
        let sink = device.alloc(BLOCKS * device.multiprocessors() * THREADS * 4)?;
        let (from, to, sink) = (from.ptr(), to.ptr(), sink.ptr());
        // SAFETY: buffers of this size, and a sink with a word per thread.
        unsafe {
            Ok(Self {
                copy_bandwidth: best_rate(device, || copy(device, from, to, bytes))?,
                read_bandwidth: best_rate(device, || read(device, from, bytes, sink))?,
                int8_rate: best_rate(device, || int8_products(device, ROUNDS, sink))?,
                f32_rate: best_rate(device, || fused_multiply_adds(device, ROUNDS, sink))?,
            })
        }
    }
}

/// Work per second of what launches once and returns its work: the best pass after one that compiles and warms up.
fn best_rate(device: &Device, launch: impl Fn() -> usize) -> Result<f64, Error> {
    device.time(|| _ = launch())?;
    let mut best = 0.0f64;
    for _ in 0..PASSES {
        // Several in a row: the first one's launch is then the only one that is waited for.
        let mut work = 0;
        let time = device.time(|| work = (0..4).map(|_| launch()).sum())?;
        best = best.max(work as f64 / time.as_secs_f64());
    }
    Ok(best)
}

/// Copies `bytes`, a multiple of 16; returns the bytes that are read and written.
///
/// # Safety
/// `from` must be good for reading and `to` for writing them, both at multiples of 16.
unsafe fn copy(device: &Device, from: Ptr, to: Ptr, bytes: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { move_bytes(device, "limits_copy", from, to, bytes, Ptr(0)) };
    2 * bytes
}

/// Reads `bytes`, a multiple of 16; returns them.
///
/// # Safety
/// `from` must be good for reading them, at a multiple of 16, and `sink` for writing a word.
unsafe fn read(device: &Device, from: Ptr, bytes: usize, sink: Ptr) -> usize {
    // SAFETY: the caller's promise.
    unsafe { move_bytes(device, "limits_read", from, Ptr(0), bytes, sink) };
    bytes
}

unsafe fn move_bytes(device: &Device, name: &'static str, from: Ptr, to: Ptr, bytes: usize, sink: Ptr) {
    let words = bytes / 16;
    let args = LimitsArgs { from, to, sink, words: words as u64, rounds: 0, one: 1 };
    // SAFETY: the kernels stay within these words.
    unsafe { device.launch(kernel(name), [words.div_ceil(THREADS * AT_ONCE), 1, 1], THREADS, args) };
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
    // SAFETY: the kernels write a word per thread, for which the caller's sink has room.
    unsafe { device.launch(kernel(name), [blocks, 1, 1], THREADS, args) };
    blocks * THREADS
}

fn kernel(name: &'static str) -> Kernel {
    Kernel { source: Source::Limits, format: None, name }
}
