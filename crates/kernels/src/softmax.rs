//! Log-sum-exp and first of the largest of a row of logits, in parts that a device can hand over instead of the logits.

use crate::isa::{Isa, Kernel};
use crate::math;

/// Logits that share a maximum. Their sum fits f32 lanes, and a row may come chunk by chunk.
pub(crate) const CHUNK: usize = LogSumPart::LOGITS;

/// What a run of consecutive logits adds to what is known of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct LogSumPart {
    /// The largest of them.
    pub max: f32,
    /// The sum of the exponentials of their distances to `max`; NaN if a logit is not finite.
    pub sum: f32,
    /// Where in the run the first logit is that equals `max`; 0 if a logit is not finite.
    pub first: u32,
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

/// What a row of logits predicts, in natural logarithms.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prediction {
    /// `ln softmax(logits)[target]`. NaN if a logit of the row is infinite or not a number.
    pub log_likelihood: f64,
    /// The first token with the largest logit: the target is this token, or has a smaller log-likelihood, or is a later
    /// token that ties with it. 0 if a logit is not finite.
    pub best: u32,
    /// `ln softmax(logits)[best]`. NaN if a logit is not finite.
    pub best_log_likelihood: f64,
}

impl Prediction {
    /// From the target's logit and the parts of its row, in order.
    pub fn new<'a>(target: f32, parts: impl Iterator<Item = &'a LogSumPart> + Clone) -> Self {
        let log_sum = LogSumPart::log_sum_exp(parts.clone());
        if log_sum.is_nan() {
            return Self { log_likelihood: f64::NAN, best: 0, best_log_likelihood: f64::NAN };
        }
        let (mut best, mut max) = (0, f32::NEG_INFINITY);
        for (part, start) in parts.zip((0..).step_by(LogSumPart::LOGITS)) {
            if part.max > max {
                (best, max) = (start + part.first, part.max);
            }
        }
        Self { log_likelihood: f64::from(target) - log_sum, best, best_log_likelihood: f64::from(max) - log_sum }
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
        return LogSumPart { max: 0.0, sum: f32::NAN, first: 0 };
    }
    let sum = isa.sum(isa.add(sum, math::exp(isa, isa.sub(tail, shift))));
    LogSumPart { max, sum, first: first_of(chunk, max) as u32 }
}

/// Where the first element is that equals `wanted`; 0 if none does.
#[inline(always)]
fn first_of(chunk: &[f32], wanted: f32) -> usize {
    // All 16 are compared, which compiles to vector code: the search costs less than a tenth of the exponentials.
    let (whole, _) = chunk.as_chunks::<16>();
    let without = |lanes: &&[f32; 16]| !lanes.iter().fold(false, |found, &x| found | (x == wanted));
    let start = 16 * whole.iter().take_while(without).count();
    chunk[start..].iter().position(|&x| x == wanted).map_or(0, |at| start + at)
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

    #[test]
    fn the_best_is_the_first_of_the_largest() {
        for len in [1, 15, 16, 17, 1023, 1024, 1025, 2048, 3001] {
            // Few values, so that many tie; then a largest that is there once or twice, and zeros of both signs.
            let few: Vec<f32> = (0..len).map(|i| ((i * 7919) % 13) as f32).collect();
            let mut rows = vec![few.clone(), vec![-3.5; len], (0..len).map(|i| [-0.0, 0.0][i % 2]).collect()];
            for at in [0, len / 3, len / 2, len - 1] {
                let mut row = few.clone();
                row[at] = 20.0;
                rows.push(row.clone());
                row[len - 1] = 20.0;
                rows.push(row);
            }
            for row in rows {
                let max = row.iter().fold(f32::MIN, |max, &x| max.max(x));
                let best = row.iter().position(|&x| x == max).unwrap();
                let log_sum = Supported::scalar().dispatch(LogSumExp(&row));
                for isa in Supported::all() {
                    let mut parts = Vec::new();
                    for logits in row.chunks(CHUNK) {
                        let mut part = [LogSumPart::default()];
                        isa.dispatch(Parts { logits, len: logits.len(), parts: &mut part });
                        parts.extend(part);
                    }
                    let got = Prediction::new(row[len / 2], parts.iter());
                    assert_eq!(got.best as usize, best, "{} of {len}", isa.level());
                    let likelihoods = [got.log_likelihood, got.best_log_likelihood].map(f64::to_bits);
                    let want = [row[len / 2], row[best]].map(|x| (f64::from(x) - log_sum).to_bits());
                    assert_eq!(likelihoods, want, "{} of {len}", isa.level());
                }
            }
        }
    }
}
