//! Softmax of whole rows in memory, and its gradient: for networks that are differentiated. A forward pass alone has
//! attention and log-sum-exp, which keep no row.

use crate::cpu::Cpu;
use crate::isa::{Isa, Kernel};
use crate::math;
use crate::shared::SharedMut;

/// Rows of which each sees some elements from its start on.
#[derive(Clone, Copy, Debug)]
pub struct SeenRows {
    /// Elements of a row.
    pub cols: usize,
    /// Elements that the first row sees. Each row sees one more than the row before it, up to all.
    pub first: usize,
}

impl SeenRows {
    /// Rows that see all of their `cols` elements.
    pub fn all(cols: usize) -> Self {
        Self { cols, first: cols }
    }

    fn seen(self, row: usize) -> usize {
        self.cols.min(self.first + row)
    }
}

impl Cpu {
    /// `x = softmax(scale * x)`, row by row over what each row sees, and 0 for the rest. A row that sees a value that
    /// is not finite becomes NaN.
    ///
    /// # Panics
    /// If `x` is not whole rows.
    pub fn softmax(&self, rows: SeenRows, scale: f32, x: &mut [f32]) {
        let cols = rows.cols;
        assert!(x.len().is_multiple_of(cols), "whole rows");
        let (n, x) = (x.len() / cols, SharedMut::new(x));
        self.team().run_ranges(n, 1, &|range| {
            // SAFETY: the ranges of different tasks do not overlap.
            let x = unsafe { x.slice(range.start * cols, range.len() * cols) };
            self.dispatch(Forward { rows, first: range.start, scale, x });
        });
    }

    /// From the gradient at `p = softmax(scale * x)` to that at x: `dp = scale * p * (dp - sum(p * dp))`, row by row
    /// over what each row sees, and 0 for the rest.
    ///
    /// # Panics
    /// If lengths differ or are not whole rows.
    pub fn softmax_backward(&self, rows: SeenRows, scale: f32, p: &[f32], dp: &mut [f32]) {
        let cols = rows.cols;
        assert!(p.len() == dp.len() && p.len().is_multiple_of(cols), "whole rows");
        let dp = SharedMut::new(dp);
        self.team().run_ranges(p.len() / cols, 1, &|range| {
            let (start, len) = (range.start * cols, range.len() * cols);
            // SAFETY: the ranges of different tasks do not overlap.
            let dp = unsafe { dp.slice(start, len) };
            self.dispatch(Backward { rows, first: range.start, scale, p: &p[start..][..len], dp });
        });
    }
}

struct Forward<'a> {
    rows: SeenRows,
    /// Number of the first row.
    first: usize,
    scale: f32,
    x: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    /// Order: largest scaled element; exponentials of the distances to it; their sum in 16 lanes; times its inverse.
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for (i, row) in self.x.chunks_exact_mut(self.rows.cols).enumerate() {
            let (seen, hidden) = row.split_at_mut(self.rows.seen(self.first + i));
            hidden.fill(0.0);
            let (whole, rest) = seen.as_chunks_mut::<16>();
            // Missing elements are so small that their exponential is 0, and no infinity that would count as broken.
            let mut last = [f32::MIN; 16];
            for (to, x) in last.iter_mut().zip(&*rest) {
                *to = *x * self.scale;
            }
            let (scale, mut broken) = (isa.splat(self.scale), isa.splat(0.0));
            // SAFETY: all pointers are to arrays of 16 floats.
            unsafe {
                let mut largest = isa.load(last.as_ptr());
                for x in whole.iter_mut() {
                    let scaled = isa.mul(isa.load(x.as_ptr()), scale);
                    broken = isa.add(broken, isa.sub(scaled, scaled));
                    largest = isa.max(largest, scaled);
                    isa.store(x.as_mut_ptr(), scaled);
                }
                if isa.sum(broken) != 0.0 || !last.iter().all(|x| x.is_finite()) {
                    seen.fill(f32::NAN);
                    continue;
                }
                let max = isa.splat(isa.max_lane(largest));
                let mut sum = isa.splat(0.0);
                for x in whole.iter_mut().chain([&mut last]) {
                    let e = math::exp(isa, isa.sub(isa.load(x.as_ptr()), max));
                    sum = isa.add(sum, e);
                    isa.store(x.as_mut_ptr(), e);
                }
                let inverse = isa.splat(1.0 / isa.sum(sum));
                for x in whole.iter_mut().chain([&mut last]) {
                    isa.store(x.as_mut_ptr(), isa.mul(isa.load(x.as_ptr()), inverse));
                }
            }
            rest.copy_from_slice(&last[..rest.len()]);
        }
    }
}

