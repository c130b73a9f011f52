//! A cache of bytes: the order of `docs/numerics.md` written down plainly, and what must not change a bit of it.

use super::*;

const POSITIONS: usize = 75;

/// Scale and codes of a block.
fn quantized(x: &[f32]) -> (f32, Vec<i32>) {
    let amax = x.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    if amax < 1e-30 {
        return (0.0, vec![0; x.len()]);
    }
    let inverse = 127.0 / amax;
    (amax / 127.0, x.iter().map(|x| (x * inverse).round_ties_even() as i32).collect())
}

fn dot(a: &[i32], b: &[i32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum::<i32>() as f32
}

fn exp2(x: f32) -> f32 {
    let x = x.max(-126.0);
    let n = x.round_ties_even();
    let r = x - n;
    let powers = [0.001_321_867_2f32, 0.009_671_698, 0.055_508_93, 0.240_222_38, 0.693_146_9, 1.0];
    let p = powers[1..].iter().fold(powers[0], |p, &c| p.mul_add(r, c));
    p * 2f32.powi(n as i32)
}

/// The sum of the lanes of a long sum.
fn tree(mut lanes: [f32; 16]) -> f32 {
    for half in [8, 4, 2, 1] {
        (0..half).for_each(|l| lanes[l] += lanes[l + half]);
    }
    lanes[0]
}

/// All positions of one sequence.
fn stated(shape: KvShape, qkv: &[f32]) -> Vec<f32> {
    let (heads, dim) = (shape.heads, shape.head_dim);
    let width = heads * dim;
    let rope = RopeTable::new(rotary(dim / 4 * 2), shape.positions);
    let part = |p: usize, which: usize, head: usize| {
        let mut part = qkv[(3 * p + which) * width + head * dim..][..dim].to_vec();
        if which < 2 {
            rope.rotate(p, &mut part);
        }
        part
    };
    let units = |x: Vec<f32>| x.chunks(32).map(quantized).collect::<Vec<_>>();
    let n = qkv.len() / (3 * width);
    let mut out = vec![0.0; n * width];
    let of_scores = std::f32::consts::LOG2_E / (dim as f32).sqrt();
    for head in 0..heads {
        let keys: Vec<_> = (0..n).map(|k| units(part(k, 1, head))).collect();
        let values: Vec<_> = (0..n).map(|k| quantized(&part(k, 2, head))).collect();
        for p in 0..n {
            let query = units(part(p, 0, head));
            let score = |key: &Vec<(f32, Vec<i32>)>| {
                let units = query.iter().zip(key);
                units.fold(0.0f32, |acc, ((dq, q), (dk, k))| dot(q, k).mul_add(dq * of_scores * dk, acc))
            };
            let scores: Vec<f32> = keys[..=p].iter().map(score).collect();
            let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let e: Vec<f32> = scores.iter().map(|score| exp2(score - max)).collect();
            let mut lanes = [0.0; 16];
            e.iter().enumerate().for_each(|(k, e)| lanes[k % 16] += e);
            let inverse = 1.0 / tree(lanes);
            let weighted: Vec<f32> = e.iter().zip(&values).map(|(e, (dv, _))| e * dv).collect();
            for d in 0..dim {
                let mut acc = 0.0f32;
                for (weights, values) in weighted.chunks(32).zip(values.chunks(32)) {
                    let (scale, weights) = quantized(weights);
                    let values: Vec<i32> = values.iter().map(|(_, v)| v[d]).collect();
                    acc = dot(&weights, &values).mul_add(scale, acc);
                }
                out[p * width + head * dim + d] = acc.mul_add(inverse, 0.0);
            }
        }
    }
    out
}

fn shape(head_dim: usize) -> KvShape {
    KvShape { ty: KvType::Q8_0, sequences: 1, heads: 2, head_dim, positions: POSITIONS }
}

fn same(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

#[test]
fn the_order_is_the_stated_one() {
    for head_dim in [8, 24, 32, 64, 80, 128] {
        let qkv = noise(head_dim as u64, POSITIONS * 6 * head_dim);
        let want = stated(shape(head_dim), &qkv);
        for &level in IsaLevel::ALL.iter().filter(|level| level.is_supported()) {
            let got = run(&Cpu::new(1, Some(level)).unwrap(), shape(head_dim), &qkv, POSITIONS);
            assert!(same(&got, &want), "{level} {head_dim}");
        }
    }
}

/// One pass over rows from `first` on.
fn pass(cpu: &Cpu, cache: &mut KvCache, qkv: &[f32], first: usize) -> Vec<f32> {
    let shape = cache.shape();
    let rope = RopeTable::new(rotary(shape.head_dim / 4 * 2), shape.positions);
    let rows = qkv.len() / (3 * shape.width());
    let spans = &[RowSpan { sequence: 0, first_row: 0, rows, first_position: first }];
    let (mut qkv, mut out) = (qkv.to_vec(), vec![f32::NAN; rows * shape.width()]);
    cpu.attention(Attention { cache, rope: &rope, spans, qkv: &mut qkv, out: &mut out, weights: None });
    out
}

#[test]
fn what_was_cut_off_leaves_no_trace() {
    let head_dim = 40;
    let row = 6 * head_dim;
    let qkv = noise(3, POSITIONS * row);
    // Larger than anything else, and not even numbers: scales of groups would show them.
    let mut refuse: Vec<f32> = noise(4, POSITIONS * row).iter().map(|x| 1e6 * x).collect();
    refuse.iter_mut().step_by(11).for_each(|x| *x = f32::NAN);
    for &level in IsaLevel::ALL.iter().filter(|level| level.is_supported()) {
        let cpu = Cpu::new(2, Some(level)).unwrap();
        let want = run(&cpu, shape(head_dim), &qkv, POSITIONS);
        for kept in [0, 1, 15, 16, 31, 32, 33, 50] {
            let mut cache = KvCache::new(shape(head_dim));
            pass(&cpu, &mut cache, &qkv[..kept * row], 0);
            pass(&cpu, &mut cache, &refuse[kept * row..], kept);
            let mut got = want[..kept * 2 * head_dim].to_vec();
            for (p, token) in qkv.chunks(row).enumerate().take(kept + 3).skip(kept) {
                got.extend(pass(&cpu, &mut cache, token, p));
            }
            got.extend(pass(&cpu, &mut cache, &qkv[(kept + 3) * row..], kept + 3));
            assert!(same(&got, &want), "{level}, {kept} kept");
        }
    }
}

#[test]
fn what_is_not_finite_spoils_what_sees_it_and_nothing_else() {
    let (head_dim, row) = (40, 240);
    let at = 37;
    let clean = noise(5, POSITIONS * row);
    for &level in IsaLevel::ALL.iter().filter(|level| level.is_supported()) {
        let cpu = Cpu::new(2, Some(level)).unwrap();
        let want = run(&cpu, shape(head_dim), &clean, POSITIONS);
        for (part, broken) in [(0, f32::NAN), (1, f32::INFINITY), (1, f32::NAN), (2, f32::NEG_INFINITY), (2, f32::NAN)]
        {
            // The second head's.
            let mut qkv = clean.clone();
            qkv[at * row + part * 2 * head_dim + head_dim + 5] = broken;
            let got = run(&cpu, shape(head_dim), &qkv, POSITIONS);
            for (p, (got, want)) in got.chunks(2 * head_dim).zip(want.chunks(2 * head_dim)).enumerate() {
                let sees = if part == 0 { p == at } else { p >= at };
                assert!(same(&got[..head_dim], &want[..head_dim]), "{level}: another head");
                if sees {
                    assert!(got[head_dim..].iter().all(|y| y.is_nan()), "{level}, part {part}, {broken}, {p}");
                } else {
                    assert!(same(&got[head_dim..], &want[head_dim..]), "{level}, part {part}, {broken}, {p}");
                }
            }
        }
    }
}

#[test]
fn a_forked_sequence_goes_on_as_the_first() {
    let (head_dim, row) = (24, 144);
    let shape = KvShape { sequences: 2, ..shape(head_dim) };
    let cpu = Cpu::new(1, None).unwrap();
    let rope = RopeTable::new(rotary(head_dim / 4 * 2), POSITIONS);
    let qkv = noise(6, POSITIONS * row);
    let want = run(&cpu, KvShape { sequences: 1, ..shape }, &qkv, POSITIONS);
    for positions in [0, 1, 16, 17, 40] {
        let mut cache = KvCache::new(shape);
        let pass = |cache: &mut KvCache, sequence: usize, first: usize, end: usize, qkv: &[f32]| {
            let spans = &[RowSpan { sequence, first_row: 0, rows: end - first, first_position: first }];
            let mut qkv = qkv[first * row..end * row].to_vec();
            let mut out = vec![f32::NAN; qkv.len() / 3];
            cpu.attention(Attention { cache, rope: &rope, spans, qkv: &mut qkv, out: &mut out, weights: None });
            out
        };
        pass(&mut cache, 0, 0, 50, &qkv);
        // What the second held before must not show: numbers that are huge, and some that are none.
        let stale: Vec<f32> = (0..POSITIONS * row).map(|i| if i % 7 == 0 { f32::NAN } else { 1e6 }).collect();
        pass(&mut cache, 1, 0, POSITIONS, &stale);
        cache.copy_prefix(0, 1, positions);
        let got = pass(&mut cache, 1, positions, POSITIONS, &qkv);
        assert!(same(&got, &want[positions * 2 * head_dim..]), "{positions}");
    }
}

#[test]
fn it_takes_about_half_of_the_memory() {
    let bytes = |ty, head_dim| KvShape { ty, sequences: 3, heads: 2, head_dim, positions: 64 }.bytes().unwrap();
    for (head_dim, most) in [(64, 0.55), (80, 0.56), (128, 0.55), (256, 0.54)] {
        let share = bytes(KvType::Q8_0, head_dim) as f64 / bytes(KvType::F16, head_dim) as f64;
        assert!((0.5..most).contains(&share), "{head_dim}: {share}");
    }
    let shape = KvShape { ty: KvType::Q8_0, sequences: 3, heads: 2, head_dim: 80, positions: 33 };
    assert_eq!(shape.bytes_per_position(), Some(2 * (80 + 3 * 4 + 80 + 4)), "codes and scales of keys and values");
    assert_eq!(shape.bytes(), Some(3 * 64 * 2 * (80 + 3 * 4 + 80 + 4)), "33 positions take two groups of 32");
    let cache = KvCache::new(shape);
    assert_eq!(cache.keys.len() + cache.values.len(), shape.bytes().unwrap());
}

#[test]
fn hooks_see_scores_and_patterns() {
    let qkv = noise(7, POSITIONS * 6 * 40);
    let oracle = Cpu::new(1, Some(IsaLevel::Scalar)).unwrap();
    let (want, seen) = run_seen(&oracle, shape(40), &qkv, POSITIONS);
    assert!(same(&want, &run(&oracle, shape(40), &qkv, POSITIONS)), "looking changes nothing");
    for (scores, pattern) in seen.scores.iter().flatten().zip(seen.pattern.iter().flatten()) {
        let n = scores.iter().filter(|score| score.is_finite()).count();
        assert!(scores[n..].iter().all(|&score| score == f32::NEG_INFINITY) && pattern[n..].iter().all(|&p| p == 0.0));
        let total: f64 = scores[..n].iter().map(|&score| f64::from(score).exp()).sum();
        for (&score, &p) in scores[..n].iter().zip(pattern) {
            assert!((f64::from(p) - f64::from(score).exp() / total).abs() < 2e-6, "{p} of {score}");
        }
    }
    for &level in IsaLevel::ALL.iter().filter(|level| level.is_supported()) {
        let (got, other) = run_seen(&Cpu::new(2, Some(level)).unwrap(), shape(40), &qkv, POSITIONS);
        assert!(same(&got, &want) && other.scores == seen.scores && other.pattern == seen.pattern, "{level}");
    }
}
