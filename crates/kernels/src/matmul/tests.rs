//! Every format on every ISA: right within rounding, and the same bits however it is run.

use super::*;
use crate::cpu::Cpu;
use crate::isa::IsaLevel;
use crate::softmax::Prediction;
use pythia_tensor::{TensorType, blocks};
use std::mem::offset_of;

/// Values like a layer's: mostly small, some large, reproducible.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..len).map(|_| (next() + next() + next()) * if next() > 0.48 { 6.0 } else { 1.0 }).collect()
}

/// Where the f16 scales and minima of a block lie.
fn scale_offsets(ty: TensorType) -> &'static [usize] {
    match ty {
        TensorType::F32 | TensorType::F16 | TensorType::BF16 => &[],
        TensorType::Q4_1 | TensorType::Q5_1 | TensorType::Q4_K | TensorType::Q5_K => &[0, 2],
        TensorType::Q2_K => &[offset_of!(blocks::Q2_K, d), offset_of!(blocks::Q2_K, dmin)],
        TensorType::Q3_K => &[offset_of!(blocks::Q3_K, d)],
        TensorType::Q6_K => &[offset_of!(blocks::Q6_K, d)],
        _ => &[0],
    }
}

struct Case {
    ty: TensorType,
    rows: usize,
    cols: usize,
    data: Vec<u8>,
    layout: Layout,
    x: Vec<f32>,
    bias: Vec<f32>,
}

impl Case {
    fn new(ty: TensorType, rows: usize, cols: usize, n: usize) -> Self {
        let mut data = vec![0; rows * ty.row_bytes(cols).expect("whole blocks")];
        ty.encode(&noise(rows as u64, rows * cols), &mut data);
        let (x, bias) = (noise(n as u64 + 99, n * cols), noise(7, rows));
        Self { ty, rows, cols, data, layout: Layout::Rows, x, bias }
    }

    /// Blocks that no encoder would write: every bit at random, except that scales are numbers.
    fn scrambled(ty: TensorType, rows: usize, cols: usize, n: usize) -> Self {
        let mut case = Self::new(ty, rows, cols, n);
        let bits = noise(rows as u64 + 5, case.data.len());
        for (byte, x) in case.data.iter_mut().zip(bits) {
            *byte = x.to_bits().to_le_bytes()[1];
        }
        for block in case.data.chunks_mut(ty.block_bytes()) {
            for &at in scale_offsets(ty) {
                block[at + 1] &= 0xBF; // below 2
            }
        }
        case
    }

    /// The same with its rows interleaved. They are if 16 divides them and the type is one of those.
    fn interleaved(&self) -> Option<Self> {
        let mut data = self.data.clone();
        let layout = Cpu::new(2, None).unwrap().arrange(self.ty, self.rows, Activations::Int8, &mut data);
        let Self { ty, rows, cols, ref x, ref bias, .. } = *self;
        let rows_only = ["F", "BF", "Q5_0", "Q5_1", "IQ2", "IQ3"];
        let interleaves = !rows_only.iter().any(|start| ty.to_string().starts_with(start));
        assert_eq!(layout == Layout::Interleaved, interleaves && rows.is_multiple_of(LANES), "{ty} {rows}");
        (layout == Layout::Interleaved).then(|| Self { ty, rows, cols, data, layout, x: x.clone(), bias: bias.clone() })
    }

    fn weights(&self) -> Weights<'_> {
        Weights { ty: self.ty, rows: self.rows, cols: self.cols, data: &self.data, layout: self.layout }
    }

    /// The product, `x` handed over in pieces of `batch` rows. The output starts as NaN, so that an element nobody
    /// wrote is seen.
    fn run(&self, cpu: &Cpu, activations: Activations, batch: usize) -> Vec<u32> {
        let weights = self.weights();
        let mut workspace = Workspace::default();
        let mut out = vec![f32::NAN; self.x.len() / self.cols * self.rows];
        for (x, out) in self.x.chunks(batch * self.cols).zip(out.chunks_mut(batch * self.rows)) {
            let bias = Some(&self.bias[..]);
            let matmul = Matmul { weights, x, bias, epilogue: Epilogue::Store, activations, out };
            cpu.matmul(matmul, &mut workspace);
        }
        out.into_iter().map(f32::to_bits).collect()
    }
}

