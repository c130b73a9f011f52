//! What a product's epilogue does, outside of it: GELU with its derivative, and sums. For networks that keep what enters.

use crate::cpu::Cpu;
use crate::isa::{Isa, Kernel};
use crate::math;
use crate::matmul::Gelu;
use crate::shared::SharedMut;

/// Elements that a task takes at a time.
const GRAIN: usize = 4096;

impl Cpu {
    /// `x = gelu(x)`, element by element.
    pub fn gelu(&self, gelu: Gelu, x: &mut [f32]) {
        let (n, x) = (x.len(), SharedMut::new(x));
        self.team().run_ranges(n, GRAIN, &|range| {
            // SAFETY: the ranges of different tasks do not overlap.
            let x = unsafe { x.slice(range.start, range.len()) };
            self.dispatch(Forward { gelu, x });
        });
    }

    /// `y += x`, element by element: the residual connection of a product that was stored on its own.
    ///
    /// # Panics
    /// If lengths differ.
    pub fn add(&self, x: &[f32], y: &mut [f32]) {
        assert_eq!(x.len(), y.len(), "a number to add to every number");
        self.team().run_pieces(y, GRAIN, |piece, y| {
            y.iter_mut().zip(&x[piece * GRAIN..]).for_each(|(y, x)| *y += x);
        });
    }

    /// `dy *= gelu'(x)`, element by element: from the gradient at the output of GELU to that at its input `x`.
    ///
    /// # Panics
    /// If lengths differ.
    pub fn gelu_backward(&self, gelu: Gelu, x: &[f32], dy: &mut [f32]) {
        assert_eq!(x.len(), dy.len(), "an input for every gradient");
        let dy = SharedMut::new(dy);
        self.team().run_ranges(x.len(), GRAIN, &|range| {
            // SAFETY: the ranges of different tasks do not overlap.
            let dy = unsafe { dy.slice(range.start, range.len()) };
            self.dispatch(Backward { gelu, x: &x[range], dy });
        });
    }
}

struct Forward<'a> {
    gelu: Gelu,
    x: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (whole, rest) = self.x.as_chunks_mut::<16>();
        let mut last = [0.0; 16];
        last[..rest.len()].copy_from_slice(rest);
        for x in whole.iter_mut().chain([&mut last]) {
            // SAFETY: an array of 16 floats.
            unsafe {
                let value = isa.load(x.as_ptr());
                let value = match self.gelu {
                    Gelu::Erf => math::gelu_erf(isa, value),
                    Gelu::Tanh => math::gelu_tanh(isa, value),
                };
                isa.store(x.as_mut_ptr(), value);
            }
        }
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

struct Backward<'a> {
    gelu: Gelu,
    x: &'a [f32],
    dy: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (xs, x_rest) = self.x.as_chunks::<16>();
        let (dys, dy_rest) = self.dy.as_chunks_mut::<16>();
        let (mut x_last, mut dy_last) = ([0.0; 16], [0.0; 16]);
        x_last[..x_rest.len()].copy_from_slice(x_rest);
        dy_last[..x_rest.len()].copy_from_slice(dy_rest);
        for (x, dy) in xs.iter().chain([&x_last]).zip(dys.iter_mut().chain([&mut dy_last])) {
            // SAFETY: arrays of 16 floats.
            unsafe {
                let x = isa.load(x.as_ptr());
                let slope = match self.gelu {
                    Gelu::Erf => math::gelu_erf_slope(isa, x),
                    Gelu::Tanh => math::gelu_tanh_slope(isa, x),
                };
                isa.store(dy.as_mut_ptr(), isa.mul(isa.load(dy.as_ptr()), slope));
            }
        }
        dy_rest.copy_from_slice(&dy_last[..x_rest.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::IsaLevel;

    #[test]
    fn slopes_are_those_of_differences_and_bits_agree() {
        let x: Vec<f32> = (0..1003).map(|i| (i as f32 - 500.0) / 60.0).collect();
        for gelu in [Gelu::Erf, Gelu::Tanh] {
            let run = |level, threads, shift: f32| {
                let cpu = Cpu::new(threads, Some(level)).unwrap();
                let mut y: Vec<f32> = x.iter().map(|x| x + shift).collect();
                cpu.gelu(gelu, &mut y);
                let mut slopes = vec![2.0; x.len()];
                cpu.gelu_backward(gelu, &x, &mut slopes);
                (y, slopes)
            };
            let step = 1.0 / 64.0;
            let (want, slopes) = run(IsaLevel::Scalar, 1, 0.0);
            let (above, below) = (run(IsaLevel::Scalar, 1, step).0, run(IsaLevel::Scalar, 1, -step).0);
            for (i, slope) in slopes.iter().enumerate() {
                let difference = (above[i] - below[i]) / (2.0 * step);
                assert!((slope / 2.0 - difference).abs() < 3e-4, "{gelu:?} at {}: {slope} {difference}", x[i]);
            }
            for &level in IsaLevel::ALL.iter().filter(|level| level.is_supported()) {
                assert!(run(level, 3, 0.0) == (want.clone(), slopes.clone()), "{level}");
            }
        }
    }
}
