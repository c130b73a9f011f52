//! What this machine can do at most, measured: the yardstick that `bench` holds results against.

use crate::cpu::Cpu;
use crate::isa::{Isa, Kernel};
use crate::matmul::LANES;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Larger than any last-level cache share this is likely to meet.
const BUFFER_BYTES: usize = 512 << 20;

/// Bytes per second that `threads` together read from memory, the best of several passes.
pub fn read_bandwidth(threads: usize) -> f64 {
    let threads = threads.max(1);
    // Written with something, so that every page is really there.
    let buffer: Vec<u64> = (0..BUFFER_BYTES as u64 / 8).collect();
    let part = buffer.len().div_ceil(threads);
    let pass = || {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for chunk in buffer.chunks(part) {
                scope.spawn(move || black_box(chunk.iter().fold(0u64, |s, &x| s.wrapping_add(x))));
            }
        });
        BUFFER_BYTES as f64 / start.elapsed().as_secs_f64()
    };
    (0..5).map(|_| pass()).fold(0.0, f64::max)
}

/// Integer operations (a multiply and an add count as two) per second of the dot instruction that the products use,
/// with operands in registers, on all threads of `cpu`: the best of several passes.
pub fn int8_rate(cpu: &Cpu) -> f64 {
    const ROUNDS: usize = 2_000_000;
    let pass = || {
        let start = Instant::now();
        cpu.team().run(cpu.threads(), &|_| {
            black_box(cpu.level().dispatch(DotRounds(ROUNDS)));
        });
        (2 * 64 * ACCUMULATORS * ROUNDS * cpu.threads()) as f64 / start.elapsed().as_secs_f64()
    };
    (0..5).map(|_| pass()).fold(0.0, f64::max)
}

/// Float operations (a fused multiply-add counts as two) per second with operands in registers, on all threads of `cpu`:
/// the best of several passes.
pub fn f32_rate(cpu: &Cpu) -> f64 {
    const ROUNDS: usize = 2_000_000;
    let pass = || {
        let start = Instant::now();
        let vectors = AtomicUsize::new(0);
        cpu.team().run(cpu.threads(), &|_| {
            vectors.fetch_add(cpu.level().dispatch(FmaRounds(ROUNDS)), Ordering::Relaxed);
        });
        (2 * LANES * vectors.into_inner()) as f64 / start.elapsed().as_secs_f64()
    };
    (0..5).map(|_| pass()).fold(0.0, f64::max)
}

struct FmaRounds(usize);

impl Kernel for FmaRounds {
    /// How many vectors were multiplied and added.
    type Output = usize;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> usize {
        // As many chains as the products have accumulators: that is what the ISA's registers are known to hold.
        match I::FLOAT_TILE.0 * I::FLOAT_TILE.1 {
            24 => chains::<I, 24>(isa, self.0),
            6 => chains::<I, 6>(isa, self.0),
            _ => chains::<I, 4>(isa, self.0),
        }
    }
}

#[inline(always)]
fn chains<I: Isa, const N: usize>(isa: I, rounds: usize) -> usize {
    // Every chain starts elsewhere, so that none can be taken for another.
    let starts = black_box([[1.0f32; LANES]; N]);
    let factor = isa.splat(black_box(0.5));
    let mut acc = [factor; N];
    for (acc, start) in acc.iter_mut().zip(&starts) {
        // SAFETY: 16 floats.
        *acc = unsafe { isa.load(start.as_ptr()) };
    }
    for _ in 0..rounds {
        for acc in &mut acc {
            *acc = isa.fma(factor, factor, *acc);
        }
    }
    let mut total = factor;
    for acc in acc {
        total = isa.add(total, acc);
    }
    black_box(isa.sum(total));
    N * rounds
}

/// Enough chains to hide the latency of the instruction, few enough for 16 registers.
const ACCUMULATORS: usize = 6;

struct DotRounds(usize);

impl Kernel for DotRounds {
    type Output = f32;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> f32 {
        // Every product differs from the others, so that none can be computed once and reused.
        let bytes = black_box([[1u8; 64]; ACCUMULATORS]);
        let mut acc = [isa.splat_int(0); ACCUMULATORS];
        for round in 0..self.0 {
            let a = (round & 0x3F3F) as i32;
            for (acc, bytes) in acc.iter_mut().zip(&bytes) {
                // SAFETY: 64 bytes.
                let w = unsafe { isa.load_int(bytes.as_ptr().cast()) };
                *acc = isa.dot4_u7(*acc, w, a);
            }
        }
        let total = acc.into_iter().fold(isa.splat_int(0), |t, a| isa.add_int(t, a));
        isa.sum(isa.to_float(total))
    }
}
