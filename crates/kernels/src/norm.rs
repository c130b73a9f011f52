//! LayerNorm over rows.

use crate::isa::{Isa, Kernel, Supported};
use crate::shared::SharedMut;
use crate::team::Team;

/// `out = (x - mean) / sqrt(var + eps) * gamma + beta`, row by row.
#[derive(Debug)]
pub struct LayerNorm<'a> {
    /// Input: `[n, cols]`, `cols` a multiple of 16.
    pub x: &'a [f32],
    /// Scale: `[cols]`.
    pub gamma: &'a [f32],
    /// Shift: `[cols]`.
    pub beta: &'a [f32],
    /// Added to the variance.
    pub eps: f32,
    /// Output: `[n, cols]`.
    pub out: &'a mut [f32],
}

impl LayerNorm<'_> {
    pub(crate) fn run(self, team: &Team, isa: Supported) {
        let cols = self.gamma.len();
        assert!(cols.is_multiple_of(16) && self.beta.len() == cols && self.x.len().is_multiple_of(cols));
        assert_eq!(self.out.len(), self.x.len());
        let out = SharedMut::new(self.out);
        team.run_ranges(self.x.len() / cols, 1, &|rows| {
            let (first, len) = (rows.start * cols, rows.len() * cols);
            // SAFETY: the ranges of different tasks do not overlap.
            let out = unsafe { out.slice(first, len) };
            let x = &self.x[first..][..len];
            isa.dispatch(Rows { x, gamma: self.gamma, beta: self.beta, eps: self.eps, out });
        });
    }
}

struct Rows<'a> {
    x: &'a [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl Kernel for Rows<'_> {
    type Output = ();

    /// Mean, then the variance around it: two passes, each a 16-lane sum.
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let cols = self.gamma.len();
        let inverse_count = 1.0 / cols as f32;
        for (x, out) in self.x.chunks_exact(cols).zip(self.out.chunks_exact_mut(cols)) {
            // SAFETY: `x`, `out`, `gamma` and `beta` have `cols` floats, and k + 16 <= cols.
            unsafe {
                let (mean, scale) = statistics(isa, x, inverse_count, self.eps);
                for k in (0..cols).step_by(16) {
                    let normal = isa.mul(isa.sub(isa.load(x.as_ptr().add(k)), mean), scale);
                    let y = isa.fma(normal, isa.load(self.gamma.as_ptr().add(k)), isa.load(self.beta.as_ptr().add(k)));
                    isa.store(out.as_mut_ptr().add(k), y);
                }
            }
        }
    }
}

/// The gradient at the input of a LayerNorm from that at its output, row by row. With the scaled gradient
/// `g = dy * gamma`, the normal row `z = (x - mean) / sqrt(var + eps)`, and means over the row:
/// `dx += (g - mean(g) - z * mean(g * z)) / sqrt(var + eps)`.
#[derive(Debug)]
pub struct LayerNormBackward<'a> {
    /// Input of the LayerNorm: `[n, cols]`, `cols` a multiple of 16.
    pub x: &'a [f32],
    /// Scale: `[cols]`.
    pub gamma: &'a [f32],
    /// Added to the variance.
    pub eps: f32,
    /// Gradient at the output: `[n, cols]`.
    pub dy: &'a [f32],
    /// The gradient at the input is added to it: `[n, cols]`.
    pub dx: &'a mut [f32],
}

impl LayerNormBackward<'_> {
    pub(crate) fn run(self, team: &Team, isa: Supported) {
        let cols = self.gamma.len();
        assert!(cols.is_multiple_of(16) && self.x.len().is_multiple_of(cols));
        assert!(self.dy.len() == self.x.len() && self.dx.len() == self.x.len());
        let dx = SharedMut::new(self.dx);
        team.run_ranges(self.x.len() / cols, 1, &|rows| {
            let (first, len) = (rows.start * cols, rows.len() * cols);
            // SAFETY: the ranges of different tasks do not overlap.
            let dx = unsafe { dx.slice(first, len) };
            let (x, dy) = (&self.x[first..][..len], &self.dy[first..][..len]);
            isa.dispatch(RowsBackward { x, gamma: self.gamma, eps: self.eps, dy, dx });
        });
    }
}

struct RowsBackward<'a> {
    x: &'a [f32],
    gamma: &'a [f32],
    eps: f32,
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for RowsBackward<'_> {
    type Output = ();

    /// Mean and variance as in the forward pass; then both means of the gradient, each a 16-lane sum.
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let cols = self.gamma.len();
        let inverse_count = 1.0 / cols as f32;
        let rows = self.x.chunks_exact(cols).zip(self.dy.chunks_exact(cols)).zip(self.dx.chunks_exact_mut(cols));
        for ((x, dy), dx) in rows {
            // SAFETY: `x`, `dy`, `dx` and `gamma` have `cols` floats, and k + 16 <= cols.
            unsafe {
                let (mean, scale) = statistics(isa, x, inverse_count, self.eps);
                let (mut sum, mut product) = (isa.splat(0.0), isa.splat(0.0));
                for k in (0..cols).step_by(16) {
                    let g = isa.mul(isa.load(dy.as_ptr().add(k)), isa.load(self.gamma.as_ptr().add(k)));
                    let z = isa.mul(isa.sub(isa.load(x.as_ptr().add(k)), mean), scale);
                    sum = isa.add(sum, g);
                    product = isa.fma(g, z, product);
                }
                let mean_g = isa.splat(isa.sum(sum) * inverse_count);
                let mean_gz = isa.splat(isa.sum(product) * inverse_count);
                for k in (0..cols).step_by(16) {
                    let g = isa.mul(isa.load(dy.as_ptr().add(k)), isa.load(self.gamma.as_ptr().add(k)));
                    let z = isa.mul(isa.sub(isa.load(x.as_ptr().add(k)), mean), scale);
                    let rest = isa.sub(isa.sub(g, mean_g), isa.mul(z, mean_gz));
                    let at = dx.as_mut_ptr().add(k);
                    isa.store(at, isa.fma(rest, scale, isa.load(at)));
                }
            }
        }
    }
}

