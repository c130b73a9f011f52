use super::*;
use crate::testing::{Random, assert_same_bits, device, download, upload};

/// What the contract says of a block of 32, in its own order.
fn block(x: &[f32]) -> (Vec<i8>, f32, [i32; 2]) {
    if !x.iter().all(|x| x.is_finite()) {
        return (vec![0; 32], f32::NAN, [0; 2]);
    }
    let amax = x.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let (scale, inverse) = if amax < 1e-30 { (0.0, 0.0) } else { (amax / 127.0, 127.0 / amax) };
    let codes: Vec<i8> = x.iter().map(|x| (x * inverse).round_ties_even() as i8).collect();
    let sum = |codes: &[i8]| codes.iter().map(|&code| i32::from(code)).sum();
    let sums = [sum(&codes[..16]), sum(&codes[16..])];
    (codes, scale, sums)
}

fn check(device: &Device, n: usize, cols: usize, x: &[f32]) {
    let units = x.len() / 32;
    let input = upload(device, x);
    // Something else everywhere, and a block more that must stay.
    let codes = upload(device, &vec![99i8; x.len() + 32]);
    let scales = upload(device, &vec![99.0f32; units + 1]);
    let sums = upload(device, &vec![99i32; 2 * units + 2]);
    let out = Quantized { codes: codes.ptr(), scales: scales.ptr(), sums: sums.ptr() };
    // SAFETY: memory of these sizes.
    unsafe { quantize(device, input.ptr(), n, cols, out) };
    let mut wanted = (Vec::new(), Vec::new(), Vec::new());
    for x in x.chunks(32) {
        let (codes, scale, sums) = block(x);
        wanted.0.extend(codes);
        wanted.1.push(scale);
        wanted.2.extend(sums);
    }
    wanted.0.extend([99; 32]);
    wanted.1.push(99.0);
    wanted.2.extend([99; 2]);
    assert_eq!(download::<i8>(device, &codes, x.len() + 32), wanted.0, "{n} x {cols}: codes");
    assert_same_bits(&format!("{n} x {cols}: scales"), &download(device, &scales, units + 1), &wanted.1);
    assert_eq!(download::<i32>(device, &sums, 2 * units + 2), wanted.2, "{n} x {cols}: sums");
}

#[test]
fn blocks_are_those_of_the_contract() {
    let Some(device) = device() else { return };
    let mut random = Random::new(3);
    for (n, cols) in [(1, 32), (1, 96), (3, 160), (8, 512), (5, 1056)] {
        check(device, n, cols, &random.floats(n * cols));
    }
}

/// Ties to even, what is not a number, what is too small, zeros of both signs, the largest and the smallest numbers.
#[test]
fn blocks_of_odd_values() {
    let Some(device) = device() else { return };
    let halves: Vec<f32> = (0..32).map(|i| if i == 0 { 127.0 } else { i as f32 - 15.5 }).collect();
    let at = |place: usize, value: f32| (0..32).map(|i| if i == place { value } else { 0.25 }).collect::<Vec<f32>>();
    let all = |value: f32| vec![value; 32];
    let blocks = [
        halves,
        at(0, f32::NAN),
        at(31, -f32::NAN),
        at(15, f32::INFINITY),
        at(16, f32::NEG_INFINITY),
        all(0.0),
        all(-0.0),
        all(0.99e-30),
        all(1e-30),
        all(-1.01e-30),
        all(f32::from_bits(1)),
        all(f32::MAX),
        at(7, f32::MAX),
        at(7, f32::MIN),
        (0..32).map(|i| 0.1f32.powi(i)).collect(),
    ];
    check(device, blocks.len(), 32, &blocks.concat());
    check(device, 1, 32 * blocks.len(), &blocks.concat());
}
