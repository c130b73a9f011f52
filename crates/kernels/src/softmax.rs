//! Log-sum-exp of logits, in parts that a device can hand over instead of the logits.

use crate::isa::{Isa, Kernel};
use crate::math;

/// Logits that share a maximum. Their sum fits f32 lanes, and a row may come chunk by chunk.
pub(crate) const CHUNK: usize = LogSumPart::LOGITS;

/// What a run of consecutive logits adds to a log-sum-exp.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct LogSumPart {
    /// The largest of them.
    pub max: f32,
    /// The sum of the exponentials of their distances to `max`; NaN if a logit is not finite.
    pub sum: f32,
}

impl LogSumPart {
    /// Logits of a run; the last run of a row may have fewer.
    pub const LOGITS: usize = 1024;

    /// The log-sum-exp of a row from its parts, in order.
    pub fn log_sum_exp<'a>(parts: impl Iterator<Item = &'a Self> + Clone) -> f64 {
        let max = f64::from(parts.clone().fold(f32::NEG_INFINITY, |max, part| max.max(part.max)));
        let total: f64 = parts.map(|part| f64::from(part.sum) * libm::exp(f64::from(part.max) - max)).sum();
        max + libm::log(total)
    }
}

/// `ln(sum(exp(logits)))` of a row, in f64. NaN if a logit is not finite.
pub(crate) struct LogSumExp<'a>(pub(crate) &'a [f32]);

impl Kernel for LogSumExp<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> f64 {
        let mut parts = Vec::with_capacity(self.0.len().div_ceil(CHUNK));
        for chunk in self.0.chunks(CHUNK) {
            parts.push(part(isa, chunk));
        }
        LogSumPart::log_sum_exp(parts.iter())
    }
}

/// The parts of one chunk of many rows: `[n, len]`, into `[n]`.
pub(crate) struct Parts<'a> {
    pub(crate) logits: &'a [f32],
    pub(crate) len: usize,
    pub(crate) parts: &'a mut [LogSumPart],
}

impl Kernel for Parts<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        assert!(self.len <= CHUNK && self.logits.len() == self.parts.len() * self.len);
        for (logits, out) in self.logits.chunks_exact(self.len).zip(self.parts) {
            *out = part(isa, logits);
        }
    }
}

/// Order: f32 exponentials of the distance to the chunk's largest; lane l sums elements l, l + 16, ...
#[inline(always)]
fn part<I: Isa>(isa: I, chunk: &[f32]) -> LogSumPart {
    let (whole, rest) = chunk.as_chunks::<16>();
    // Missing elements are -inf, whose exponential is 0.
    let mut tail = [f32::NEG_INFINITY; 16];
    tail[..rest.len()].copy_from_slice(rest);
    // SAFETY: an array of 16 floats.
    let tail = unsafe { isa.load(tail.as_ptr()) };
    let mut largest = tail;
    for lanes in whole {
        // SAFETY: an array of 16 floats.
        largest = isa.max(largest, unsafe { isa.load(lanes.as_ptr()) });
    }
    let max = isa.max_lane(largest);
    let shift = isa.splat(max);
    let mut sum = isa.splat(0.0);
    // Stays 0 unless a logit is infinite or not a number: then the operations above may have lost it.
    let mut broken = isa.splat(0.0);
    for lanes in whole {
        // SAFETY: an array of 16 floats.
        let x = unsafe { isa.load(lanes.as_ptr()) };
        sum = isa.add(sum, math::exp(isa, isa.sub(x, shift)));
        broken = isa.add(broken, isa.sub(x, x));
    }
    if isa.sum(broken) != 0.0 || !rest.iter().all(|x| x.is_finite()) {
        return LogSumPart { max: 0.0, sum: f32::NAN };
    }
    LogSumPart { max, sum: isa.sum(isa.add(sum, math::exp(isa, isa.sub(tail, shift)))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Supported;

    #[test]
    fn agrees_with_f64_and_across_isas() {
        for len in [1, 15, 16, 17, 1024, 4096, 50_304] {
            let x: Vec<f32> = (0..len).map(|i| ((i * 7919) % 4001) as f32 / 100.0 - 25.0).collect();
            let max = x.iter().fold(f32::MIN, |m, &v| m.max(v));
            let want = f64::from(max) + x.iter().map(|&v| f64::from(v - max).exp()).sum::<f64>().ln();
            let got = Supported::scalar().dispatch(LogSumExp(&x));
            assert!((got - want).abs() < 1e-6, "{len}: {got}, want {want}");
            for isa in Supported::all() {
                assert_eq!(isa.dispatch(LogSumExp(&x)).to_bits(), got.to_bits(), "{}", isa.level());
                for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    let mut x = x.clone();
                    x[len / 2] = broken;
                    assert!(isa.dispatch(LogSumExp(&x)).is_nan(), "{} {broken}", isa.level());
                }
            }
        }
    }
}
