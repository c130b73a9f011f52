//! Attention against sums in f64, and the same bits however it is run.

mod int8;

use super::*;
use crate::cpu::Cpu;
use crate::isa::IsaLevel;
use crate::rope::{RopeTable, Rotary};

fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut s = seed;
    let mut next = || {
        s = s.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (s >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next() * 2.0).collect()
}

fn rotary(dims: usize) -> Rotary {
    Rotary { base: 10000.0, factor: 1.0, dims }
}

/// Appends and attends over `n` positions in pieces of `batch`; bits of the outputs.
fn run(cpu: &Cpu, shape: KvShape, qkv: &[f32], batch: usize) -> Vec<f32> {
    let width = shape.heads * shape.head_dim;
    let rope = RopeTable::new(rotary(shape.head_dim / 4 * 2), shape.positions);
    let mut cache = KvCache::new(shape);
    let mut result = Vec::new();
    for (i, qkv) in qkv.chunks(3 * width * batch).enumerate() {
        let rows = qkv.len() / (3 * width);
        let spans = &[RowSpan { sequence: shape.sequences - 1, first_row: 0, rows, first_position: i * batch }];
        let (mut qkv, mut out) = (qkv.to_vec(), vec![f32::NAN; rows * width]);
        cpu.attention(Attention { cache: &mut cache, rope: &rope, spans, qkv: &mut qkv, out: &mut out, weights: None });
        result.extend(out);
    }
    result
}

/// Rows of one head and query: scores and pattern, both `[heads][position][keys of the query's batch]`.
struct Seen {
    scores: Vec<Vec<Vec<f32>>>,
    pattern: Vec<Vec<Vec<f32>>>,
}

/// As [`run`], with the weights.
fn run_seen(cpu: &Cpu, shape: KvShape, qkv: &[f32], batch: usize) -> (Vec<f32>, Seen) {
    let width = shape.heads * shape.head_dim;
    let rope = RopeTable::new(rotary(shape.head_dim / 4 * 2), shape.positions);
    let mut cache = KvCache::new(shape);
    let mut seen = Seen { scores: vec![Vec::new(); shape.heads], pattern: vec![Vec::new(); shape.heads] };
    let mut result = Vec::new();
    for (i, qkv) in qkv.chunks(3 * width * batch).enumerate() {
        let rows = qkv.len() / (3 * width);
        let spans = &[RowSpan { sequence: 0, first_row: 0, rows, first_position: i * batch }];
        let (mut qkv, mut out) = (qkv.to_vec(), vec![f32::NAN; rows * width]);
        let len = AttentionWeights::len(shape.heads, spans);
        let (mut scores, mut pattern) = (vec![f32::NAN; len], vec![f32::NAN; len]);
        let weights = Some(AttentionWeights { scores: Some(&mut scores), pattern: Some(&mut pattern) });
        cpu.attention(Attention { cache: &mut cache, rope: &rope, spans, qkv: &mut qkv, out: &mut out, weights });
        result.extend(out);
        let keys = i * batch + rows;
        for head in 0..shape.heads {
            let rows = |array: &[f32]| {
                array[head * rows * keys..][..rows * keys].chunks(keys).map(<[f32]>::to_vec).collect::<Vec<_>>()
            };
            seen.scores[head].extend(rows(&scores));
            seen.pattern[head].extend(rows(&pattern));
        }
    }
    (result, seen)
}

