//! Cholesky factors of a symmetric positive definite matrix, in f64.
//!
//! Moments of activations have condition numbers of a million and more, so f32 would not do. The order of every sum is
//! fixed: blocks of [`BLOCK`] columns, in each one step after the other.

use pythia_kernels::Team;

/// Columns that are eliminated at a time.
const BLOCK: usize = 64;

/// Rows that one task updates.
const TASK_ROWS: usize = 16;

/// Right-hand sides that are solved at a time: as many lanes share every element of the factor that is read.
const LANES: usize = 16;

/// The lower factor L of `A = L LT`, `[n, n]`, row by row. What is above the diagonal is not used.
#[derive(Clone, Debug)]
pub(crate) struct Cholesky {
    n: usize,
    l: Vec<f64>,
}

impl Cholesky {
    /// Factors the lower triangle of `a`. `None` if it is not positive definite.
    pub(crate) fn new(team: &Team, mut a: Vec<f64>, n: usize) -> Option<Self> {
        assert_eq!(a.len(), n * n, "a square matrix");
        for start in (0..n).step_by(BLOCK) {
            let end = n.min(start + BLOCK);
            factor_diagonal(&mut a, n, start..end)?;
            let (above, below) = a.split_at_mut(end * n);
            let diagonal = &above[start * n..];
            team.run_pieces(below, TASK_ROWS * n, |_, rows| {
                for row in rows.chunks_exact_mut(n) {
                    for j in start..end {
                        let factor = &diagonal[(j - start) * n..][..n];
                        let sum = (start..j).fold(row[j], |sum, k| sum - row[k] * factor[k]);
                        row[j] = sum / factor[j];
                    }
                }
            });
            // What was found, by columns: the update then runs along rows of both.
            let rest = n - end;
            let mut columns = vec![0.0; (end - start) * rest];
            for (i, row) in below.chunks_exact(n).enumerate() {
                for (k, &x) in row[start..end].iter().enumerate() {
                    columns[k * rest + i] = x;
                }
            }
            team.run_pieces(below, TASK_ROWS * n, |task, rows| {
                for (i, row) in rows.chunks_exact_mut(n).enumerate() {
                    let len = task * TASK_ROWS + i + 1;
                    let (found, later) = row.split_at_mut(end);
                    subtract_products(&found[start..], &columns, rest, &mut later[..len]);
                }
            });
        }
        Some(Self { n, l: a })
    }

    /// Element (i, j), j <= i.
    pub(crate) fn at(&self, i: usize, j: usize) -> f64 {
        self.l[i * self.n + j]
    }

    /// Replaces each row b of `rows` by x with `x A = b`.
    pub(crate) fn solve_rows(&self, team: &Team, rows: &mut [f64]) {
        let n = self.n;
        team.run_pieces(rows, LANES * n, |_, rows| {
            let mut x = vec![[0.0; LANES]; n];
            for (lane, row) in rows.chunks_exact(n).enumerate() {
                x.iter_mut().zip(row).for_each(|(x, &b)| x[lane] = b);
            }
            for j in 0..n {
                let factor = &self.l[j * n..][..=j];
                let (known, rest) = x.split_at_mut(j);
                let sum = &mut rest[0];
                for (x, &l) in known.iter().zip(factor) {
                    (0..LANES).for_each(|lane| sum[lane] -= x[lane] * l);
                }
                sum.iter_mut().for_each(|sum| *sum /= factor[j]);
            }
            for j in (0..n).rev() {
                let factor = &self.l[j * n..][..=j];
                let (rest, known) = x.split_at_mut(j);
                let value = &mut known[0];
                value.iter_mut().for_each(|value| *value /= factor[j]);
                for (x, &l) in rest.iter_mut().zip(factor) {
                    (0..LANES).for_each(|lane| x[lane] -= value[lane] * l);
                }
            }
            for (lane, row) in rows.chunks_exact_mut(n).enumerate() {
                row.iter_mut().zip(&x).for_each(|(b, x)| *b = x[lane]);
            }
        });
    }
}

