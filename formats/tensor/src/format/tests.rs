//! Both phases of every format, against its encoder and its decoder.

use super::*;
use crate::TensorType;
use crate::search::tests::{Noise, rows};

fn formats() -> impl Iterator<Item = (TensorType, BlockFormat)> {
    TensorType::ALL.iter().filter_map(|ty| Some((*ty, ty.block_format()?)))
}

/// Blocks of any bytes that have finite scales.
fn any_blocks(ty: TensorType, format: &BlockFormat, n_blocks: usize) -> Vec<u8> {
    let mut noise = Noise(n_blocks as u64);
    let mut codes = vec![0; format.block_elems()];
    let mut block = || loop {
        let bytes: Vec<u8> = (0..ty.block_bytes()).map(|_| (noise.next() * 128.0) as i8 as u8).collect();
        let scales = format.unpack(&bytes, &mut codes)[0];
        if scales.d.is_finite() && scales.dmin.is_finite() {
            break bytes;
        }
    };
    (0..n_blocks).flat_map(|_| block()).collect()
}

fn encoded(ty: TensorType, src: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    let mut bytes = vec![0; ty.row_bytes(src.len()).unwrap()];
    match importance {
        Some(importance) => ty.encode_weighted(src, importance, &mut bytes),
        None => ty.encode(src, &mut bytes),
    }
    bytes
}

/// The code of every element, rounded block by block.
fn rounded(format: &BlockFormat, scales: &[Scales], src: &[f32]) -> Vec<u8> {
    let mut codes = vec![0; src.len()];
    let blocks = src.chunks_exact(format.block_elems()).zip(codes.chunks_exact_mut(format.block_elems()));
    for ((values, codes), scales) in blocks.zip(scales) {
        format.grid(scales).round(0, values, None, codes);
    }
    codes
}

fn decoded(ty: TensorType, bytes: &[u8]) -> Vec<f32> {
    let mut values = vec![0.0; bytes.len() / ty.block_bytes() * ty.block_elems()];
    ty.decode(bytes, &mut values);
    values
}

#[test]
fn packing_keeps_every_bit_and_decodes_to_the_values_of_the_grid() {
    for (ty, format) in formats() {
        let bytes = any_blocks(ty, &format, 50);
        let values = decoded(ty, &bytes);
        let mut codes = vec![0; values.len()];
        let scales = format.unpack(&bytes, &mut codes);
        let mut again = vec![0xa5; bytes.len()];
        format.pack(&scales, &codes, &mut again);
        assert_eq!(again, bytes, "{ty}");
        for (b, scales) in scales.iter().enumerate() {
            let grid = format.grid(scales);
            for j in 0..format.block_elems() {
                let at = b * format.block_elems() + j;
                let value = grid.value(j, codes[at]);
                assert_eq!(value.to_bits(), values[at].to_bits(), "{ty}, element {at}: {value}, {}", values[at]);
            }
        }
    }
}

/// The scales are those of the encoder, and rounding onto them is no worse than the encoder: as good in K-quants, whose
/// reference rounds onto the scales that it stores.
#[test]
fn scales_then_codes_is_no_worse_than_the_encoder() {
    let cols = 512;
    let src = rows(cols);
    let mut noise = Noise(9);
    let importance: Vec<f32> = (0..cols).map(|c| if c % 50 == 3 { 0.0 } else { noise.next().abs() * 4.0 }).collect();
    for (ty, format) in formats() {
        for importance in [None, Some(&importance[..])] {
            let bytes = encoded(ty, &src, importance);
            let mut want = vec![0; src.len()];
            let scales = format.unpack(&bytes, &mut want);
            assert_eq!(format.fit(&src, importance), scales, "{ty}");
            let codes = rounded(&format, &scales, &src);
            let mut again = vec![0; bytes.len()];
            format.pack(&scales, &codes, &mut again);
            let error = |bytes: &[u8], elems: std::ops::Range<usize>| -> f64 {
                decoded(ty, bytes)[elems.clone()].iter().zip(&src[elems]).map(|(a, b)| f64::from(a - b).powi(2)).sum()
            };
            for row in (0..src.len()).step_by(cols) {
                let (ours, reference) = (error(&again, row..row + cols), error(&bytes, row..row + cols));
                assert!(ours <= reference * (1.0 + 1e-5), "{ty}, row {}: {ours} > {reference}", row / cols);
            }
            if ty.name().starts_with('Q') && ty.name().ends_with("_K") {
                for (at, code) in codes.iter().enumerate() {
                    let (block, j) = (at / format.block_elems(), at % format.block_elems());
                    let same = format.grid(&scales[block]).group(j).step == 0.0 || *code == want[at];
                    assert!(same, "{ty}, element {at}: code {code}, {} of the encoder", want[at]);
                }
            }
        }
    }
}

#[test]
fn nearest_is_nearest() {
    let mut noise = Noise(3);
    for (ty, format) in formats() {
        let bytes = any_blocks(ty, &format, 4);
        let mut codes = vec![0; 4 * format.block_elems()];
        for scales in format.unpack(&bytes, &mut codes) {
            let grid = format.grid(&scales);
            for j in 0..format.block_elems() {
                let x = noise.next() * 2.0 * grid.value(j, 0).abs();
                let error = |code: u8| f64::from(grid.value(j, code) - x).abs();
                let least = (0..=u8::MAX).take(format.levels().n_codes()).map(error).fold(f64::MAX, f64::min);
                let ours = error(grid.nearest(j, x));
                assert!(
                    ours <= least + 1e-6 * f64::from(x).abs(),
                    "{ty}: {ours} > {least} for {x} in {:?}",
                    grid.group(j)
                );
            }
        }
    }
}