#[test]
fn scores_and_patterns_are_what_the_output_was_made_of() {
    let shape = KvShape { ty: KvType::F32, sequences: 1, heads: 3, head_dim: 24, positions: 70 };
    let (dim, width) = (shape.head_dim, 3 * shape.head_dim);
    let qkv = noise(5, 70 * 3 * width);
    let rope = RopeTable::new(rotary(dim / 4 * 2), shape.positions);
    let rotated = |p: usize, which: usize, head: usize| {
        let mut part = qkv[p * 3 * width + which * width + head * dim..][..dim].to_vec();
        rope.rotate(p, &mut part);
        part
    };
    let oracle = Cpu::new(1, Some(IsaLevel::Scalar)).unwrap();
    let (want, seen) = run_seen(&oracle, shape, &qkv, 70);
    assert!(want == run(&oracle, shape, &qkv, 70), "looking changes nothing");
    for head in 0..3 {
        for p in 0..70 {
            let (scores, pattern) = (&seen.scores[head][p], &seen.pattern[head][p]);
            assert!(scores[p + 1..].iter().all(|&score| score == f32::NEG_INFINITY));
            assert!(pattern[p + 1..].iter().all(|&weight| weight == 0.0));
            for k in 0..=p {
                let products = rotated(p, 0, head).into_iter().zip(rotated(k, 1, head));
                let dot: f64 = products.map(|(a, b)| f64::from(a) * f64::from(b)).sum();
                assert!((f64::from(scores[k]) - dot / (dim as f64).sqrt()).abs() < 1e-5, "head {head}, {p} and {k}");
            }
            let total: f64 = scores[..=p].iter().map(|&score| f64::from(score).exp()).sum();
            for d in 0..dim {
                let value = |k: usize| f64::from(qkv[k * 3 * width + 2 * width + head * dim + d]);
                let sum: f64 = (0..=p).map(|k| f64::from(pattern[k]) * value(k)).sum();
                assert!((sum - f64::from(want[p * width + head * dim + d])).abs() < 1e-5, "head {head}, {p}");
            }
            for k in 0..=p {
                assert!((f64::from(pattern[k]) - f64::from(scores[k]).exp() / total).abs() < 1e-6);
            }
        }
    }
    for &level in IsaLevel::ALL.iter().filter(|level| level.is_supported()) {
        for (threads, batch) in [(1, 1), (2, 5), (3, 33), (4, 70)] {
            let (got, other) = run_seen(&Cpu::new(threads, Some(level)).unwrap(), shape, &qkv, batch);
            assert!(got == want, "{level} {threads} {batch}");
            for head in 0..3 {
                for p in 0..70 {
                    assert!(other.scores[head][p][..=p] == seen.scores[head][p][..=p], "{level} {threads} {batch}");
                    assert!(other.pattern[head][p][..=p] == seen.pattern[head][p][..=p], "{level} {threads} {batch}");
                }
            }
        }
    }
}

