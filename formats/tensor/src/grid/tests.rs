//! Codecs of the grid formats against other programs (`goldens.txt`, written by `tools/codebooks.py`), and what those
//! cannot show.

use super::*;
use crate::blocks::{self, Codec};

/// Of the rows of noise.
const COLUMNS: usize = 512;

macro_rules! of_format {
    ($name:expr, $function:ident($($argument:expr),*)) => {
        match $name {
            "IQ2_XXS" => $function::<blocks::IQ2_XXS>($($argument),*),
            "IQ2_XS" => $function::<blocks::IQ2_XS>($($argument),*),
            "IQ2_S" => $function::<blocks::IQ2_S>($($argument),*),
            "IQ3_XXS" => $function::<blocks::IQ3_XXS>($($argument),*),
            "IQ3_S" => $function::<blocks::IQ3_S>($($argument),*),
            other => panic!("no such format: {other}"),
        }
    };
}

fn decode<B: Codec>(bytes: &[u8]) -> Vec<f32> {
    let mut values = vec![0.0; bytes.len() / size_of::<B>() * B::ELEMS];
    for (block, values) in blocks::cast::<B>(bytes).iter().zip(values.chunks_exact_mut(B::ELEMS)) {
        block.decode(values);
    }
    values
}

fn encode<B: Codec>(src: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    let mut bytes = vec![0; src.len() / B::ELEMS * size_of::<B>()];
    B::encode(src, importance, blocks::cast_mut::<B>(&mut bytes));
    bytes
}

fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// The numbers that the goldens were made of.
struct Noise(u64);

impl Noise {
    fn draw(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f32::from((self.0 >> 48) as u16)
    }

    /// Elements: a smooth hump, or of all magnitudes and with zeros.
    fn row(&mut self, wild: bool) -> Vec<f32> {
        let smooth = |noise: &mut Self| ((0..4).map(|_| noise.draw()).sum::<f32>() - 131_070.0) / 131_072.0;
        let any = |noise: &mut Self| {
            let value = (noise.draw() - 32_768.0) * (noise.draw() % 25.0 - 30.0).exp2();
            if noise.draw() % 8.0 == 0.0 { 0.0 } else { value }
        };
        (0..COLUMNS).map(|_| if wild { any(self) } else { smooth(self) }).collect()
    }

    fn importance(&mut self, wild: bool) -> Vec<f32> {
        let smooth = |noise: &mut Self| (noise.draw() + 1.0) / 1024.0;
        let any = |noise: &mut Self| {
            let value = (noise.draw() % 33.0 - 16.0).exp2();
            if noise.draw() % 4.0 == 0.0 { 0.0 } else { value }
        };
        (0..COLUMNS).map(|_| if wild { any(self) } else { smooth(self) }).collect()
    }
}

#[test]
fn codecs_do_as_the_references() {
    for line in include_str!("goldens.txt").lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["decode", name, block, hash] => {
                let bytes: Vec<u8> =
                    (0..block.len()).step_by(2).map(|i| u8::from_str_radix(&block[i..i + 2], 16).unwrap()).collect();
                let values = of_format!(name, decode(&bytes));
                assert_eq!(format!("{:016x}", fnv1a(values.into_iter().flat_map(f32::to_le_bytes))), hash, "{name}");
            }
            ["encode", name, kind, weights, block] => {
                let wild = kind == "wild";
                let mut noise = Noise(1 + u64::from(wild));
                let (row, importance) = (noise.row(wild), noise.importance(wild));
                let bytes = of_format!(name, encode(&row, (weights == "weighted").then_some(&importance[..])));
                let got: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(got, block, "{name}, {kind} row, {weights}");
            }
            _ => panic!("a line of another kind: {line}"),
        }
    }
}

/// Mean squared error of a row and its encoding, in mean squares of the row.
fn relative_error<B: Codec>(row: &[f32]) -> f32 {
    let decoded = decode::<B>(&encode::<B>(row, None));
    let square = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>();
    square(&mut row.iter().zip(&decoded).map(|(a, b)| a - b)) / square(&mut row.iter().copied())
}

const NAMES: [&str; 5] = ["IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"];

/// llama.cpp's IQ3_S stores what follows an empty group in the place of that group, and so spoils the block.
#[test]
fn an_empty_group_spoils_nothing() {
    let mut row = Noise(3).row(false);
    row[32..64].fill(0.0);
    row[256..288].fill(0.0);
    for (name, limit) in NAMES.into_iter().zip([0.13, 0.11, 0.1, 0.06, 0.05]) {
        let error = of_format!(name, relative_error(&row));
        assert!(error < limit, "{name}: {error}");
    }
}

/// Nothing to go by: no importance at all, or numbers that are none. llama.cpp ends the process at the latter.
#[test]
fn what_is_not_a_number_does_no_harm() {
    let mut row = Noise(4).row(false);
    (row[3], row[40], row[300]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
    for name in NAMES {
        of_format!(name, encode(&row, None));
        assert!(of_format!(name, encode(&[1.0; COLUMNS], Some(&[0.0; COLUMNS]))).len() > 2 * 2);
        let zeros = of_format!(name, encode(&[0.0; COLUMNS], None));
        assert!(zeros.iter().all(|&byte| byte == 0), "{name}");
    }
}

/// The codebooks are sets, and use all levels.
#[test]
fn entries_are_distinct() {
    fn check<const DIM: usize>(entries: &[[u8; DIM]], levels: &[u8]) {
        let used: std::collections::BTreeSet<u8> = entries.as_flattened().iter().copied().collect();
        assert_eq!(used.into_iter().collect::<Vec<_>>(), levels);
        assert_eq!(entries.iter().collect::<std::collections::BTreeSet<_>>().len(), entries.len());
        assert_eq!(entries[0], [levels[0]; DIM]);
    }
    check(&IQ2_XXS, &LEVELS_2);
    check(&IQ2_XS, &LEVELS_2);
    check(&IQ2_S, &LEVELS_2);
    check(&IQ3_XXS, &LEVELS_3_XXS);
    check(&IQ3_S, &LEVELS_3_S);
}