/// What is on the grid already stays where it is.
#[test]
fn rounding_again_changes_nothing() {
    for (ty, format) in formats() {
        let bytes = any_blocks(ty, &format, 12);
        let values = decoded(ty, &bytes);
        let mut codes = vec![0; values.len()];
        let scales = format.unpack(&bytes, &mut codes);
        let again = rounded(&format, &scales, &values);
        let mut stored = vec![0; bytes.len()];
        format.pack(&scales, &again, &mut stored);
        let wrong = decoded(ty, &stored).iter().zip(&values).position(|(a, b)| a != b);
        assert_eq!(wrong, None, "{ty}: first element that moved");
    }
}

/// A run of a codebook is the best of all entries with all signs that can be stored.
#[test]
fn runs_are_the_best_of_the_codebook() {
    let mut noise = Noise(5);
    for (ty, format) in formats() {
        let Some(codebook) = format.codebook else { continue };
        for weighted in [false, true] {
            let run = if codebook.even_signs { 8 } else { codebook.entry_elems };
            let mut scales =
                Scales { d: half::f16::from_f32(if weighted { -0.01 } else { 0.01 }), ..Scales::default() };
            scales.scales = [3; MAX_GROUPS];
            let grid = format.grid(&scales);
            assert_eq!(grid.run_elems(), run);
            let x: Vec<f32> = (0..run).map(|_| noise.next() * 30.0 * grid.group(0).step).collect();
            let weights: Vec<f32> = (0..run).map(|_| noise.next().abs()).collect();
            let weights = weighted.then_some(&weights[..]);
            let mut codes = vec![0; run];
            grid.round(0, &x, weights, &mut codes);
            let cost = |i: usize, code: u8| {
                f64::from(weights.map_or(1.0, |weights| weights[i])) * f64::from(grid.value(i, code) - x[i]).powi(2)
            };
            let ours: f64 = (0..run).map(|i| cost(i, codes[i])).sum();
            let n = codebook.entry_elems;
            let mut least = f64::MAX;
            for signs in 0..1u32 << run {
                if codebook.even_signs && signs.count_ones() % 2 == 1 {
                    continue;
                }
                let part = |part: usize| {
                    let of = |entry: &[u8]| -> f64 {
                        let code = |i: usize| codebook.code(format.levels, entry[i % n], signs >> i & 1 == 1);
                        (part * n..(part + 1) * n).map(|i| cost(i, code(i))).sum()
                    };
                    codebook.entries.chunks_exact(n).map(of).fold(f64::MAX, f64::min)
                };
                least = least.min((0..run / n).map(part).sum());
            }
            assert!(ours <= least * (1.0 + 1e-5), "{ty}: {ours} > {least}");
        }
    }
}

/// What is in range comes back, and one step further panics.
#[test]
fn packing_refuses_what_a_format_has_no_bits_for() {
    for (ty, format) in formats() {
        let bytes = any_blocks(ty, &format, 1);
        let mut codes = vec![0; format.block_elems()];
        let usual = format.unpack(&bytes, &mut codes)[0];
        let packed = |scales: Scales, codes: &[u8]| {
            let mut bytes = vec![0; ty.block_bytes()];
            format.pack(&[scales], codes, &mut bytes);
            format.unpack(&bytes, &mut vec![0; codes.len()])[0]
        };
        let refuses = |scales: Scales, codes: &[u8]| std::panic::catch_unwind(|| packed(scales, codes)).is_err();
        let n_groups = format.n_groups();
        assert_eq!(n_groups * format.group_elems(), format.block_elems(), "{ty}");
        for g in 0..MAX_GROUPS {
            let with_scale = |scale| {
                let mut changed = usual;
                changed.scales[g] = scale;
                changed
            };
            let with_min = |min| {
                let mut changed = usual;
                changed.mins[g] = min;
                changed
            };
            let scales = format.scale_range().filter(|_| g < n_groups).unwrap_or(0..=0);
            let mins = format.min_range().filter(|_| g < n_groups).unwrap_or(0..=0);
            for scale in [*scales.start(), *scales.end()] {
                assert_eq!(packed(with_scale(scale), &codes), with_scale(scale), "{ty}");
            }
            for min in [*mins.start(), *mins.end()] {
                assert_eq!(packed(with_min(min), &codes), with_min(min), "{ty}");
            }
            for scale in [scales.start().checked_sub(1), scales.end().checked_add(1)].into_iter().flatten() {
                assert!(refuses(with_scale(scale), &codes), "{ty}, scale {scale} of group {g}");
            }
            for min in [mins.start().checked_sub(1), mins.end().checked_add(1)].into_iter().flatten() {
                assert!(refuses(with_min(min), &codes), "{ty}, minimum {min} of group {g}");
            }
        }
        assert_eq!(refuses(Scales { dmin: half::f16::ONE, ..usual }, &codes), !format.has_dmin(), "{ty}");
        if let Ok(beyond) = u8::try_from(format.levels().n_codes()) {
            codes[5] = beyond;
            assert!(refuses(usual, &codes), "{ty}, code {beyond}");
        }
    }
}