struct Backward<'a> {
    rows: SeenRows,
    /// Number of the first row.
    first: usize,
    scale: f32,
    p: &'a [f32],
    dp: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();

    /// Order: `sum(p * dp)` in 16 lanes by fused multiply-add; then each element.
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let cols = self.rows.cols;
        for (i, (p, dp)) in self.p.chunks_exact(cols).zip(self.dp.chunks_exact_mut(cols)).enumerate() {
            let seen = self.rows.seen(self.first + i);
            let (dp, hidden) = dp.split_at_mut(seen);
            hidden.fill(0.0);
            let (ps, p_rest) = p[..seen].as_chunks::<16>();
            let (dps, dp_rest) = dp.as_chunks_mut::<16>();
            let (mut p_last, mut dp_last) = ([0.0; 16], [0.0; 16]);
            p_last[..p_rest.len()].copy_from_slice(p_rest);
            dp_last[..p_rest.len()].copy_from_slice(dp_rest);
            let mut sum = isa.splat(0.0);
            // SAFETY: all pointers are to arrays of 16 floats.
            unsafe {
                for (p, dp) in ps.iter().chain([&p_last]).zip(dps.iter().chain([&dp_last])) {
                    sum = isa.fma(isa.load(p.as_ptr()), isa.load(dp.as_ptr()), sum);
                }
                let (mean, scale) = (isa.splat(isa.sum(sum)), isa.splat(self.scale));
                for (p, dp) in ps.iter().chain([&p_last]).zip(dps.iter_mut().chain([&mut dp_last])) {
                    let distance = isa.sub(isa.load(dp.as_ptr()), mean);
                    isa.store(dp.as_mut_ptr(), isa.mul(isa.mul(isa.load(p.as_ptr()), scale), distance));
                }
            }
            dp_rest.copy_from_slice(&dp_last[..p_rest.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::IsaLevel;

    const SCALE: f32 = 0.25;

    fn run(level: IsaLevel, threads: usize, rows: SeenRows, x: &[f32], dp: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let cpu = Cpu::new(threads, Some(level)).unwrap();
        let (mut p, mut dx) = (x.to_vec(), dp.to_vec());
        cpu.softmax(rows, SCALE, &mut p);
        cpu.softmax_backward(rows, SCALE, &p, &mut dx);
        (p, dx)
    }

    #[test]
    fn rows_are_those_of_f64_and_bits_agree() {
        for rows in [SeenRows { cols: 37, first: 1 }, SeenRows { cols: 64, first: 61 }, SeenRows::all(5)] {
            let n = 7 * rows.cols;
            let x: Vec<f32> = (0..n).map(|i| (i * 7919 % 401) as f32 / 10.0 - 20.0).collect();
            let dp: Vec<f32> = (0..n).map(|i| (i * 31 % 97) as f32 / 50.0 - 1.0).collect();
            let (p, dx) = run(IsaLevel::Scalar, 1, rows, &x, &dp);
            for row in 0..7 {
                let (at, seen) = (row * rows.cols, rows.cols.min(rows.first + row));
                let e: Vec<f64> = x[at..][..seen].iter().map(|&x| f64::from(x * SCALE).exp()).collect();
                let sum: f64 = e.iter().sum();
                let mean: f64 = e.iter().zip(&dp[at..]).map(|(e, &dp)| e / sum * f64::from(dp)).sum();
                for i in 0..rows.cols {
                    let want = if i < seen { e[i] / sum } else { 0.0 };
                    let slope = f64::from(SCALE) * want * (f64::from(dp[at + i]) - mean);
                    assert!((f64::from(p[at + i]) - want).abs() < 1e-6, "row {row}, {i} of {seen}");
                    assert!((f64::from(dx[at + i]) - slope).abs() < 1e-6, "row {row}, {i} of {seen}");
                }
            }
            for &level in IsaLevel::ALL.iter().filter(|level| level.is_supported()) {
                assert!(run(level, 3, rows, &x, &dp) == (p.clone(), dx.clone()), "{level}");
            }
        }
    }

    #[test]
    fn what_is_not_finite_shows_in_its_row_only() {
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [3, 18] {
                let mut x = vec![1.0; 60];
                x[20 + at] = broken;
                let cpu = Cpu::new(1, None).unwrap();
                cpu.softmax(SeenRows::all(20), 1.0, &mut x);
                assert!(x[20..40].iter().all(|x| x.is_nan()), "{broken} at {at}");
                assert!(x[..20].iter().chain(&x[40..]).all(|&x| (x - 0.05).abs() < 1e-6));
            }
        }
    }
}