/// Factors a block on the diagonal from which all earlier columns are subtracted.
fn factor_diagonal(a: &mut [f64], n: usize, block: std::ops::Range<usize>) -> Option<()> {
    for i in block.clone() {
        for j in block.start..=i {
            let sum = (block.start..j).fold(a[i * n + j], |sum, k| sum - a[i * n + k] * a[j * n + k]);
            if i != j {
                a[i * n + j] = sum / a[j * n + j];
            } else if sum > 0.0 && sum.is_finite() {
                a[i * n + i] = sum.sqrt();
            } else {
                return None;
            }
        }
    }
    Some(())
}

/// `row -= sum of factors[k] * columns[k]`; column k starts at `k * stride`.
fn subtract_products(factors: &[f64], columns: &[f64], stride: usize, row: &mut [f64]) {
    let len = row.len();
    let column = |k: usize| &columns[k * stride..][..len];
    let mut k = 0;
    // Four at a time, so that the row is read and written once for four of them.
    while k + 4 <= factors.len() {
        let (a, b, c, d) = (column(k), column(k + 1), column(k + 2), column(k + 3));
        let [fa, fb, fc, fd] = [factors[k], factors[k + 1], factors[k + 2], factors[k + 3]];
        for i in 0..a.len() {
            row[i] -= fa * a[i] + fb * b[i] + (fc * c[i] + fd * d[i]);
        }
        k += 4;
    }
    for (k, &factor) in factors.iter().enumerate().skip(k) {
        let column = &columns[k * stride..][..row.len()];
        row.iter_mut().zip(column).for_each(|(x, c)| *x -= factor * c);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A positive definite matrix with correlations, and small numbers on the diagonal.
    pub(crate) fn moments(n: usize, seed: u64) -> Vec<f64> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as f64 / f64::from(1u32 << 30) - 1.0
        };
        let rows: Vec<Vec<f64>> = (0..n + 3)
            .map(|_| {
                let common = next();
                (0..n).map(|j| (next() + common) * (1.0 + j as f64 / n as f64)).collect()
            })
            .collect();
        let mut a = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..n {
                a[i * n + j] = rows.iter().map(|row| row[i] * row[j]).sum::<f64>() / rows.len() as f64;
            }
            a[i * n + i] += 0.01;
        }
        a
    }

    #[test]
    fn the_factor_gives_the_matrix_and_solves_for_it() {
        for n in [1, 5, 64, 65, 150] {
            let a = moments(n, 7);
            let teams = [Team::new(1), Team::new(3)];
            let factors = teams.each_ref().map(|team| Cholesky::new(team, a.clone(), n).unwrap());
            assert_eq!(factors[0].l, factors[1].l, "threads");
            let l = &factors[0];
            for i in 0..n {
                for j in 0..=i {
                    let product: f64 = (0..=j).map(|k| l.at(i, k) * l.at(j, k)).sum();
                    assert!((product - a[i * n + j]).abs() < 1e-10, "{n}: {i} {j}");
                }
            }
            let mut x: Vec<f64> = (0..17 * n).map(|i| (i % 13) as f64 - 6.0).collect();
            let b = x.clone();
            l.solve_rows(&teams[1], &mut x);
            for (x, b) in x.chunks_exact(n).zip(b.chunks_exact(n)) {
                for j in 0..n {
                    let product: f64 = (0..n).map(|k| x[k] * a[k * n + j]).sum();
                    assert!((product - b[j]).abs() < 1e-7, "{n}: {product} {}", b[j]);
                }
            }
        }
    }

    #[test]
    fn what_is_not_positive_definite_is_refused() {
        let team = Team::new(1);
        for a in [vec![1.0, 0.0, 2.0, 1.0], vec![f64::NAN, 0.0, 0.0, 1.0], vec![-1.0, 0.0, 0.0, 1.0]] {
            assert!(Cholesky::new(&team, a, 2).is_none());
        }
    }
}
