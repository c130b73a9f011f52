//! Products, attention, norms, likelihoods and products of float matrices of the 410m shape, on the best ISA (or `PYTHIA_ISA`) and all processors.
//!
//! What it shows: `one` is the matrix-vector product of generation and should move its bytes at memory speed; `many`
//! is the prompt's product over 512 rows and should approach the int8 rate that `pythia-run bench` measures. `gemm`
//! should approach the f32 rate.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pythia_kernels::{
    Activations, Attention, Cpu, Epilogue, KvCache, KvShape, KvType, LayerNorm, Layout, MatRef, Matmul, Predict,
    Prediction, RopeTable, Rotary, RowSpan, Store, Weights, Workspace,
};
use pythia_tensor::TensorType;

const WIDTH: usize = 1024;
const TOKENS: usize = 512;

fn noise(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919 % 2003) as f32 - 1001.0) / 1001.0).collect()
}

fn products(c: &mut Criterion) {
    let cpu = Cpu::new(0, None).expect("an ISA of this CPU");
    let x = noise(TOKENS * WIDTH);
    let (rows, cols) = (4 * WIDTH, WIDTH);
    for (name, n) in [("one", 1), ("many", TOKENS)] {
        let mut group = c.benchmark_group(name);
        for (&ty, layout) in TensorType::ALL.iter().flat_map(|ty| [(ty, Layout::Rows), (ty, Layout::Interleaved)]) {
            let mut data = vec![0; rows * ty.row_bytes(cols).expect("whole blocks")];
            ty.encode(&noise(rows * cols), &mut data);
            if layout == Layout::Interleaved && cpu.arrange(ty, rows, Activations::Int8, &mut data) != layout {
                continue;
            }
            let mut out = vec![f32::NAN; n * rows];
            let mut workspace = Workspace::default();
            let per_run = if n == 1 {
                Throughput::Bytes(data.len() as u64)
            } else {
                Throughput::Elements((2 * n * rows * cols) as u64) // operations
            };
            group.throughput(per_run);
            group.bench_function(BenchmarkId::new(ty.to_string(), format!("{layout:?}")), |b| {
                b.iter(|| {
                    let weights = Weights { ty, rows, cols, data: &data, layout };
                    let (x, activations) = (&x[..n * cols], Activations::Int8);
                    let matmul =
                        Matmul { weights, x, bias: None, epilogue: Epilogue::Store, activations, out: &mut out };
                    cpu.matmul(matmul, &mut workspace);
                });
                assert!(out.iter().all(|y| y.is_finite()), "every output was written");
            });
        }
    }
}

fn attention(c: &mut Criterion) {
    let cpu = Cpu::new(0, None).expect("an ISA of this CPU");
    let mut group = c.benchmark_group("attention");
    let sizes = [(512, 512), (2048, 512), (512, 1), (2048, 1)];
    for (ty, (keys, n)) in [KvType::F16, KvType::Q8_0].into_iter().flat_map(|ty| sizes.map(|size| (ty, size))) {
        let shape = KvShape { ty, sequences: 1, heads: 16, head_dim: WIDTH / 16, positions: keys };
        let rope = RopeTable::new(Rotary { base: 10000.0, factor: 1.0, dims: 16 }, keys);
        let mut cache = KvCache::new(shape);
        let mut qkv = noise(keys * 3 * WIDTH);
        let mut out = vec![f32::NAN; keys * WIDTH];
        let span = |rows| [RowSpan { sequence: 0, first_row: 0, rows, first_position: keys - rows }];
        let (all, cache) = (&span(keys), &mut cache);
        cpu.attention(Attention { cache, rope: &rope, spans: all, qkv: &mut qkv, out: &mut out, weights: None });
        group.bench_function(BenchmarkId::from_parameter(format!("{ty:?}, {n} over {keys}")), |b| {
            b.iter(|| {
                let (qkv, out) = (&mut qkv[..n * 3 * WIDTH], &mut out[..n * WIDTH]);
                cpu.attention(Attention { cache, rope: &rope, spans: &span(n), qkv, out, weights: None });
            });
            assert!(out.iter().all(|y| y.is_finite()), "every output was written");
        });
    }
}

