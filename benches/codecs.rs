//! Encoding and decoding of every tensor type, in elements per second, one thread.
//!
//! What it shows: the cost of conversion per level. The plain types should be bound by memory; the others search for
//! scales, 20 to 40 candidates per group, and are what conversion waits for.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pythia_tensor::TensorType;
use std::hint::black_box;

const ELEMS: usize = 1 << 16;

fn codecs(c: &mut Criterion) {
    let values: Vec<f32> = (0..ELEMS).map(|i| ((i * 7919 % 2003) as f32 - 1001.0) / 25_000.0).collect();
    for encode in [true, false] {
        let mut group = c.benchmark_group(if encode { "encode" } else { "decode" });
        group.throughput(Throughput::Elements(ELEMS as u64));
        for &ty in TensorType::ALL {
            let mut bytes = vec![0; ty.row_bytes(ELEMS).expect("whole blocks")];
            let mut back = vec![0.0; ELEMS];
            ty.encode(&values, &mut bytes);
            ty.decode(&bytes, &mut back);
            // A guard against timing something broken; what the bytes must be is for the tests.
            let square = |x: f32| f64::from(x) * f64::from(x);
            let error: f64 = values.iter().zip(&back).map(|(a, b)| square(a - b)).sum();
            let size: f64 = values.iter().map(|&x| square(x)).sum();
            assert!(error < 0.25 * size, "{ty} restores its input, relative error {}", (error / size).sqrt());
            group.bench_function(BenchmarkId::from_parameter(ty), |b| {
                if encode {
                    b.iter(|| ty.encode(black_box(&values), black_box(&mut bytes)));
                } else {
                    b.iter(|| ty.decode(black_box(&bytes), black_box(&mut back)));
                }
            });
        }
    }
}

criterion_group!(benches, codecs);
criterion_main!(benches);
