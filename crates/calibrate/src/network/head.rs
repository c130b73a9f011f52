//! The output matrix and softmax: labels, their log-likelihood, and where gradients begin.

use super::backward::Observer;
use super::{Linear, Network, Norm};
use crate::Error;
use pythia_kernels::{MatRef, SeenRows, Store, Team};
use pythia_runtime::Rng;
use std::sync::{Mutex, PoisonError};

/// Bytes of logits in memory at a time, about.
pub(crate) const LOGITS_BYTES: usize = 64 << 20;

/// The last weights of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Before the output matrix.
    pub norm: Norm,
    /// The output matrix.
    pub output: Linear,
}

/// The token of whose likelihood the gradient is taken, for every position.
#[derive(Clone, Copy, Debug)]
pub enum Labels<'a> {
    /// These.
    Given(&'a [u32]),
    /// Drawn from what the model predicts. A label depends on the seed, the position and the prediction alone.
    Sampled {
        /// Seed of the generator.
        seed: u64,
        /// Position of the first row.
        first: u64,
    },
}

impl Network<'_> {
    /// The weights of the head.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn head(&self) -> Result<Head, Error> {
        Ok(Head { norm: self.output_norm()?, output: self.output()? })
    }

    /// Replaces `dh` by the gradient of the log-likelihood of the labels, summed over the rows of `h`, the output of
    /// the last block. Returns that sum.
    ///
    /// # Errors
    /// If logits are not finite.
    ///
    /// # Panics
    /// If there are not as many labels as rows, or one is not in the vocabulary.
    pub fn head_backward(
        &self,
        head: &Head,
        labels: Labels<'_>,
        h: &[f32],
        dh: &mut Vec<f32>,
        observer: &mut dyn Observer,
    ) -> Result<f64, Error> {
        let Linear { rows: n_vocab, cols: n_embd, ref weight, .. } = head.output;
        let (mut normal, mut logits) = (Vec::new(), Vec::new());
        self.layer_norm(&head.norm, h, &mut normal);
        observer.input(head.output.id, &normal);
        let n = h.len() / n_embd;
        if let Labels::Given(labels) = labels {
            assert_eq!(labels.len(), n, "a label for every row");
        }
        let mut likelihood = 0.0;
        // A row of logits does not depend on the others, so the number of rows at a time changes no bit.
        let step = (LOGITS_BYTES / (size_of::<f32>() * n_vocab)).clamp(1, n.max(1));
        for first in (0..n).step_by(step) {
            let rows = first..n.min(first + step);
            let normal = &mut normal[rows.start * n_embd..rows.end * n_embd];
            self.linear(&head.output, normal, &mut logits);
            self.cpu.softmax(SeenRows::all(n_vocab), 1.0, &mut logits);
            let label = |row: usize, p: &[f32]| match labels {
                Labels::Given(labels) => labels[first + row] as usize,
                Labels::Sampled { seed, first: start } => sample(seed, start + (first + row) as u64, p),
            };
            likelihood += slopes(self.cpu.team(), n_vocab, &mut logits, label)?;
            let dlogits = MatRef::new(&logits, rows.len(), n_vocab);
            self.cpu.gemm(dlogits, MatRef::new(weight, n_vocab, n_embd), Store::Set, normal, n_embd);
        }
        dh.clear();
        dh.resize(h.len(), 0.0);
        self.layer_norm_backward(&head.norm, h, &normal, dh);
        Ok(likelihood)
    }
}

/// Replaces rows of probabilities by the gradient of the log-likelihood of their labels at the logits, `one - p`, and
/// returns the sum of those log-likelihoods.
fn slopes(
    team: &Team,
    n_vocab: usize,
    p: &mut [f32],
    label: impl Fn(usize, &[f32]) -> usize + Sync,
) -> Result<f64, Error> {
    let rows: Vec<_> = p.chunks_exact_mut(n_vocab).map(|row| Mutex::new((row, 0.0))).collect();
    team.run(rows.len(), &|i| {
        let mut row = rows[i].lock().unwrap_or_else(PoisonError::into_inner);
        let (p, likelihood) = &mut *row;
        let label = label(i, p);
        // NaN if a logit is not finite.
        *likelihood = f64::from(p[label]).ln();
        p.iter_mut().for_each(|p| *p = -*p);
        p[label] += 1.0;
    });
    let likelihoods = rows.into_iter().map(|row| row.into_inner().unwrap_or_else(PoisonError::into_inner).1);
    let sum: f64 = likelihoods.sum();
    // An impossible label of the caller has no finite likelihood, but its gradient is fine.
    if sum.is_nan() { Err(Error::NotFinite { place: "logits".to_owned() }) } else { Ok(sum) }
}

/// A token drawn from the distribution `p`.
fn sample(seed: u64, position: u64, p: &[f32]) -> usize {
    // Seeds of neighbours must not be neighbours: the generator fills its state from consecutive numbers.
    let uniform = Rng::new(Rng::new(seed).next_u64() ^ position).next_f64();
    let mut sum = 0.0;
    let drawn = p.iter().position(|&p| {
        sum += f64::from(p);
        sum > uniform
    });
    // Rounding may leave the sum a little below 1.
    drawn.or_else(|| p.iter().rposition(|&p| p > 0.0)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_drawn_as_often_as_they_are_likely() {
        let p = [0.5, 0.0, 0.3, 0.2];
        let mut counts = [0; 4];
        (0..20_000).for_each(|position| counts[sample(7, position, &p)] += 1);
        for (count, p) in counts.iter().zip(p) {
            assert!((f64::from(*count) / 2e4 - f64::from(p)).abs() < 0.015, "{counts:?}");
        }
        let draws = |seed| (0..64).map(|position| sample(seed, position, &p)).collect::<Vec<_>>();
        assert!(draws(1) == draws(1) && draws(1) != draws(2));
    }

    #[test]
    fn rounding_never_draws_what_cannot_be() {
        assert_eq!((0..100).map(|position| sample(1, position, &[0.0, 1e-9, 0.0])).max(), Some(1));
    }
}
