//! Several models at the same place in a text: what each predicts, compared with the first.

use super::Request;
use super::exp::exp_negative;
use super::kept::{Store, TokenScore};
use super::protocol::Window;
use super::runner::{Batch, Batching, Runner, nll};
use crate::{Error, TokenStream};
use pythia_model::Model;
use std::sync::Arc;

/// Rows of logits of each model in memory at once: 26 MB per model for Pythia's vocabulary. The output matrix is decoded
/// once per tile, so that small ones cost time.
const TILE_ROWS: usize = 128;

/// A base and its levels. A model that never runs takes no memory.
pub(super) struct SideBySide<'m> {
    /// The base, then the levels.
    models: Vec<(&'m Arc<Model>, Option<Runner>)>,
    batching: Batching,
    request: Request<'m>,
}

impl<'m> SideBySide<'m> {
    /// Models for batches of this kind; the first is the base.
    pub(super) fn new(models: impl Iterator<Item = &'m Arc<Model>>, batching: Batching, request: &Request<'m>) -> Self {
        Self { models: models.map(|model| (model, None)).collect(), batching, request: *request }
    }

    /// Tokens per second through a model; 0 if it did not run.
    pub(super) fn rate(&self, model: usize) -> f64 {
        self.models[model].1.as_ref().map_or(0.0, Runner::rate)
    }

