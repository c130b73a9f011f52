//! That the kernels do the work whose amount they are timed by.

use super::*;
use crate::testing::{Random, device, download, upload};

/// Bytes of more than one block, and of no whole number of them.
const BYTES: usize = 16 * (2 * THREADS * AT_ONCE + 77);

fn words(seed: u64) -> Vec<u32> {
    let mut random = Random::new(seed);
    (0..BYTES / 4).map(|_| random.next() as u32).collect()
}

#[test]
fn a_copy_is_one() {
    let Some(device) = device() else { return };
    let words = words(1);
    let from = upload(device, &words);
    let to = upload(device, &vec![0u32; words.len() + 4]);
    // SAFETY: memory of this size.
    let work = unsafe { copy(device, from.ptr(), to.ptr(), BYTES) };
    assert_eq!(work, 2 * BYTES);
    assert_eq!(download::<u32>(device, &to, words.len() + 4), [&words[..], &[0; 4]].concat());
}

#[test]
fn arithmetic_is_done() {
    let Some(device) = device() else { return };
    const ROUNDS: usize = 5;
    let threads = BLOCKS * device.multiprocessors() * THREADS;
    let sink = device.alloc(4 * threads).unwrap();
    // SAFETY: a sink with a word per thread.
    let work = unsafe { int8_products(device, ROUNDS, sink.ptr()) };
    let sums = download::<u32>(device, &sink, threads);
    // Every product is 1, so the sums are half of the operations.
    assert_eq!(sums.iter().map(|&sum| sum as usize).sum::<usize>(), work / 2);
    assert!(sums.iter().all(|&sum| sum as usize == work / 2 / threads));

    // SAFETY: as above.
    let work = unsafe { fused_multiply_adds(device, ROUNDS, sink.ptr()) };
    let chain = |start: usize| (0..ROUNDS).fold(start as f32, |acc, _| acc.mul_add(0.5, 0.5));
    let wanted = (0..CHAINS).fold(0.0f32, |sum, start| sum + chain(start));
    assert_eq!(download::<f32>(device, &sink, threads), vec![wanted; threads]);
    assert_eq!(work, 2 * CHAINS * ROUNDS * threads);
}

#[test]
fn limits_are_measured() {
    let Some(device) = device() else { return };
    let Limits { copy_bandwidth, int8_rate, f32_rate } = Limits::measure(device).unwrap();
    assert!([copy_bandwidth, int8_rate, f32_rate].iter().all(|rate| rate.is_finite() && *rate > 0.0));
}
