//! Log-likelihoods of tokens.

use crate::Error;
use crate::scheduler::TILE_ROWS;
use pythia_kernels::Cpu;
use pythia_model::{Context, Prediction};

/// What the model predicted at a position, and of the token that is there. Natural logs, before biases, penalties and
/// temperature, over all rows of the vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenScore {
    /// The token.
    pub token: u32,
    /// Its log-likelihood. Equal to that of the first in `top` exactly if the token is among the likeliest.
    pub log_likelihood: f64,
    /// As many of the likeliest tokens as were asked for, and their log-likelihoods: likeliest first, of equals the
    /// lower id.
    pub top: Vec<(u32, f64)>,
}

impl TokenScore {
    /// The score of `token` where the model predicted `logits`, with the `k` likeliest tokens. The same computation
    /// for all of them, so that equal logits give equal numbers. NaN if a logit is not finite.
    pub(crate) fn of_logits(cpu: &Cpu, logits: &[f32], token: u32, k: usize) -> Self {
        let log_sum = cpu.log_sum_exp(logits);
        let log_likelihood = |logit: f32| f64::from(logit) - log_sum;
        Self {
            token,
            log_likelihood: log_likelihood(logits[token as usize]),
            top: largest(logits, k).into_iter().map(|(token, logit)| (token, log_likelihood(logit))).collect(),
        }
    }

    /// The score with only the `k` likeliest tokens.
    pub(super) fn with(&self, k: usize) -> Self {
        Self { top: self.top.iter().take(k).copied().collect(), ..*self }
    }
}

/// A row of the last batch, the token that followed it, and how many of the likeliest tokens are wanted, at least 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowAsked {
    pub(super) row: usize,
    pub(super) token: u32,
    pub(super) top: usize,
}

/// Scores rows of the last batch of a context. Where one likeliest token is enough, no logits are in memory; the bits
/// are the same.
///
/// # Errors
/// If the device failed.
pub(super) fn rows(context: &mut Context, asked: &[RowAsked], tile: &mut Vec<f32>) -> Result<Vec<TokenScore>, Error> {
    let (few, many): (Vec<usize>, Vec<usize>) = (0..asked.len()).partition(|&i| asked[i].top == 1);
    let mut scores = vec![None; asked.len()];
    let of = |indices: &[usize]| indices.iter().map(|&i| asked[i]).collect::<Vec<_>>();
    for (i, score) in few.iter().zip(predicted(context, &of(&few))?) {
        scores[*i] = Some(score);
    }
    for part in many.chunks(TILE_ROWS) {
        for (i, score) in part.iter().zip(from_logits(context, &of(part), tile)?) {
            scores[*i] = Some(score);
        }
    }
    Ok(scores.into_iter().flatten().collect())
}

/// With the likeliest token.
fn predicted(context: &mut Context, asked: &[RowAsked]) -> Result<Vec<TokenScore>, Error> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let targets: Vec<u32> = asked.iter().map(|asked| asked.token).collect();
    let mut predictions = vec![Prediction::default(); asked.len()];
    context.predictions(asked.iter().map(|asked| asked.row), &targets, &mut predictions)?;
    let score = |(token, of): (u32, Prediction)| {
        let Prediction { log_likelihood, best, best_log_likelihood } = of;
        TokenScore { token, log_likelihood, top: vec![(best, best_log_likelihood)] }
    };
    Ok(targets.into_iter().zip(predictions).map(score).collect())
}

/// With any number of likeliest tokens, at most [`TILE_ROWS`] rows.
fn from_logits(context: &mut Context, asked: &[RowAsked], tile: &mut Vec<f32>) -> Result<Vec<TokenScore>, Error> {
    let model = context.model().clone();
    let (cpu, n_vocab) = (model.cpu(), model.hparams().n_vocab);
    tile.resize(asked.len() * n_vocab, 0.0);
    context.logits(asked.iter().map(|asked| asked.row), tile)?;
    let tile = &*tile;
    let score = |n: usize| {
        let RowAsked { token, top, .. } = asked[n];
        TokenScore::of_logits(cpu, &tile[n * n_vocab..][..n_vocab], token, top)
    };
    Ok(cpu.team().map(asked.len(), score))
}

/// The `k` largest logits and their tokens, largest first, of equals the lower id. NaN is skipped.
pub fn largest(logits: &[f32], k: usize) -> Vec<(u32, f32)> {
    let mut top: Vec<(u32, f32)> = Vec::with_capacity(k + 1);
    if k == 0 {
        return top;
    }
    let mut least = f32::NEG_INFINITY;
    for (token, &logit) in (0..).zip(logits) {
        // Few pass: the list is sorted by insertion.
        if logit > least || (top.len() < k && !logit.is_nan()) {
            let at = top.partition_point(|&(_, other)| other >= logit);
            top.insert(at, (token, logit));
            top.truncate(k);
            if top.len() == k {
                least = top[k - 1].1;
            }
        }
    }
    top
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_largest_are_those_of_a_sort(
            logits in prop::collection::vec((-8i8..8).prop_map(|x| f32::from(x) / 2.0), 1..60),
            k in 0usize..70,
        ) {
            let mut sorted: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
            sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
            sorted.truncate(k);
            prop_assert_eq!(largest(&logits, k), sorted);
        }
    }

    #[test]
    fn equal_logits_have_equal_scores() {
        let cpu = Cpu::new(1, None).unwrap();
        let logits = [0.25, 1.5, -3.0, 1.5];
        let score = TokenScore::of_logits(&cpu, &logits, 3, 3);
        assert_eq!(score.top.iter().map(|top| top.0).collect::<Vec<_>>(), [1, 3, 0]);
        assert_eq!(score.log_likelihood, score.top[0].1);
        let sum: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
        assert!((score.log_likelihood - (1.5 - sum.ln())).abs() < 1e-7);
        assert_eq!(largest(&[f32::NAN, 1.0, f32::NEG_INFINITY], 3), [(1, 1.0), (2, f32::NEG_INFINITY)]);
    }
}