/// Mean of a row, and what its distances to the mean are multiplied by.
///
/// # Safety
/// The row must be a multiple of 16 floats long.
#[inline(always)]
unsafe fn statistics<I: Isa>(isa: I, x: &[f32], inverse_count: f32, eps: f32) -> (I::F, I::F) {
    // SAFETY: k + 16 is at most the length, by the caller's promise.
    unsafe {
        let mut sum = isa.splat(0.0);
        for k in (0..x.len()).step_by(16) {
            sum = isa.add(sum, isa.load(x.as_ptr().add(k)));
        }
        let mean = isa.splat(isa.sum(sum) * inverse_count);
        let mut squares = isa.splat(0.0);
        for k in (0..x.len()).step_by(16) {
            let d = isa.sub(isa.load(x.as_ptr().add(k)), mean);
            squares = isa.fma(d, d, squares);
        }
        (mean, isa.splat(1.0 / (isa.sum(squares) * inverse_count + eps).sqrt()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;
    use crate::isa::IsaLevel;

    #[test]
    fn gradients_are_those_of_f64_and_bits_agree() {
        let (cols, n, eps) = (48, 5, 1e-5);
        let x: Vec<f32> = (0..n * cols).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.03 + 2.0).collect();
        let dy: Vec<f32> = (0..n * cols).map(|i| ((i * 53 % 89) as f32 - 40.0) * 0.1).collect();
        let gamma: Vec<f32> = (0..cols).map(|i| 1.0 + i as f32 / 100.0).collect();
        let run = |level, threads| {
            let mut dx = vec![1.0; n * cols];
            let norm = LayerNormBackward { x: &x, gamma: &gamma, eps, dy: &dy, dx: &mut dx };
            Cpu::new(threads, Some(level)).unwrap().layer_norm_backward(norm);
            dx
        };
        let want = run(IsaLevel::Scalar, 1);
        // The loss `sum(dy * norm(x))` of one row in f64, by which a difference of x is tested.
        let loss = |x: &[f64], dy: &[f32]| {
            let mean = x.iter().sum::<f64>() / cols as f64;
            let var = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / cols as f64;
            let rows = x.iter().zip(dy).zip(&gamma);
            rows.map(|((x, &dy), &g)| (x - mean) / (var + f64::from(eps)).sqrt() * f64::from(g) * f64::from(dy))
                .sum::<f64>()
        };
        for (row, ((x, dy), dx)) in x.chunks(cols).zip(dy.chunks(cols)).zip(want.chunks(cols)).enumerate() {
            let x: Vec<f64> = x.iter().map(|&x| x.into()).collect();
            for j in 0..cols {
                let moved = |by: f64| {
                    loss(&x.iter().enumerate().map(|(i, x)| if i == j { x + by } else { *x }).collect::<Vec<_>>(), dy)
                };
                let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!((f64::from(dx[j]) - 1.0 - slope).abs() < 1e-4, "row {row}, {j}: {} {slope}", dx[j] - 1.0);
            }
        }
        for &level in IsaLevel::ALL.iter().filter(|l| l.is_supported()) {
            for threads in [1, 3] {
                assert!(run(level, threads).iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits()), "{level}");
            }
        }
    }

    #[test]
    fn rows_are_normalised_and_bits_agree() {
        let (cols, n) = (48, 5);
        let x: Vec<f32> = (0..n * cols).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.3 + 20.0).collect();
        let gamma: Vec<f32> = (0..cols).map(|i| 1.0 + i as f32 / 100.0).collect();
        let beta: Vec<f32> = (0..cols).map(|i| i as f32 / 10.0 - 2.0).collect();
        let run = |level, threads| {
            let mut out = vec![f32::NAN; n * cols];
            let norm = LayerNorm { x: &x, gamma: &gamma, beta: &beta, eps: 1e-5, out: &mut out };
            Cpu::new(threads, Some(level)).unwrap().layer_norm(norm);
            out
        };
        let want = run(IsaLevel::Scalar, 1);
        for (row, out) in x.chunks(cols).zip(want.chunks(cols)) {
            let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / cols as f64;
            let var = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / cols as f64;
            for (j, (&x, &y)) in row.iter().zip(out).enumerate() {
                let exact = (f64::from(x) - mean) / (var + 1e-5).sqrt() * f64::from(gamma[j]) + f64::from(beta[j]);
                assert!((f64::from(y) - exact).abs() < 1e-5, "{y}, want {exact}");
            }
        }
        for &level in IsaLevel::ALL.iter().filter(|l| l.is_supported()) {
            for threads in [1, 2, 4] {
                assert!(run(level, threads).iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits()), "{level}");
            }
        }
    }
}
