use super::*;
use crate::testing::{Random, download, upload};
use pythia_kernels::{Cpu, Prediction};

#[test]
fn parts_make_the_cpus_predictions() {
    let Some(device) = crate::testing::device() else { return };
    let cpu = Cpu::new(1, None).unwrap();
    for vocab in [1, 15, 16, 17, 1000, 1024, 1025, 3000, 5136] {
        let rows = 5;
        let mut logits: Vec<f32> = Random::new(vocab as u64).floats(rows * vocab).iter().map(|x| 20.0 * x).collect();
        // The first row is whole; each other has one logit that is not finite, or all of them far below 0.
        logits[vocab + vocab / 2] = f32::NAN;
        logits[2 * vocab] = f32::INFINITY;
        logits[4 * vocab - 1] = f32::NEG_INFINITY;
        // In the last row all are equal, so that the first counts.
        logits[4 * vocab..].iter_mut().for_each(|x| *x -= 1e30);
        let targets: Vec<u32> = (0..rows).map(|row| (row * 7919 % vocab) as u32).collect();
        let chunks = vocab.div_ceil(LogSumPart::LOGITS);
        let (on_device, ids) = (upload(device, &logits), upload(device, &targets));
        let part_bytes = size_of::<LogSumPart>();
        let (found, of_targets) = (device.alloc(rows * chunks * part_bytes).unwrap(), device.alloc(rows * 4).unwrap());
        // SAFETY: memory of these sizes, targets of the vocabulary.
        unsafe { parts(device, on_device.ptr(), rows, vocab, ids.ptr(), found.ptr(), of_targets.ptr()) };
        let parts = parts_of(&download::<u8>(device, &found, rows * chunks * part_bytes));
        let of_targets: Vec<f32> = download(device, &of_targets, rows);
        for (row, logits) in logits.chunks(vocab).enumerate() {
            let found = Prediction::new(0.0, parts[row * chunks..][..chunks].iter());
            let (log_sum, want) = (-found.log_likelihood, cpu.log_sum_exp(logits));
            assert!(log_sum.to_bits() == want.to_bits() || log_sum.is_nan() && want.is_nan(), "{vocab}, row {row}");
            assert_eq!(want.is_nan(), (1..4).contains(&row), "{vocab}, row {row}");
            if !want.is_nan() {
                let best = (0..vocab).rev().max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
                assert_eq!(found.best as usize, best, "{vocab}, row {row}");
                assert_eq!(found.best_log_likelihood.to_bits(), (f64::from(logits[best]) - want).to_bits());
            }
            assert_eq!(of_targets[row].to_bits(), logits[targets[row] as usize].to_bits());
        }
    }
}

/// Rows of logits that make choosing hard: many equal, zeros of both signs, infinities, NaN.
fn hard_rows(vocab: usize) -> Vec<f32> {
    let mut random = Random::new(vocab as u64);
    let mut rows = random.floats(vocab);
    rows.extend((0..vocab).map(|i| (i * 37 % 101) as f32 - 50.0));
    let odd = [f32::NAN, 0.0, -0.0, f32::INFINITY, f32::MAX, f32::NEG_INFINITY, f32::MIN, -1e-40, 1e-40];
    rows.extend((0..vocab).map(|_| odd[random.below(odd.len())]));
    // Nothing above the zeros.
    let low = [f32::NAN, 0.0, -0.0, f32::NEG_INFINITY, f32::MIN, -1e-40];
    rows.extend((0..vocab).map(|_| low[random.below(low.len())]));
    rows.extend(vec![f32::NEG_INFINITY; vocab - 1]);
    rows.push(f32::MIN);
    rows.extend((0..vocab).map(|i| [f32::NAN, f32::NEG_INFINITY][i % 2]));
    rows.extend(vec![1.5; vocab]);
    rows
}

#[test]
fn the_largest_is_the_samplers() {
    let Some(device) = crate::testing::device() else { return };
    for (vocab, valid) in [(1, 1), (100, 0), (100, 33), (1024, 1024), (5000, 4999)] {
        let logits = hard_rows(vocab);
        let n = logits.len() / vocab;
        let (on_device, out) = (upload(device, &logits), upload(device, &vec![7u32; 2 * n]));
        // SAFETY: memory of these sizes.
        unsafe { argmax(device, on_device.ptr(), n, vocab, valid, out.ptr()) };
        let largest = |row: &[f32]| {
            let above = |best: (f32, u32), (id, &x): (usize, &f32)| if x > best.0 { (x, id as u32) } else { best };
            let (x, id) = row[..valid].iter().enumerate().fold((f32::NEG_INFINITY, NONE), above);
            [id, x.to_bits()]
        };
        let want: Vec<u32> = logits.chunks(vocab).flat_map(largest).collect();
        assert_eq!(download::<u32>(device, &out, 2 * n), want, "{valid} of {vocab}");
    }
}

#[test]
fn the_k_largest_are_the_samplers() {
    let Some(device) = crate::testing::device() else { return };
    for (vocab, valid, k) in
        [(1, 1, 1), (100, 0, 4), (100, 33, 40), (3000, 2999, 1), (3000, 3000, 40), (3000, 2500, 1023)]
    {
        let logits = hard_rows(vocab);
        let n = logits.len() / vocab;
        let on_device = upload(device, &logits);
        let [ids, values] = [0; 2].map(|_| upload(device, &vec![7u32; n * k]));
        let candidates = upload(device, &vec![7u32; n]);
        let scratch = upload(device, &vec![0xFFu8; scratch_bytes(n, valid, k)]);
        let top = TopK { scratch: scratch.ptr(), ids: ids.ptr(), values: values.ptr(), candidates: candidates.ptr() };
        // SAFETY: memory of these sizes.
        unsafe { top_k(device, on_device.ptr(), n, vocab, valid, k, top) };
        let (ids, values) = (download::<u32>(device, &ids, n * k), download::<f32>(device, &values, n * k));
        let candidates = download::<u32>(device, &candidates, n);
        for (row, logits) in logits.chunks(vocab).enumerate() {
            let what = format!("{k} of {valid} of {vocab}, row {row}");
            let weight = |id: u32| logits[id as usize].min(f32::MAX);
            let mut order: Vec<u32> = (0..valid as u32).filter(|&id| logits[id as usize] > f32::NEG_INFINITY).collect();
            // A stable sort: of equals the lower id first.
            order.sort_by(|&a, &b| weight(b).partial_cmp(&weight(a)).unwrap());
            let reach = order
                .get(k - 1)
                .map_or(order.len(), |&last| order.iter().filter(|&&id| weight(id) >= weight(last)).count());
            let found = candidates[row] as usize;
            assert!(found == reach || found > k && reach > k, "{what}: {found} and not {reach}");
            order.resize(order.len().max(k), u32::MAX);
            assert_eq!(ids[row * k..][..k], order[..k], "{what}");
            for (&id, value) in order[..k].iter().zip(&values[row * k..]) {
                let want = logits.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
                assert_eq!(value.to_bits(), want.to_bits(), "{what}");
            }
        }
    }
}
