//! Every layout on every ISA: the bits of the stated order, and right within rounding.

use super::*;
use crate::isa::IsaLevel;
use crate::matmul::tests::noise;

/// Sides beside those of tiles, runs, tasks and blocks.
const SHAPES: [(usize, usize, usize); 14] = [
    (0, 3, 3),
    (3, 0, 3),
    (3, 3, 0),
    (1, 1, 1),
    (1, 17, 257),
    (15, 16, 15),
    (17, 15, 256),
    (12, 32, 33),
    (13, 33, 16),
    (23, 49, 529),
    (257, 17, 15),
    (16, 257, 17),
    (1537, 3, 2),
    (2, 1550, 2),
];

/// A matrix with unused elements at the end of each row, either way round.
struct Operand {
    data: Vec<f32>,
    rows: usize,
    cols: usize,
    transposed: bool,
}

impl Operand {
    fn new(seed: u64, rows: usize, cols: usize, transposed: bool) -> Self {
        let (outer, inner) = if transposed { (cols, rows) } else { (rows, cols) };
        Self { data: noise(seed, outer * (inner + 3)), rows, cols, transposed }
    }

    fn matrix(&self) -> MatRef<'_> {
        if self.transposed {
            MatRef::strided(&self.data, self.cols, self.rows, self.rows + 3).t()
        } else {
            MatRef::strided(&self.data, self.rows, self.cols, self.cols + 3)
        }
    }

    fn at(&self, row: usize, col: usize) -> f32 {
        if self.transposed { self.data[col * (self.rows + 3) + row] } else { self.data[row * (self.cols + 3) + col] }
    }
}

/// The order as the module states it.
fn oracle(a: &Operand, b: &Operand, store: Store, c: &mut [f32], stride: usize) {
    for i in 0..a.rows {
        for j in 0..b.cols {
            let c = &mut c[i * stride + j];
            if store == Store::Set {
                *c = 0.0;
            }
            for first in (0..a.cols).step_by(RUN) {
                let run = first..a.cols.min(first + RUN);
                let sum = run.fold(0.0f32, |sum, k| a.at(i, k).mul_add(b.at(k, j), sum));
                match store {
                    Store::Set if first == 0 => *c = sum,
                    Store::Set | Store::Add => *c += sum,
                    Store::Sub => *c -= sum,
                }
            }
        }
    }
}

/// Every ISA, on one thread and on several.
fn processors() -> Vec<Cpu> {
    let levels = IsaLevel::ALL.iter().copied().filter(|level| level.is_supported());
    levels.flat_map(|level| [1, 3].map(|threads| Cpu::new(threads, Some(level)).unwrap())).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn every_way_has_the_bits_of_the_stated_order() {
    let processors = processors();
    for (m, n, k) in SHAPES {
        for transposed in [[false, false], [false, true], [true, false], [true, true]] {
            let a = Operand::new(1, m, k, transposed[0]);
            let b = Operand::new(2, k, n, transposed[1]);
            for store in [Store::Set, Store::Add, Store::Sub] {
                // Elements between rows are not the product's.
                let stride = n + 2;
                let before = noise(3, m * stride);
                let mut expected = before.clone();
                oracle(&a, &b, store, &mut expected, stride);
                for cpu in &processors {
                    let mut c = before.clone();
                    cpu.gemm(a.matrix(), b.matrix(), store, &mut c, stride);
                    assert!(bits(&c) == bits(&expected), "{m}x{n}x{k} {transposed:?} {store:?} {cpu:?}");
                }
            }
        }
    }
}

#[test]
fn products_are_right_within_rounding() {
    let cpu = Cpu::new(2, None).unwrap();
    let (m, n, k) = (19, 37, 700);
    let (a, b) = (Operand::new(4, m, k, false), Operand::new(5, k, n, true));
    let mut c = vec![f32::NAN; m * n];
    cpu.gemm(a.matrix(), b.matrix(), Store::Set, &mut c, n);
    for i in 0..m {
        for j in 0..n {
            let terms = || (0..k).map(|k| f64::from(a.at(i, k)) * f64::from(b.at(k, j)));
            let (exact, magnitude) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
            let error = (f64::from(c[i * n + j]) - exact).abs();
            // A rounding per step is the worst case; their errors hardly ever all point one way.
            assert!(error <= 8.0 * f64::from(f32::EPSILON) * magnitude, "({i}, {j}): {error} of {magnitude}");
        }
    }
}

#[test]
fn gram_is_the_symmetric_product_and_does_not_read_below_the_diagonal() {
    let processors = processors();
    for (tokens, n) in [(0, 5), (1, 1), (3, 16), (300, 17), (20, 145), (5, 300), (1, 1560)] {
        let x = noise(6, tokens * n);
        let x = MatRef::new(&x, tokens, n);
        let mut expected = noise(7, n * n);
        for i in 0..n {
            for j in 0..i {
                expected[i * n + j] = expected[j * n + i];
            }
        }
        let mut before = expected.clone();
        for i in 0..n {
            before[i * n..][..i].fill(f32::NAN);
        }
        Cpu::new(1, None).unwrap().gemm(x.t(), x, Store::Add, &mut expected, n);
        for cpu in &processors {
            let mut c = before.clone();
            cpu.gram(x, &mut c);
            assert!(bits(&c) == bits(&expected), "{tokens} rows of {n} {cpu:?}");
        }
    }
}

#[test]
fn what_is_not_finite_stays_in_its_row_and_column() {
    let (m, n, k) = (14, 35, 20);
    for cpu in processors() {
        let (mut a, mut b) = (noise(8, m * k), noise(9, k * n));
        a[13 * k + 2] = f32::INFINITY;
        b[5 * n + 34] = f32::NAN;
        let mut c = vec![0.0; m * n];
        cpu.gemm(MatRef::new(&a, m, k), MatRef::new(&b, k, n), Store::Set, &mut c, n);
        for (at, value) in c.iter().enumerate() {
            assert_eq!(value.is_finite(), at / n != 13 && at % n != 34, "{at} {cpu:?}");
        }
    }
}

#[test]
#[should_panic(expected = "inner dimensions")]
fn shapes_that_do_not_match_are_refused() {
    let cpu = Cpu::new(1, None).unwrap();
    cpu.gemm(MatRef::new(&[0.0; 6], 2, 3), MatRef::new(&[0.0; 8], 4, 2), Store::Set, &mut [0.0; 4], 2);
}

#[test]
#[should_panic(expected = "a result in its place")]
fn a_result_that_is_too_short_is_refused() {
    let cpu = Cpu::new(1, None).unwrap();
    cpu.gemm(MatRef::new(&[0.0; 6], 2, 3), MatRef::new(&[0.0; 6], 3, 2), Store::Set, &mut [0.0; 4], 3);
}