fn norms(c: &mut Criterion) {
    let cpu = Cpu::new(0, None).expect("an ISA of this CPU");
    let (x, gamma, beta) = (noise(TOKENS * WIDTH), noise(WIDTH), noise(WIDTH));
    let mut out = vec![f32::NAN; x.len()];
    let mut group = c.benchmark_group("layer_norm");
    group.throughput(Throughput::Elements(x.len() as u64));
    group.bench_function("512 rows", |b| {
        b.iter(|| cpu.layer_norm(LayerNorm { x: &x, gamma: &gamma, beta: &beta, eps: 1e-5, out: &mut out }));
        assert!(out.iter().all(|y| y.is_finite()), "every output was written");
    });
    let logits = noise(50_304);
    group.bench_function("log_sum_exp of 50304", |b| b.iter(|| cpu.log_sum_exp(&logits)));
}

/// The output matrix and log-sum-exp of the scored half of a window.
fn likelihoods(c: &mut Criterion) {
    let cpu = Cpu::new(0, None).expect("an ISA of this CPU");
    let (ty, rows, cols, n) = (TensorType::Q6_K, 50_304, WIDTH, TOKENS / 2);
    let mut data = vec![0; rows * ty.row_bytes(cols).expect("whole blocks")];
    ty.encode(&noise(rows * cols), &mut data);
    let x = noise(n * cols);
    let targets: Vec<u32> = (0..n as u32).map(|i| i * 190).collect();
    let (mut out, mut workspace) = (vec![Prediction::default(); n], Workspace::default());
    let mut group = c.benchmark_group("predict");
    group.throughput(Throughput::Elements((2 * n * rows * cols) as u64)); // operations
    group.bench_function(BenchmarkId::from_parameter(format!("{n} of {rows}")), |b| {
        b.iter(|| {
            let weights = Weights { ty, rows, cols, data: &data, layout: Layout::Rows };
            let (x, targets, activations, out) = (&x[..], &targets[..], Activations::Int8, &mut out[..]);
            cpu.predict(Predict { weights, x, targets, activations, out }, &mut workspace);
        });
        assert!(out.iter().all(|y| y.log_likelihood < 0.0), "every row was scored");
    });
}

/// A layer and its gradients, second moments, and the updates of a low rank that quantizers make.
fn gemm(c: &mut Criterion) {
    let cpu = Cpu::new(0, None).expect("an ISA of this CPU");
    let (a, b) = (noise(2 * WIDTH * WIDTH), noise(2 * WIDTH * WIDTH));
    let mut out = vec![0.0; 2 * WIDTH * WIDTH];
    let mut group = c.benchmark_group("gemm");
    for (name, m, n, k, store) in [
        ("x W^T", 2 * WIDTH, WIDTH, WIDTH, Store::Set),
        ("x^T g", WIDTH, WIDTH, 2 * WIDTH, Store::Add),
        ("rank 32", WIDTH, WIDTH, 32, Store::Sub),
        ("rank 32", WIDTH / 4, WIDTH / 4, 32, Store::Sub),
    ] {
        let a = if name == "x^T g" { MatRef::new(&a, k, m).t() } else { MatRef::new(&a, m, k) };
        let b = if name == "x W^T" { MatRef::new(&b, n, k).t() } else { MatRef::new(&b, k, n) };
        group.throughput(Throughput::Elements((2 * m * n * k) as u64)); // operations
        group.bench_function(BenchmarkId::new(name, format!("{m}x{n}x{k}")), |bencher| {
            bencher.iter(|| cpu.gemm(a, b, store, &mut out[..m * n], n));
        });
    }
    let (tokens, n) = (2 * WIDTH, WIDTH);
    group.throughput(Throughput::Elements((tokens * n * (n + 1)) as u64)); // operations
    group.bench_function(BenchmarkId::new("gram", format!("{tokens}x{n}")), |bencher| {
        bencher.iter(|| cpu.gram(MatRef::new(&a, tokens, n), &mut out[..n * n]));
    });
}

criterion_group!(benches, products, attention, norms, likelihoods, gemm);
criterion_main!(benches);
