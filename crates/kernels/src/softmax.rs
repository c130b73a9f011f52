//! Log-sum-exp of a row of logits.

use crate::isa::{Isa, Kernel};
use crate::math;

/// Elements summed in f32 lanes before the sum moves to f64.
const CHUNK: usize = 1024;

/// `ln(sum(exp(logits)))`, in f64.
///
/// Order: f32 exponentials of the distance to the largest; within each 1024 elements lane l sums elements l, l + 16,
/// ...; chunks are added in order in f64. NaN if a logit is not finite.
pub(crate) struct LogSumExp<'a>(pub(crate) &'a [f32]);

impl Kernel for LogSumExp<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> f64 {
        let (whole, rest) = self.0.as_chunks::<16>();
        let mut tail = [f32::NEG_INFINITY; 16];
        tail[..rest.len()].copy_from_slice(rest);
        // SAFETY: an array of 16 floats.
        let mut largest = unsafe { isa.load(tail.as_ptr()) };
        for lanes in whole {
            // SAFETY: an array of 16 floats.
            largest = isa.max(largest, unsafe { isa.load(lanes.as_ptr()) });
        }
        let max = isa.max_lane(largest);
        let shift = isa.splat(max);
        // Stays 0 unless a logit is infinite or not a number: then the verbs above may have lost it.
        let mut broken = isa.splat(0.0);
        let mut total = 0.0f64;
        for chunk in whole.chunks(CHUNK / 16) {
            let mut sum = isa.splat(0.0);
            for lanes in chunk {
                // SAFETY: an array of 16 floats.
                let x = unsafe { isa.load(lanes.as_ptr()) };
                sum = isa.add(sum, math::exp(isa, isa.sub(x, shift)));
                broken = isa.add(broken, isa.sub(x, x));
            }
            total += f64::from(isa.sum(sum));
        }
        if isa.sum(broken) != 0.0 || !rest.iter().all(|x| x.is_finite()) {
            return f64::NAN;
        }
        // SAFETY: an array of 16 floats. Missing lanes are -inf, whose exponential is 0.
        let rest = unsafe { isa.load(tail.as_ptr()) };
        total += f64::from(isa.sum(math::exp(isa, isa.sub(rest, shift))));
        f64::from(max) + libm::log(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Level;

    #[test]
    fn agrees_with_f64_and_across_isas() {
        for len in [1, 15, 16, 17, 1024, 4096, 50_304] {
            let x: Vec<f32> = (0..len).map(|i| ((i * 7919) % 4001) as f32 / 100.0 - 25.0).collect();
            let max = x.iter().fold(f32::MIN, |m, &v| m.max(v));
            let want = f64::from(max) + x.iter().map(|&v| f64::from(v - max).exp()).sum::<f64>().ln();
            let got = Level::Scalar.dispatch(LogSumExp(&x));
            assert!((got - want).abs() < 1e-6, "{len}: {got}, want {want}");
            for &level in Level::ALL.iter().filter(|l| l.is_supported()) {
                assert_eq!(level.dispatch(LogSumExp(&x)).to_bits(), got.to_bits(), "{level}");
                for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    let mut x = x.clone();
                    x[len / 2] = broken;
                    assert!(level.dispatch(LogSumExp(&x)).is_nan(), "{level} {broken}");
                }
            }
        }
    }
}
