//! How long a model takes, by the clock.

use pythia_model::backend::Largest;
use pythia_model::{BATCH_TOKENS, Context, ContextShape, Error, Model, Sequence, Span};
use pythia_task::Cancel;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A model ready to be timed, with an empty context.
pub(crate) struct Stopwatch {
    context: Context,
    sequence: Sequence,
    n_vocab: usize,
    logits: Vec<f32>,
}

impl Stopwatch {
    /// With a context of `n_ctx` positions. What it does ends with an error when `cancel` is raised.
    ///
    /// # Errors
    /// If the model cannot have such a context.
    pub(crate) fn new(model: &Arc<Model>, n_ctx: usize, cancel: &Cancel) -> Result<Self, Error> {
        let n_ctx = n_ctx.max(1);
        let context = model.context(ContextShape { n_seq: 1, n_ctx, n_batch: n_ctx.min(BATCH_TOKENS) })?;
        let context = context.cancelled_by(cancel.clone());
        let n_vocab = model.hparams().n_vocab;
        let sequence = context.sequence()?;
        Ok(Self { context, sequence, n_vocab, logits: vec![0.0; n_vocab] })
    }

    /// Processes a prompt of `n` tokens into an empty context, up to the choice of the next token.
    ///
    /// # Errors
    /// If the prompt does not fit.
    pub(crate) fn prefill(&mut self, n: usize) -> Result<Duration, Error> {
        let tokens: Vec<u32> = tokens(self.n_vocab).take(n).collect();
        self.sequence.truncate(0);
        let start = Instant::now();
        let mut last = 0;
        for batch in tokens.chunks(self.context.n_batch()) {
            self.context.forward(&mut [Span { sequence: &mut self.sequence, tokens: batch }])?;
            last = batch.len();
        }
        if last > 0 {
            self.choose(last - 1)?;
        }
        Ok(start.elapsed())
    }

    /// What generation without a temperature asks for after a row: the largest logit of a device, or all logits.
    fn choose(&mut self, row: usize) -> Result<(), Error> {
        match self.context.largest(row, self.n_vocab, Largest::First)? {
            Some(_) => Ok(()),
            None => self.context.logits(row..row + 1, &mut self.logits),
        }
    }

    /// Appends `n` tokens to an empty context one by one, with the choice of the next after each; the time of each.
    ///
    /// # Errors
    /// If they do not fit.
    pub(crate) fn decode(&mut self, n: usize) -> Result<Vec<Duration>, Error> {
        self.sequence.truncate(0);
        let tokens = tokens(self.n_vocab);
        let step = |token: u32| {
            let start = Instant::now();
            self.context.forward(&mut [Span { sequence: &mut self.sequence, tokens: &[token] }])?;
            self.choose(0)?;
            Ok(start.elapsed())
        };
        tokens.take(n).map(step).collect()
    }
}

/// Token ids without end, always the same: speed does not depend on what a text says, but a repeated token would keep
/// its embedding row in cache.
fn tokens(n_vocab: usize) -> impl Iterator<Item = u32> {
    // Knuth's MMIX generator; its upper bits are the good ones.
    let next = |state: &u64| Some(state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407));
    std::iter::successors(Some(1), next).map(move |state| ((state >> 33) % n_vocab.max(1) as u64) as u32)
}

/// The middle of the samples; the mean of the middle two of an even number. 0 without any.
pub(crate) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// Mean and sample standard deviation, 0 where there is none.
pub(crate) fn mean_and_sd(samples: &[f64]) -> (f64, f64) {
    let n = samples.len() as f64;
    if samples.is_empty() {
        return (0.0, 0.0);
    }
    let mean = samples.iter().sum::<f64>() / n;
    let squares: f64 = samples.iter().map(|x| (x - mean) * (x - mean)).sum();
    (mean, if samples.len() > 1 { (squares / (n - 1.0)).sqrt() } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_match_the_textbook() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
        assert_eq!(mean_and_sd(&[2.0, 4.0, 6.0]), (4.0, 2.0));
        assert_eq!(mean_and_sd(&[5.0]), (5.0, 0.0));
    }

    #[test]
    fn tokens_are_in_range_and_differ() {
        let ids: Vec<u32> = tokens(4096).take(512).collect();
        assert!(ids.iter().all(|&id| id < 4096));
        let distinct: std::collections::HashSet<_> = ids.iter().collect();
        assert!(distinct.len() > 400, "{}", distinct.len());
        assert_eq!(tokens(0).next(), Some(0));
    }
}