/// The definition, in f64 and f32 storage.
fn reference(shape: KvShape, qkv: &[f32]) -> Vec<f64> {
    let (heads, dim) = (shape.heads, shape.head_dim);
    let width = heads * dim;
    let rope = RopeTable::new(rotary(dim / 4 * 2), shape.positions);
    let mut rows: Vec<Vec<f32>> = qkv.chunks(3 * width).map(<[f32]>::to_vec).collect();
    for (p, row) in rows.iter_mut().enumerate() {
        for head in row[..2 * width].chunks_mut(dim) {
            rope.rotate(p, head);
        }
    }
    let part = |p: usize, which: usize, h: usize| &rows[p][which * width + h * dim..][..dim];
    let mut out = Vec::new();
    for p in 0..rows.len() {
        for h in 0..heads {
            let dot = |k: usize| -> f64 {
                part(p, 0, h).iter().zip(part(k, 1, h)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            let weights: Vec<f64> = (0..=p).map(|k| (dot(k) / (dim as f64).sqrt()).exp()).collect();
            let total: f64 = weights.iter().sum();
            for d in 0..dim {
                out.push((0..=p).map(|k| weights[k] * f64::from(part(k, 2, h)[d])).sum::<f64>() / total);
            }
        }
    }
    out
}

#[test]
fn attention_is_right_and_its_bits_depend_on_nothing_else() {
    // 80 and 24: not multiples of 32 and 16; 70 positions: tiles of 16 begun and crossed.
    for head_dim in [8, 24, 32, 64, 80, 128, 256] {
        for ty in [KvType::F32, KvType::F16, KvType::Q8_0] {
            let shape = KvShape { ty, sequences: 2, heads: 3, head_dim, positions: 70 };
            let qkv = noise(head_dim as u64, 70 * 3 * 3 * head_dim);
            let want = run(&Cpu::new(1, Some(IsaLevel::Scalar)).unwrap(), shape, &qkv, 1);
            let tolerance = match ty {
                KvType::F32 => 2e-6,
                KvType::F16 => 2e-2,
                KvType::Q8_0 => 4e-2,
            };
            for (got, want) in want.iter().zip(reference(shape, &qkv)) {
                assert!((f64::from(*got) - want).abs() < tolerance, "{ty:?} {head_dim}: {got}, want {want}");
            }
            for &level in IsaLevel::ALL.iter().filter(|l| l.is_supported()) {
                for (threads, batch) in [(1, 70), (2, 1), (2, 5), (3, 33), (4, 70)] {
                    let got = run(&Cpu::new(threads, Some(level)).unwrap(), shape, &qkv, batch);
                    let same = got.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{ty:?} {head_dim} {level} {threads} threads batch {batch}");
                }
            }
        }
    }
}

#[test]
fn sequences_of_a_batch_get_what_they_get_alone() {
    let (head_dim, heads) = (24, 3);
    let width = heads * head_dim;
    let shape = KvShape { ty: KvType::F16, sequences: 6, heads, head_dim, positions: 70 };
    // Sequences in any order, with 1 row, a task's, one more, and many; the first batch is what they begin with.
    let batches =
        [vec![(4, 3), (0, 16), (2, 33)], vec![(2, 1), (5, 17), (0, 16), (4, 40), (1, 1)], vec![(5, 53), (4, 1)]];
    let qkv: Vec<Vec<f32>> = (0..6).map(|sequence| noise(sequence, 70 * 3 * width)).collect();
    let one = Cpu::new(1, Some(IsaLevel::Scalar)).unwrap();
    let alone: Vec<Vec<f32>> = qkv.iter().map(|qkv| run(&one, shape, qkv, 70)).collect();
    let rope = RopeTable::new(rotary(head_dim / 4 * 2), shape.positions);
    for threads in [1, 3] {
        let cpu = Cpu::new(threads, None).unwrap();
        let mut cache = KvCache::new(shape);
        let mut positions = [0; 6];
        for batch in &batches {
            let (mut spans, mut rows, mut want) = (Vec::new(), Vec::new(), Vec::new());
            for &(sequence, n) in batch {
                let first_position = positions[sequence];
                spans.push(RowSpan { sequence, first_row: want.len() / width, rows: n, first_position });
                positions[sequence] += n;
                rows.extend_from_slice(&qkv[sequence][first_position * 3 * width..positions[sequence] * 3 * width]);
                want.extend_from_slice(&alone[sequence][first_position * width..positions[sequence] * width]);
            }
            let mut out = vec![f32::NAN; want.len()];
            cpu.attention(Attention {
                cache: &mut cache,
                rope: &rope,
                spans: &spans,
                qkv: &mut rows,
                out: &mut out,
                weights: None,
            });
            assert!(out.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits()), "{threads} {batch:?}");
        }
    }
}

#[test]
#[should_panic(expected = "each sequence at most once")]
fn two_spans_of_a_sequence_are_refused() {
    let shape = KvShape { ty: KvType::F32, sequences: 2, heads: 1, head_dim: 16, positions: 4 };
    let span = |first_row| RowSpan { sequence: 1, first_row, rows: 1, first_position: first_row };
    let (cache, rope) = (&mut KvCache::new(shape), &RopeTable::new(rotary(4), 4));
    let attention =
        Attention { cache, rope, spans: &[span(0), span(1)], qkv: &mut [0.0; 96], out: &mut [0.0; 32], weights: None };
    Cpu::new(1, None).unwrap().attention(attention);
}

#[test]
fn a_cache_that_cannot_be_counted_is_seen() {
    let huge = KvShape { ty: KvType::F32, sequences: usize::MAX, heads: 8, head_dim: 64, positions: 2048 };
    assert_eq!(huge.bytes(), None);
}

#[test]
fn a_copied_prefix_is_there_and_nothing_else_has_changed() {
    for (ty, bytes, head_dim) in [(KvType::F16, 2, 24), (KvType::F32, 4, 32)] {
        let shape = KvShape { ty, sequences: 3, heads: 2, head_dim, positions: 40 };
        for positions in [0, 1, 16, 17, 40] {
            let mut cache = KvCache::new(shape);
            let mut noise = noise(7, cache.keys.len() + cache.values.len()).into_iter().map(|x| (x * 50.0) as i8 as u8);
            cache.keys.iter_mut().chain(cache.values.iter_mut()).for_each(|byte| *byte = noise.next().unwrap());
            let sequences = |cache: &KvCache| {
                let [keys, values] = [&cache.keys, &cache.values].map(|bytes| bytes.chunks_exact(bytes.len() / 3));
                keys.zip(values).map(|(keys, values)| (keys.to_vec(), values.to_vec())).collect::<Vec<_>>()
            };
            let before = sequences(&cache);
            cache.copy_prefix(0, 2, positions);
            assert!(sequences(&cache)[..2] == before[..2], "{ty:?} {positions}: the others");
            for (head, position, i) in triples(2, positions, head_dim) {
                let key = |sequence| {
                    let tile = position / cache::TILE * head_dim + i;
                    let at = shape.head(sequence, head) * shape.key_bytes()
                        + (tile * cache::TILE + position % cache::TILE) * bytes;
                    &cache.keys[at..at + bytes]
                };
                let value = |sequence| {
                    let at =
                        shape.head(sequence, head) * shape.value_bytes() + (position * shape.padded_dim() + i) * bytes;
                    &cache.values[at..at + bytes]
                };
                assert!(key(0) == key(2) && value(0) == value(2), "{ty:?} {positions}: {head} {position} {i}");
            }
        }
    }
}

/// All triples below these.
fn triples(a: usize, b: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a * b * c).map(move |i| (i / (b * c), i / c % b, i % c))
}