    /// What every model predicts of the scored tokens of some windows that share a batch, of which the first is number
    /// `first`. What `store` has is taken from there; what it has not is put there.
    pub(super) fn windows(
        &mut self,
        tokens: &TokenStream<'_>,
        windows: &[Window],
        first: usize,
        store: &mut dyn Store,
    ) -> Result<Vec<Vec<TokenScore>>, Error> {
        let mut known: Vec<_> = (0..self.models.len()).map(|model| kept(store, model, windows, first)).collect();
        if known.iter().any(Option::is_none) {
            // Without the base nothing can be said about a level.
            let runs: Vec<usize> = (0..known.len()).filter(|&model| model == 0 || known[model].is_none()).collect();
            let fresh = self.run(&runs, tokens, windows)?;
            for (model, scores) in runs.into_iter().zip(fresh) {
                if known[model].is_none() {
                    keep(store, model, windows, first, &scores);
                    known[model] = Some(scores);
                }
            }
        }
        Ok(known.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// Runs the windows through some of the models, the base among them, and compares what they predict.
    fn run(
        &mut self,
        runs: &[usize],
        tokens: &TokenStream<'_>,
        windows: &[Window],
    ) -> Result<Vec<Vec<TokenScore>>, Error> {
        let mut scores = vec![Vec::new(); runs.len()];
        for batch in self.batching.batches(windows) {
            for row in self.batch(runs, tokens, &batch)? {
                scores.iter_mut().zip(row).for_each(|(scores, score)| scores.push(score));
            }
        }
        Ok(scores)
    }

    fn runner(&mut self, model: usize) -> Result<&mut Runner, Error> {
        let (model, runner) = &mut self.models[model];
        match runner {
            Some(runner) => Ok(runner),
            None => {
                let window_tokens = self.request.protocol.window_tokens();
                Ok(runner.insert(Runner::new(model, self.batching, window_tokens, self.request.cancel)?))
            }
        }
    }

    /// For every scored token of a batch, what each of the models that run predicts.
    fn batch(&mut self, runs: &[usize], text: &TokenStream<'_>, batch: &Batch) -> Result<Vec<Vec<TokenScore>>, Error> {
        runs.iter().try_for_each(|&model| self.runner(model)?.forward(text, batch))?;
        let rows: Vec<usize> = batch.rows().collect();
        let targets: Vec<u32> = batch.targets().map(|position| text.get(position)).collect();
        let mut predictions = Vec::with_capacity(rows.len());
        for (rows, targets) in rows.chunks(TILE_ROWS).zip(targets.chunks(TILE_ROWS)) {
            runs.iter().try_for_each(|&model| self.runner(model)?.load(rows))?;
            let runners: Vec<&Runner> = runs.iter().filter_map(|&model| self.models[model].1.as_ref()).collect();
            predictions.extend(tile(&runners, targets));
        }
        Ok(predictions)
    }
}

/// What a store has of these windows: all or nothing.
fn kept(store: &mut dyn Store, model: usize, windows: &[Window], first: usize) -> Option<Vec<TokenScore>> {
    let mut scores = Vec::new();
    for (number, window) in (first..).zip(windows) {
        // A store with other windows would be one of another text.
        scores.extend(store.read(model, number).filter(|scores| scores.len() == window.scored.len())?);
    }
    Some(scores)
}

fn keep(store: &mut dyn Store, model: usize, windows: &[Window], first: usize, scores: &[TokenScore]) {
    let mut rest = scores;
    for (number, window) in (first..).zip(windows) {
        let (own, others) = rest.split_at(window.scored.len().min(rest.len()));
        // Windows run together, of which some may be there.
        if store.read(model, number).is_none() {
            store.write(model, number, own);
        }
        rest = others;
    }
}

/// The predictions of the rows in hand. They are independent, so threads share them out; what a thread computes does
/// not depend on how.
fn tile(runners: &[&Runner], targets: &[u32]) -> Vec<Vec<TokenScore>> {
    let mut rows = vec![Vec::new(); targets.len()];
    let threads = runners.first().map_or(1, |base| base.model().threads()).max(1);
    let share = targets.len().div_ceil(threads);
    std::thread::scope(|scope| {
        for (i, rows) in rows.chunks_mut(share).enumerate() {
            let first = i * share;
            scope.spawn(move || {
                let mut weights = Vec::new();
                for (j, scores) in rows.iter_mut().enumerate() {
                    *scores = row(runners, first + j, targets[first + j], &mut weights);
                }
            });
        }
    });
    rows
}

/// Row `i` of the tile in hand. `weights` is working space: the base's probabilities.
fn row(runners: &[&Runner], i: usize, target: u32, weights: &mut Vec<f64>) -> Vec<TokenScore> {
    let Some((base, levels)) = runners.split_first() else { return Vec::new() };
    let base_row = base.row(i);
    let (base_log_sum, base_nll) = nll(base.model(), base_row, target);
    let mut scores = vec![TokenScore { nll: base_nll, kld: 0.0, same_top: true }];
    if levels.is_empty() {
        return scores;
    }
    let top = first_max(base_row);
    fill(weights, base_row, base_log_sum);
    scores.extend(levels.iter().map(|runner| {
        let row = runner.row(i);
        let (log_sum, nll) = nll(runner.model(), row, target);
        let kld = divergence(weights, base_row, row, base_log_sum - log_sum);
        TokenScore { nll, kld, same_top: first_max(row) == top }
    }));
    scores
}

/// The prediction of a base, with which those of any number of levels are compared. A prediction is given by its logits
/// and the logarithm of the sum of their exponentials, as `Cpu::log_sum_exp` has it.
#[derive(Debug)]
pub struct Divergence<'l> {
    logits: &'l [f32],
    log_sum: f64,
    probabilities: Vec<f64>,
}

impl<'l> Divergence<'l> {
    /// From a base.
    pub fn from(logits: &'l [f32], log_sum: f64) -> Self {
        let mut probabilities = Vec::new();
        fill(&mut probabilities, logits, log_sum);
        Self { logits, log_sum, probabilities }
    }

    /// The Kullback-Leibler divergence of a level's prediction from the base's, in nats.
    ///
    /// # Panics
    /// If there are not as many logits as of the base.
    pub fn of(&self, logits: &[f32], log_sum: f64) -> f64 {
        assert_eq!(self.logits.len(), logits.len(), "logits of one vocabulary");
        divergence(&self.probabilities, self.logits, logits, self.log_sum - log_sum)
    }

