//! What this machine can do at most, measured: the yardstick that `bench` holds results against.

use crate::cpu::Cpu;
use crate::isa::{Isa, Kernel};
use crate::matmul::{LANES, for_size};
use pythia_tensor::LargePages;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Larger than any last-level cache share this is likely to meet.
pub const BUFFER_BYTES: usize = 512 << 20;

/// Passes of each measurement: the best one counts.
const PASSES: usize = 5;

/// Bytes per second that the threads of `cpu` together read from memory, the best of several passes over a buffer of
/// about `buffer_bytes`, at most [`BUFFER_BYTES`]. A smaller one may fit a cache, which is faster. The buffer is in large
/// pages where the system has them: with small ones the rate was a tenth to a quarter lower here.
pub fn read_bandwidth(cpu: &Cpu, buffer_bytes: usize) -> f64 {
    let part = (buffer_bytes.min(BUFFER_BYTES) / cpu.threads()).max(1).next_multiple_of(CHUNK);
    // A process may have less address space than there is memory.
    let halves = std::iter::successors(Some(part), |part| (*part > CHUNK).then(|| (part / 2).next_multiple_of(CHUNK)));
    let made = halves.map(|part| (part, LargePages::new(part * cpu.threads())));
    let (part, mut buffer) = made.filter_map(|(part, buffer)| Some((part, buffer.ok()?))).next().expect("some memory");
    // Written with something, so that every page is really there.
    buffer.fill(1);
    let seconds = best_seconds(|| {
        cpu.team().run(cpu.threads(), &|i| {
            black_box(cpu.dispatch(Sum(&buffer[i * part..(i + 1) * part])));
        });
    });
    buffer.len() as f64 / seconds
}

/// The fastest of several runs.
fn best_seconds(run: impl Fn()) -> f64 {
    let pass = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    (0..PASSES).map(pass).fold(f64::INFINITY, f64::min)
}

/// Bytes of four vectors.
const CHUNK: usize = 256;

/// Sum of words in four vectors at a time: as little work per byte as there can be.
struct Sum<'a>(&'a [u8]);

impl Kernel for Sum<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> f32 {
        let mut sums = [isa.splat_int(0); 4];
        for bytes in self.0.as_chunks::<CHUNK>().0 {
            for i in 0..4 {
                // SAFETY: 64 bytes of the 256.
                sums[i] = isa.add_int(sums[i], unsafe { isa.load_int(bytes.as_ptr().add(CHUNK / 4 * i).cast()) });
            }
        }
        let [a, b, c, d] = sums;
        isa.sum(isa.to_float(isa.add_int(isa.add_int(a, b), isa.add_int(c, d))))
    }
}

/// Integer operations (a multiply and an add count as two) per second of the products' innermost loop with 4-bit codes,
/// operands in the first cache, on all threads of `cpu`: the best of several passes.
pub fn int8_rate(cpu: &Cpu) -> f64 {
    (2 * 64) as f64 * vectors_per_second(cpu, DotRounds(100_000))
}

/// Float operations (a fused multiply-add counts as two) per second with operands in registers, on all threads of
/// `cpu`: the best of several passes.
pub fn f32_rate(cpu: &Cpu) -> f64 {
    (2 * LANES) as f64 * vectors_per_second(cpu, FmaRounds(2_000_000))
}

/// Of a kernel that returns how many vectors it worked on.
fn vectors_per_second(cpu: &Cpu, rounds: impl Kernel<Output = usize> + Copy + Sync) -> f64 {
    let vectors = AtomicUsize::new(0);
    let seconds = best_seconds(|| {
        vectors.store(0, Ordering::Relaxed);
        cpu.team().run(cpu.threads(), &|_| {
            vectors.fetch_add(cpu.dispatch(rounds), Ordering::Relaxed);
        });
    });
    vectors.into_inner() as f64 / seconds
}

#[derive(Clone, Copy)]
struct FmaRounds(usize);

impl Kernel for FmaRounds {
    /// How many vectors were multiplied and added.
    type Output = usize;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> usize {
        // As many chains as the products have accumulators: that is what the ISA's registers are known to hold.
        let tile = I::TUNING.float_tile;
        let mut vectors = 0;
        for_size!(tile.x, tile.x, N => {
            vectors = if tile.w == 4 { chains::<I, 4, N>(isa, self.0) } else { chains::<I, 2, N>(isa, self.0) };
        });
        vectors
    }
}

#[inline(always)]
fn chains<I: Isa, const R: usize, const N: usize>(isa: I, rounds: usize) -> usize {
    // Every chain starts elsewhere, so that none can be taken for another.
    let starts = black_box([[[1.0f32; LANES]; N]; R]);
    let factor = isa.splat(black_box(0.5));
    let mut acc = [[factor; N]; R];
    for (acc, start) in acc.as_flattened_mut().iter_mut().zip(starts.as_flattened()) {
        // SAFETY: 16 floats.
        *acc = unsafe { isa.load(start.as_ptr()) };
    }
    for _ in 0..rounds {
        for acc in acc.as_flattened_mut() {
            *acc = isa.fma(factor, factor, *acc);
        }
    }
    let mut total = factor;
    for acc in acc.as_flattened() {
        total = isa.add(total, *acc);
    }
    black_box(isa.sum(total));
    R * N * rounds
}

#[derive(Clone, Copy)]
struct DotRounds(usize);

impl Kernel for DotRounds {
    /// How many vectors of 64 products were added.
    type Output = usize;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> usize {
        let tile = I::TUNING.integer_tile;
        let mut vectors = 0;
        for_size!(tile.x, tile.x, M => {
            vectors = if tile.w == 2 { dots::<I, 2, M>(isa, self.0) } else { dots::<I, 1, M>(isa, self.0) };
        });
        vectors
    }
}

#[inline(always)]
fn dots<I: Isa, const P: usize, const M: usize>(isa: I, rounds: usize) -> usize {
    const STEPS: usize = 8;
    let codes = [[0x0101_0101u32; 16 * STEPS]; P];
    let activations = [[0x0101_0101i32; M]; STEPS];
    let mut acc = [[isa.splat_int(0); M]; P];
    for _ in 0..rounds {
        // What is behind the references may have changed, so that no product can be kept.
        let (codes, activations) = (black_box(&codes), black_box(&activations));
        let mut w = [std::ptr::null(); P];
        for p in 0..P {
            w[p] = codes[p].as_ptr();
        }
        // SAFETY: 8 steps of 64 bytes for 8 of activations.
        acc = unsafe { isa.dot_steps(acc, w, activations, 4) };
    }
    let mut total = isa.splat_int(0);
    for acc in acc.as_flattened() {
        total = isa.add_int(total, *acc);
    }
    black_box(isa.sum(isa.to_float(total)));
    P * M * STEPS * rounds
}
