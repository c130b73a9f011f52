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
                let mut sum = isa.splat(0.0);
                for k in (0..cols).step_by(16) {
                    sum = isa.add(sum, isa.load(x.as_ptr().add(k)));
                }
                let mean = isa.splat(isa.sum(sum) * inverse_count);
                let mut squares = isa.splat(0.0);
                for k in (0..cols).step_by(16) {
                    let d = isa.sub(isa.load(x.as_ptr().add(k)), mean);
                    squares = isa.fma(d, d, squares);
                }
                let scale = isa.splat(1.0 / (isa.sum(squares) * inverse_count + self.eps).sqrt());
                for k in (0..cols).step_by(16) {
                    let normal = isa.mul(isa.sub(isa.load(x.as_ptr().add(k)), mean), scale);
                    let y = isa.fma(normal, isa.load(self.gamma.as_ptr().add(k)), isa.load(self.beta.as_ptr().add(k)));
                    isa.store(out.as_mut_ptr().add(k), y);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;
    use crate::isa::IsaLevel;

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
