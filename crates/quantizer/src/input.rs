//! The metric of a matrix's inputs: second moments, damped, and their factors in the order of the columns.

use crate::cholesky::Cholesky;
use pythia_kernels::Team;

/// `H = E[x xT] + damping * mean(diag) * I` of the inputs of a matrix, `[n, n]`.
///
/// With `H = R D RT`, R unit upper triangular, the error of a row `e = q - w` costs
/// `e H eT = sum of D_k (q_k - t_k)^2`, where `t_k = w_k - sum over j < k of e_j R_jk`: every column has the target
/// that makes up for the columns before it. This is the error feedback of GPTQ (Frantar et al., 2022) written as LDLQ
/// (Chee et al., "QuIP", 2023).
#[derive(Clone, Debug)]
pub struct InputMetric {
    n: usize,
    /// Damped moments.
    pub(crate) h: Vec<f32>,
    /// R, row by row.
    pub(crate) r: Vec<f32>,
    /// D.
    pub(crate) d: Vec<f32>,
    /// What damping added to the diagonal.
    pub(crate) added: f64,
    /// The factor of the damped moments with rows and columns reversed, for solving.
    back: Cholesky,
}

/// How often damping grows tenfold before moments are given up.
const RETRIES: usize = 8;

impl InputMetric {
    /// The metric of these moments, `[n, n]`. Damping grows until the factors exist. `None` if the moments are not
    /// finite.
    pub fn new(team: &Team, moments: &[f32], n: usize, damping: f64) -> Option<Self> {
        assert_eq!(moments.len(), n * n, "a square matrix");
        if moments.iter().any(|x| !x.is_finite()) {
            return None;
        }
        let mean = (0..n).map(|i| f64::from(moments[i * n + i])).sum::<f64>() / n as f64;
        // Inputs that were always zero: any metric will do.
        let unit = if mean > 0.0 { mean } else { 1.0 };
        let mut damping = damping.max(1e-6);
        for _ in 0..RETRIES {
            let added = damping * unit;
            // Column k of the factor of the reversed matrix is column n - 1 - k of R.
            let mut reversed: Vec<f64> = moments.iter().rev().map(|&x| f64::from(x)).collect();
            (0..n).for_each(|i| reversed[i * n + i] += added);
            if let Some(back) = Cholesky::new(team, reversed, n) {
                let (r, d) = unit_upper(&back, n);
                let mut h = moments.to_vec();
                (0..n).for_each(|i| h[i * n + i] = (f64::from(h[i * n + i]) + added) as f32);
                return Some(Self { n, h, r, d, added, back });
            }
            damping *= 10.0;
        }
        None
    }

    /// Number of inputs.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Damped mean square of every input.
    pub fn diagonal(&self) -> Vec<f32> {
        (0..self.n).map(|i| self.h[i * self.n + i]).collect()
    }

    /// Replaces each row b of `rows` by `b H^-1`.
    pub fn solve_rows(&self, team: &Team, rows: &mut [f64]) {
        let n = self.n;
        let reverse = |rows: &mut [f64]| rows.chunks_exact_mut(n).for_each(<[f64]>::reverse);
        reverse(rows);
        self.back.solve_rows(team, rows);
        reverse(rows);
    }
}

/// R and D from the Cholesky factor of the matrix with rows and columns reversed.
pub(crate) fn unit_upper(back: &Cholesky, n: usize) -> (Vec<f32>, Vec<f32>) {
    let mut r = vec![0.0; n * n];
    let mut d = vec![0.0; n];
    for i in 0..n {
        for j in 0..=i {
            r[(n - 1 - i) * n + (n - 1 - j)] = (back.at(i, j) / back.at(j, j)) as f32;
        }
        d[n - 1 - i] = (back.at(i, i) * back.at(i, i)) as f32;
    }
    (r, d)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cholesky::tests::moments;

    #[test]
    fn the_factors_give_the_moments() {
        let (team, n) = (Team::new(2), 70);
        let h: Vec<f32> = moments(n, 3).iter().map(|&x| x as f32).collect();
        let metric = InputMetric::new(&team, &h, n, 0.01).unwrap();
        for i in 0..n {
            for j in 0..n {
                let product: f32 = (0..n).map(|k| metric.r[i * n + k] * metric.d[k] * metric.r[j * n + k]).sum();
                assert!((product - metric.h[i * n + j]).abs() < 1e-4, "{i} {j}");
            }
            assert_eq!(metric.r[i * n + i], 1.0);
        }
        let mut x: Vec<f64> = (0..2 * n).map(|i| (i % 7) as f64).collect();
        let b = x.clone();
        metric.solve_rows(&team, &mut x);
        for (x, b) in x.chunks_exact(n).zip(b.chunks_exact(n)) {
            for j in 0..n {
                let product: f64 = (0..n).map(|k| x[k] * f64::from(metric.h[k * n + j])).sum();
                assert!((product - b[j]).abs() < 1e-3, "{product} {}", b[j]);
            }
        }
    }

    #[test]
    fn moments_of_nothing_and_of_one_direction_have_a_metric() {
        let team = Team::new(1);
        assert!(InputMetric::new(&team, &[0.0; 16], 4, 0.01).is_some());
        assert!(InputMetric::new(&team, &[1e-20; 16], 4, 0.0).is_some());
        assert!(InputMetric::new(&team, &[f32::INFINITY; 16], 4, 0.01).is_none());
    }
}