fn levels() -> impl Iterator<Item = IsaLevel> {
    IsaLevel::ALL.iter().copied().filter(|l| l.is_supported())
}

#[test]
fn bits_do_not_depend_on_isa_threads_or_batch() {
    // AArch64 is emulated in CI: each number of threads once there.
    let all = || [1, 2, 4].into_iter().flat_map(|threads| [1, 2, 3, 6, 7, 12, 29].map(|batch| (threads, batch)));
    let ways = if cfg!(target_arch = "aarch64") { vec![(1, 1), (2, 3), (2, 7), (4, 29)] } else { all().collect() };
    for &ty in TensorType::ALL {
        // Also odd numbers of blocks, and of 32 elements.
        let odd = 5 * ty.block_elems().max(32);
        let shapes = [(1, 256), (37, 512), (64, 768), (20, odd), (48, odd)];
        let regular = shapes.map(|(rows, cols)| Case::new(ty, rows, cols, 29));
        let scrambled = [35, 48].map(|rows| ty.is_quantized().then(|| Case::scrambled(ty, rows, 768, 29)));
        for case in regular.into_iter().chain(scrambled.into_iter().flatten()) {
            let (rows, cols) = (case.rows, case.cols);
            let interleaved = case.interleaved();
            for activations in [Activations::Int8, Activations::F32] {
                let want = case.run(&Cpu::new(1, Some(IsaLevel::Scalar)).unwrap(), activations, 1);
                let interleaved = interleaved.as_ref().filter(|_| activations == Activations::Int8);
                for level in levels() {
                    for &(threads, batch) in &ways {
                        let cpu = Cpu::new(threads, Some(level)).unwrap();
                        for case in std::iter::once(&case).chain(interleaved) {
                            let (same, layout) = (case.run(&cpu, activations, batch) == want, case.layout);
                            assert!(
                                same,
                                "{ty} {rows}x{cols} {layout:?} {level} {threads} threads batch {batch} {activations:?}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn rows_that_are_interleaved_can_be_read_one_by_one() {
    let mut interleaved = 0;
    for &ty in TensorType::ALL {
        let case = Case::new(ty, 48, 3 * ty.block_elems().max(32), 1);
        let Some(other) = case.interleaved() else { continue };
        interleaved += 1;
        assert_ne!(case.data, other.data, "{ty}");
        for row in 0..48 {
            let (mut a, mut b) = (Vec::new(), vec![7; 3]);
            assert_eq!(case.weights().row(row, &mut a), other.weights().row(row, &mut b), "{ty} {row}");
        }
    }
    assert_eq!(interleaved, 10, "of the types");
    // What has no whole groups, or is read by other products, stays as it is.
    let cpu = Cpu::new(2, None).unwrap();
    for (rows, activations) in [(17, Activations::Int8), (32, Activations::F32)] {
        let mut case = Case::new(TensorType::Q4_0, rows, 64, 1);
        let before = case.data.clone();
        assert_eq!(cpu.arrange(case.ty, rows, activations, &mut case.data), Layout::Rows);
        assert_eq!(case.data, before);
    }
}

/// What products with f32 activations see of quantized weights, on every ISA and in every layout, rows missing at the
/// end too.
#[test]
fn decoded_weights_have_the_bits_of_the_scalar_decoder() {
    for &ty in TensorType::ALL.iter().filter(|ty| ty.is_quantized()) {
        let cols = 3 * ty.block_elems().max(32);
        let float::Storage::Blocks(decoder) = storage(ty) else { panic!("{ty} has blocks") };
        for case in [Case::new(ty, 37, cols, 1), Case::scrambled(ty, 37, cols, 1)] {
            let weights = case.weights();
            let mut want = vec![0.0; case.rows * cols];
            ty.decode(&case.data, &mut want);
            for level in Supported::all() {
                for (first, group) in [(0, 1), (16, 2), (0, 4), (32, 1), (32, 4)] {
                    let mut out = vec![Lanes([f32::NAN; LANES]); cols];
                    (decoder.panel)(level, &weights, first, group, &mut out);
                    for row in 0..LANES {
                        let want = &want[(first + row).min(case.rows - 1) * cols..][..cols];
                        let start = row / group * group * (cols / LANES) + row % group;
                        let got = out[start..].iter().step_by(group).flat_map(|lanes| lanes.0).map(f32::to_bits);
                        let same = got.take(cols).eq(want.iter().map(|value| value.to_bits()));
                        assert!(same, "{ty} {} row {first} + {row}, by {group}", level.level());
                    }
                }
            }
        }
    }
}

/// Rows longer than a stretch of the float product, whose last stretch is a short one.
#[test]
fn long_rows_have_the_same_bits() {
    for ty in [TensorType::F32, TensorType::F16, TensorType::BF16, TensorType::Q8_0] {
        let case = Case::new(ty, 21, 2 * 1024 + 96, 15);
        let want = case.run(&Cpu::new(1, Some(IsaLevel::Scalar)).unwrap(), Activations::F32, 1);
        for level in levels() {
            for batch in [1, 4, 15] {
                let same = case.run(&Cpu::new(2, Some(level)).unwrap(), Activations::F32, batch) == want;
                assert!(same, "{ty} {level} batch {batch}");
            }
        }
    }
}

/// With f32 activations only the order of sums separates the product from a sum in f64; with int8 ones also the
/// rounding of activations: half a step of `amax / 127` per element.
#[test]
fn products_are_right() {
    for &ty in TensorType::ALL {
        let case = Case::new(ty, 48, 512, 5);
        let mut w = vec![0.0; 48 * 512];
        ty.decode(&case.data, &mut w);
        let cpu = Cpu::new(2, None).unwrap();
        for activations in [Activations::F32, Activations::Int8] {
            let got = case.run(&cpu, activations, 5);
            for (i, got) in got.iter().map(|&b| f64::from(f32::from_bits(b))).enumerate() {
                let (n, r) = (i / 48, i % 48);
                let (x, w) = (&case.x[n * 512..][..512], &w[r * 512..][..512]);
                let products = x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w));
                let want = products.sum::<f64>() + f64::from(case.bias[r]);
                let rounding: f64 = match activations {
                    Activations::Int8 if ty.is_quantized() => {
                        let step = |x: &[f32]| f64::from(x.iter().fold(0.0f32, |m, x| m.max(x.abs()))) / 254.0;
                        let blocks = x.chunks(32).zip(w.chunks(32));
                        blocks.map(|(x, w)| step(x) * w.iter().map(|w| f64::from(w.abs())).sum::<f64>()).sum()
                    }
                    _ => 0.0,
                };
                assert!((got - want).abs() <= rounding + 1e-4, "{ty} {activations:?} [{n}, {r}]: {got}, want {want}");
            }
        }
    }
}

#[test]
fn epilogues_add_and_bend() {
    // 37 rows: two vectors and a part of one. 1 and 3 rows of x: both kernels.
    for (ty, n) in [(TensorType::Q8_0, 1), (TensorType::Q8_0, 3), (TensorType::F16, 3)] {
        let case = Case::new(ty, 37, 256, n);
        let cpu = Cpu::new(2, None).unwrap();
        let weights = case.weights();
        let run = |epilogue, bias, start: f32| {
            let mut out = vec![start; n * 37];
            let activations = Activations::Int8;
            cpu.matmul(
                Matmul { weights, x: &case.x, bias, epilogue, activations, out: &mut out },
                &mut Workspace::default(),
            );
            out
        };
        let plain = run(Epilogue::Store, None, f32::NAN);
        let with_bias: Vec<f32> = plain.iter().zip(case.bias.iter().cycle()).map(|(p, b)| p + b).collect();
        for (bias, sums) in [(None, &plain), (Some(&case.bias[..]), &with_bias)] {
            assert_eq!(&run(Epilogue::Store, bias, f32::NAN), sums);
            let added: Vec<f32> = sums.iter().map(|sum| 2.0 + sum).collect();
            assert_eq!(run(Epilogue::Add, bias, 2.0), added);
            for gelu in [Gelu::Tanh, Gelu::Erf] {
                for (&x, bent) in sums.iter().zip(run(Epilogue::Gelu(gelu), bias, f32::NAN)) {
                    let x = f64::from(x);
                    let want = match gelu {
                        Gelu::Tanh => 0.5 * x * (1.0 + libm::tanh(0.797_884_560_8 * (x + 0.044_715 * x * x * x))),
                        Gelu::Erf => 0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt())),
                    };
                    assert!((f64::from(bent) - want).abs() < 1e-5, "{ty} {gelu:?}: {bent}, want {want}");
                }
            }
        }
    }
}

/// Codes at both ends with activations at both ends: where 16-bit intermediates would saturate.
#[test]
fn extremes_do_not_saturate() {
    for &ty in TensorType::ALL.iter().filter(|t| t.is_quantized()) {
        let block = ty.block_bytes();
        // All bits set, scales 1.0: the largest codes and group scales; also the most negative group scales, and for
        // Q8_0 -128, which no encoder writes but a file may hold.
        for fill in [0xFFu8, 0x80, 0x7F, 0x00] {
            let mut data = vec![fill; 16 * block * (256 / ty.block_elems())];
            for b in data.chunks_mut(block) {
                for &at in scale_offsets(ty) {
                    b[at..at + 2].copy_from_slice(&half::f16::ONE.to_le_bytes());
                }
            }
            let mut w = vec![0.0; 16 * 256];
            ty.decode(&data, &mut w);
            let (layout, x, bias) = (Layout::Rows, Vec::new(), vec![0.0; 16]);
            let mut case = Case { ty, rows: 16, cols: 256, data, layout, x, bias };
            // Pairs of one sign, and runs as long as any chain of sums.
            for signs in [[-1.0, -1.0, 1.0, 1.0, 1.0, 1.0], [1.0; 6], [-1.0; 6]] {
                case.x = (0..3 * 256).map(|i| 127.0 * signs[i % 6]).collect();
                let exact: f32 = w[..256].iter().zip(&case.x).map(|(w, x)| w * x).sum();
                for level in levels() {
                    let cpu = Cpu::new(1, Some(level)).unwrap();
                    let interleaved = case.interleaved();
                    for case in std::iter::once(&case).chain(&interleaved) {
                        for batch in [1, 2, 3] {
                            let got = f32::from_bits(case.run(&cpu, Activations::Int8, batch)[0]);
                            let near = (got - exact).abs() <= exact.abs() * 1e-5;
                            assert!(near, "{ty} {fill:#x} {signs:?} {level} {:?}: {got}, want {exact}", case.layout);
                        }
                    }
                }
            }
        }
    }
}

/// What is not a number must not turn into one, on any ISA: a maximum or a rounding could lose it.
#[test]
fn a_broken_activation_breaks_its_row_and_no_other() {
    for &ty in TensorType::ALL {
        for broken in [f32::NAN, f32::INFINITY] {
            let mut case = Case::new(ty, 16, 256, 3);
            case.x[256 + 77] = broken;
            for level in levels() {
                for batch in [1, 3] {
                    let out = case.run(&Cpu::new(1, Some(level)).unwrap(), Activations::Int8, batch);
                    let lost = out.iter().enumerate().find(|&(i, &y)| f32::from_bits(y).is_finite() == (i / 16 == 1));
                    assert_eq!(lost, None, "{ty} {level} batch {batch} {broken}");
                }
            }
        }
    }
}

/// All of a prediction, as bits.
fn bits_of(prediction: &Prediction) -> (u64, u32, u64) {
    (prediction.log_likelihood.to_bits(), prediction.best, prediction.best_log_likelihood.to_bits())
}

/// The predictions, `x` handed over in pieces of `batch` rows.
fn predictions(case: &Case, cpu: &Cpu, targets: &[u32], activations: Activations, batch: usize) -> Vec<Prediction> {
    let weights = case.weights();
    let mut workspace = Workspace::default();
    let mut out = vec![Prediction::default(); targets.len()];
    let pieces = case.x.chunks(batch * case.cols).zip(targets.chunks(batch)).zip(out.chunks_mut(batch));
    for ((x, targets), out) in pieces {
        cpu.predict(Predict { weights, x, targets, activations, out }, &mut workspace);
    }
    out
}

#[test]
fn predictions_are_those_of_the_logits() {
    for (ty, activations) in [
        (TensorType::Q4_0, Activations::Int8),
        (TensorType::Q4_K, Activations::Int8),
        (TensorType::Q6_K, Activations::Int8),
        (TensorType::Q6_K, Activations::F32),
        (TensorType::F16, Activations::F32),
    ] {
        // One chunk, whole chunks, and what neither 16 nor 1024 divides.
        for (rows, n) in [(7, 7), (1024, 1), (1030, 7), (2048, 64), (2051, 64)] {
            let mut case = Case::new(ty, rows, 256, n);
            case.bias.fill(0.0);
            // Every row a second time, so that the largest logit is there twice: in one chunk or in two.
            let half = case.data.len() / rows * (rows / 2);
            case.data.copy_within(..half, half);
            let oracle = Cpu::new(1, Some(IsaLevel::Scalar)).unwrap();
            let logits: Vec<f32> = case.run(&oracle, activations, n).into_iter().map(f32::from_bits).collect();
            let targets: Vec<u32> = (0..n).map(|i| (i * 7919 + rows - 1) as u32 % rows as u32).collect();
            let want: Vec<_> = logits
                .chunks(rows)
                .zip(&targets)
                .map(|(row, &target)| {
                    let best = (0..rows).rev().max_by(|&a, &b| row[a].partial_cmp(&row[b]).unwrap()).unwrap();
                    let likelihood = |token: usize| (f64::from(row[token]) - oracle.log_sum_exp(row)).to_bits();
                    (likelihood(target as usize), best as u32, likelihood(best))
                })
                .collect();
            let interleaved = case.interleaved().filter(|_| activations == Activations::Int8);
            for level in levels() {
                for (threads, batch) in [(1, n), (2, n), (4, n), (2, 1), (4, 3)] {
                    let cpu = Cpu::new(threads, Some(level)).unwrap();
                    for case in std::iter::once(&case).chain(&interleaved) {
                        let got = predictions(case, &cpu, &targets, activations, batch);
                        let got: Vec<_> = got.iter().map(bits_of).collect();
                        assert_eq!(
                            got, want,
                            "{ty} {rows} rows, {n} of x, {:?} {level} {threads} threads batch {batch}",
                            case.layout
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_broken_logit_breaks_its_prediction_and_no_other() {
    const HUGE: f32 = 1e30;
    // Two inputs that overflow in one row of the weights alone: to +inf, -inf and inf - inf.
    for inputs in [[HUGE, 0.0], [-HUGE, 0.0], [HUGE, -HUGE]] {
        for at in [0, 1023, 1024, 1029] {
            let mut case = Case::new(TensorType::F32, 1030, 32, 3);
            for (row, weights) in case.data.chunks_mut(4 * 32).enumerate() {
                let weight = if row == at { HUGE } else { 0.0 };
                weights[4 * 5..][..4].copy_from_slice(&weight.to_le_bytes());
                weights[4 * 21..][..4].copy_from_slice(&weight.to_le_bytes());
            }
            for (i, x) in case.x.chunks_mut(32).enumerate() {
                [x[5], x[21]] = if i == 1 { inputs } else { [0.0; 2] };
            }
            for level in levels() {
                let cpu = Cpu::new(2, Some(level)).unwrap();
                let got = predictions(&case, &cpu, &[3, 3, 3], Activations::F32, 3);
                let finite: Vec<bool> = got.iter().map(|y| y.log_likelihood.is_finite()).collect();
                assert_eq!(finite, [true, false, true], "{level} {inputs:?} at {at}");
                assert!(got[1].best == 0 && got[1].best_log_likelihood.is_nan(), "{level} {inputs:?} at {at}");
            }
        }
    }
}

#[test]
fn tiles_cover_all_rows_in_order() {
    let mut tiles = Vec::new();
    for largest in [TileSize::Three, TileSize::Four, TileSize::Six] {
        for n in 1..100 {
            cut_into_tiles(n, largest, &mut tiles);
            let mut next = 0;
            for &(first, size) in &tiles {
                assert!(first == next && size <= largest, "{n}: {tiles:?}");
                next += size as usize;
            }
            assert_eq!(next, n, "{tiles:?}");
        }
    }
    cut_into_tiles(17, TileSize::Six, &mut tiles);
    assert_eq!(tiles.iter().map(|(_, size)| *size as usize).collect::<Vec<_>>(), [6, 4, 4, 3]);
}