    /// The entropy of the base's prediction, in nats.
    pub fn entropy(&self) -> f64 {
        -self.probabilities.iter().zip(self.logits).map(|(p, &x)| p * (f64::from(x) - self.log_sum)).sum::<f64>()
    }
}

/// Makes `probabilities` those of a prediction.
fn fill(probabilities: &mut Vec<f64>, logits: &[f32], log_sum: f64) {
    probabilities.clear();
    probabilities.extend(logits.iter().map(|&x| exp_negative(f64::from(x) - log_sum)));
}

/// `sum of p (ln p - ln q)`, where `ln p - ln q` is the difference of the logits less that of the log sums. Four sums
/// side by side keep the vector units busy; their order is fixed.
fn divergence(p: &[f64], base: &[f32], level: &[f32], log_sum_difference: f64) -> f64 {
    let term = |(p, (b, l)): (&f64, (&f32, &f32))| p * (f64::from(*b) - f64::from(*l) - log_sum_difference);
    let (p4, p_tail) = p.as_chunks::<4>();
    let (base4, base_tail) = base.as_chunks::<4>();
    let (level4, level_tail) = level.as_chunks::<4>();
    let mut sums = [0.0f64; 4];
    for (p, (b, l)) in p4.iter().zip(base4.iter().zip(level4)) {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum += term((&p[i], (&b[i], &l[i])));
        }
    }
    let tail: f64 = p_tail.iter().zip(base_tail.iter().zip(level_tail)).map(term).sum();
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + tail
}

/// Index of the first of the largest values.
fn first_max(row: &[f32]) -> usize {
    // The value first, as a reduction that vectorizes, then its first holder.
    let max = row.iter().fold(f32::NEG_INFINITY, |max, &x| if x > max { x } else { max });
    row.iter().position(|&x| x == max).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the definition, one step after another.
    fn plain_divergence(base: &[f32], level: &[f32]) -> f64 {
        let log_softmax = |row: &[f32]| -> Vec<f64> {
            let log_sum = row.iter().map(|&x| libm::exp(f64::from(x))).sum::<f64>().ln();
            row.iter().map(|&x| f64::from(x) - log_sum).collect()
        };
        let pairs = log_softmax(base).into_iter().zip(log_softmax(level));
        pairs.map(|(p, q)| libm::exp(p) * (p - q)).sum()
    }

    fn log_sum(row: &[f32]) -> f64 {
        row.iter().map(|&x| libm::exp(f64::from(x))).sum::<f64>().ln()
    }

    #[test]
    fn divergence_is_that_of_the_definition() {
        let base: Vec<f32> = (0..103).map(|i| (i as f32 * 0.71).sin() * 9.0).collect();
        let level: Vec<f32> = base.iter().enumerate().map(|(i, x)| x + (i as f32 * 1.3).cos() * 0.05).collect();
        let p: Vec<f64> = base.iter().map(|&x| exp_negative(f64::from(x) - log_sum(&base))).collect();
        let got = divergence(&p, &base, &level, log_sum(&base) - log_sum(&level));
        assert!((got - plain_divergence(&base, &level)).abs() < 1e-14, "{got}");
        assert!(got > 1e-4);
        assert_eq!(divergence(&p, &base, &base, 0.0), 0.0, "equal logits are no distance apart");
        assert_eq!(Divergence::from(&base, log_sum(&base)).of(&level, log_sum(&level)), got);
    }

    #[test]
    fn entropy_is_that_of_the_definition() {
        let row: Vec<f32> = (0..103).map(|i| (i as f32 * 0.71).sin() * 9.0).collect();
        let log_sum_exp = log_sum(&row);
        let wanted: f64 = row.iter().map(|&x| f64::from(x) - log_sum_exp).map(|p| -libm::exp(p) * p).sum();
        assert!((Divergence::from(&row, log_sum_exp).entropy() - wanted).abs() < 1e-13);
        let even = [3.0f32; 8];
        assert!((Divergence::from(&even, log_sum(&even)).entropy() - 8f64.ln()).abs() < 1e-14);
    }

    #[test]
    fn the_first_of_equal_maxima_counts() {
        assert_eq!(first_max(&[1.0, 5.0, 2.0, 5.0]), 1);
        assert_eq!(first_max(&[f32::NAN, 5.0]), 1);
    }
}
