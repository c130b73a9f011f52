//! How far files of a model are from a base file, on the same text.
//!
//! All models see a batch of windows together and only a tile of logits of each is in memory, so nothing is written to disk:
//! llama.cpp's way, a file with the base's logits, takes 14 GB for a usual test text. The whole vocabulary counts and
//! nothing is clipped or rounded; sums are f64.

use super::exp::exp_negative;
use super::perplexity::{Perplexity, Score};
use super::runner::{Batch, Runner, nll};
use super::statistics::{Estimate, Moments, percentile};
use super::windows::Windows;
use super::{Observer, Request};
use crate::{Error, TokenStream, Tokenizer};
use pythia_model::Model;
use serde::Serialize;
use std::time::Instant;

/// Rows of logits of each model in memory at once: 26 MB per model for Pythia's vocabulary. The output matrix is decoded
/// once per tile, so that small ones cost time.
const TILE_ROWS: usize = 128;

/// A base and the levels compared with it.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// How well the base predicts the text.
    pub base: Perplexity,
    /// The levels, in the order given.
    pub levels: Vec<Level>,
}

/// One file compared with the base.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Level {
    /// How well it predicts the text.
    pub perplexity: Perplexity,
    /// How far it is from the base.
    pub against_base: AgainstBase,
}

/// Distance of a level from the base. Differences are paired: taken token by token.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct AgainstBase {
    /// Perplexity minus the base's.
    pub perplexity_difference: Estimate,
    /// Natural logarithm of the quotient of both perplexities.
    pub log_perplexity_ratio: Estimate,
    /// Mean Kullback-Leibler divergence of the base's prediction from the level's, in nats.
    pub kld: Estimate,
    /// Median of the divergence.
    pub kld_median: f64,
    /// 90th percentile.
    pub kld_p90: f64,
    /// 95th percentile.
    pub kld_p95: f64,
    /// 99th percentile.
    pub kld_p99: f64,
    /// 99.9th percentile.
    pub kld_p999: f64,
    /// Largest divergence at any token.
    pub kld_max: f64,
    /// Share of tokens where both find the same token most likely, 0 to 1.
    pub same_top: Estimate,
    /// Mean change of the probability of the correct token.
    pub probability_change: Estimate,
    /// Root mean square of that change.
    pub probability_change_rms: Estimate,
}

/// Runs `levels` against `base`. Per-level results do not depend on which other levels run with it.
///
/// # Errors
/// As [`super::perplexity()`], and if a level's vocabulary has another size than the base's.
pub fn compare<'m>(
    base: &'m Model,
    levels: &[&'m Model],
    request: &Request<'m>,
    tokens: &mut TokenStream<'_>,
    observer: &mut dyn Observer,
) -> Result<Comparison, Error> {
    let n_vocab = base.hparams().n_vocab;
    if let Some(level) = levels.iter().map(|m| m.hparams().n_vocab).find(|&n| n != n_vocab) {
        return Err(Error::VocabularyMismatch { base: n_vocab, level });
    }
    let mut windows = Windows::new(request, tokens, base)?;
    let batching = windows.batching();
    let runner = |model| Runner::new(model, batching, request.protocol.window_tokens(), request.cancel);
    let mut runners =
        Runners { base: runner(base)?, levels: levels.iter().map(|&model| runner(model)).collect::<Result<_, _>>()? };
    let mut scores = Scores { base: Score::default(), levels: vec![LevelScore::default(); levels.len()] };
    let (start, mut done) = (Instant::now(), 0);
    loop {
        let group = windows.next(tokens)?;
        if group.is_empty() {
            return Ok(scores.finish(request, &windows, &runners));
        }
        for batch in batching.batches(&group) {
            let mut rows = runners.batch(tokens, &batch)?.into_iter();
            for part in batch.parts {
                for (position, row) in part.targets.zip(&mut rows) {
                    let token = tokens.get(position);
                    scores.push(request.tokenizer, token, position, &row)?;
                    observer.token(position, token, row.base.nll);
                }
                if part.ends {
                    done += 1;
                    if observer.window(&scores.base.progress(done, windows.total(tokens), start)).is_break() {
                        return Err(Error::Interrupted);
                    }
                }
            }
        }
    }
}

/// What all models have scored by now.
struct Scores {
    base: Score,
    levels: Vec<LevelScore>,
}

impl Scores {
    /// Takes the next scored token.
    fn push(&mut self, tokenizer: &Tokenizer, token: u32, position: usize, row: &Row) -> Result<(), Error> {
        self.base.push(tokenizer, token, position, row.base.nll)?;
        for (score, level) in self.levels.iter_mut().zip(&row.levels) {
            score.perplexity.push(tokenizer, token, position, level.nll)?;
            score.push(&row.base, level);
        }
        Ok(())
    }

    fn finish(self, request: &Request<'_>, windows: &Windows, runners: &Runners<'_>) -> Comparison {
        let base = self.base.finish(request, windows, &runners.base);
        let levels = self.levels.into_iter().zip(&runners.levels).map(|(score, runner)| {
            let perplexity = score.perplexity.finish(request, windows, runner);
            Level { perplexity, against_base: score.finish(&perplexity, &base) }
        });
        Comparison { levels: levels.collect(), base }
    }
}

/// The models of a comparison, all at the same place in the text.
struct Runners<'m> {
    base: Runner<'m>,
    levels: Vec<Runner<'m>>,
}

/// What is kept of a row of logits of one model.
#[derive(Clone, Copy, Debug, Default)]
struct Prediction {
    /// Of the correct token.
    nll: f64,
    /// The most likely token.
    top: usize,
    /// Divergence from the base; 0 for the base.
    kld: f64,
}

/// One position, predicted by all models.
#[derive(Clone, Debug, Default)]
struct Row {
    base: Prediction,
    levels: Vec<Prediction>,
}

impl<'m> Runners<'m> {
    fn each(&mut self, mut f: impl FnMut(&mut Runner<'m>) -> Result<(), Error>) -> Result<(), Error> {
        std::iter::once(&mut self.base).chain(&mut self.levels).try_for_each(&mut f)
    }

    /// Runs a batch of this text through all models and compares what they predict of its scored tokens.
    fn batch(&mut self, text: &TokenStream<'_>, batch: &Batch) -> Result<Vec<Row>, Error> {
        self.each(|runner| runner.forward(text, batch))?;
        let rows: Vec<usize> = batch.rows().collect();
        let targets: Vec<u32> = batch.targets().map(|position| text.get(position)).collect();
        let mut predictions = Vec::with_capacity(rows.len());
        for (rows, targets) in rows.chunks(TILE_ROWS).zip(targets.chunks(TILE_ROWS)) {
            self.each(|runner| runner.load(rows))?;
            predictions.extend(self.tile(targets));
        }
        Ok(predictions)
    }

    /// The predictions of the rows in hand. They are independent, so threads share them out; what a thread computes does
    /// not depend on how.
    fn tile(&self, targets: &[u32]) -> Vec<Row> {
        let mut rows = vec![Row::default(); targets.len()];
        let share = targets.len().div_ceil(self.base.model.threads().max(1));
        std::thread::scope(|scope| {
            for (i, rows) in rows.chunks_mut(share).enumerate() {
                let first = i * share;
                scope.spawn(move || {
                    let mut weights = Vec::new();
                    for (j, row) in rows.iter_mut().enumerate() {
                        *row = self.row(first + j, targets[first + j], &mut weights);
                    }
                });
            }
        });
        rows
    }

    /// Row `i` of the tile in hand. `weights` is working space: the base's probabilities.
    fn row(&self, i: usize, target: u32, weights: &mut Vec<f64>) -> Row {
        let base_row = self.base.row(i);
        let (base_log_sum, base_nll) = nll(self.base.model, base_row, target);
        weights.clear();
        weights.extend(base_row.iter().map(|&x| exp_negative(f64::from(x) - base_log_sum)));
        let level = |runner: &Runner<'_>| {
            let row = runner.row(i);
            let (log_sum, nll) = nll(runner.model, row, target);
            let kld = divergence(weights, base_row, row, base_log_sum - log_sum);
            Prediction { nll, top: first_max(row), kld }
        };
        Row {
            levels: self.levels.iter().map(level).collect(),
            base: Prediction { nll: base_nll, top: first_max(base_row), kld: 0.0 },
        }
    }
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

/// The sums behind a [`Level`].
#[derive(Clone, Debug, Default)]
struct LevelScore {
    perplexity: Score,
    /// Difference of the negative log-likelihoods.
    nll_difference: Moments,
    klds: Vec<f64>,
    same_top: usize,
    /// Changes of the probability of the correct token, and their squares.
    change: Moments,
    change_squared: Moments,
}

impl LevelScore {
    fn push(&mut self, base: &Prediction, level: &Prediction) {
        self.nll_difference.push(level.nll - base.nll);
        self.klds.push(level.kld);
        self.same_top += usize::from(level.top == base.top);
        let change = libm::exp(-level.nll) - libm::exp(-base.nll);
        self.change.push(change);
        self.change_squared.push(change * change);
    }

    fn finish(mut self, level: &Perplexity, base: &Perplexity) -> AgainstBase {
        let kld = self.klds.iter().copied().collect::<Moments>().estimate();
        self.klds.sort_unstable_by(f64::total_cmp);
        let at = |fraction| percentile(&self.klds, fraction);
        let log_ratio = self.nll_difference.estimate();
        AgainstBase {
            perplexity_difference: perplexity_difference(level, base, log_ratio),
            log_perplexity_ratio: log_ratio,
            kld,
            kld_median: at(0.5),
            kld_p90: at(0.9),
            kld_p95: at(0.95),
            kld_p99: at(0.99),
            kld_p999: at(0.999),
            kld_max: at(1.0),
            same_top: Estimate::share(self.same_top, self.klds.len()),
            probability_change: self.change.estimate(),
            probability_change_rms: root(self.change_squared.estimate()),
        }
    }
}

/// Difference of both perplexities. To first order it moves by `Q q - B b` when the mean log-likelihoods move by `q` and
/// `b`; with `q = b + d` its variance takes those of `b` and `d` and their covariance, which the variance of `q` gives.
fn perplexity_difference(level: &Perplexity, base: &Perplexity, log_ratio: Estimate) -> Estimate {
    let variance = |e: Estimate| e.se * e.se;
    let (q, b, d) = (variance(level.nll), variance(base.nll), variance(log_ratio));
    let scale = level.perplexity.value;
    let value = base.perplexity.value * libm::expm1(log_ratio.value);
    let variance = scale * scale * d + value * value * b + scale * value * (q - b - d);
    Estimate { value, se: variance.max(0.0).sqrt() }
}

/// Square root, the error carried over to first order; no error where there is nothing to carry over.
fn root(x: Estimate) -> Estimate {
    let value = x.value.sqrt();
    Estimate { value, se: if value > 0.0 { 0.5 / value * x.se } else { 0.0 } }
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
    }

    #[test]
    fn the_first_of_equal_maxima_counts() {
        assert_eq!(first_max(&[1.0, 5.0, 2.0, 5.0]), 1);
        assert_eq!(first_max(&[f32::NAN, 5.0]), 1);
    }

    /// A hundred tokens; the level is a little worse, more so where the base is unsure.
    fn scores() -> (Vec<f64>, Vec<f64>) {
        (0..100).map(|i| 2.0 + (i as f64).sin()).map(|b| (b, b * 1.01 + 0.002 * (b * 7.0).cos())).unzip()
    }

    fn perplexity_of(nll: Estimate) -> Perplexity {
        let protocol = crate::eval::Protocol::Llama { n_ctx: 512 };
        let (bits_per_byte, tokens_per_second) = (0.0, 0.0);
        Perplexity {
            protocol,
            windows: 1,
            scored: 100,
            bytes: 1,
            nll,
            perplexity: nll.exp(),
            bits_per_byte,
            tokens_per_second,
        }
    }

    #[test]
    fn error_of_the_difference_takes_the_covariance_into_account() {
        let (base, level) = scores();
        let moments = |x: &[f64]| x.iter().copied().collect::<Moments>().estimate();
        let (b, q) = (perplexity_of(moments(&base)), perplexity_of(moments(&level)));
        let d: Vec<f64> = level.iter().zip(&base).map(|(q, b)| q - b).collect();
        let got = perplexity_difference(&q, &b, moments(&d));
        assert!((got.value - (q.perplexity.value - b.perplexity.value)).abs() < 1e-12);
        // What the first-order expansion says, sample by sample.
        let linear: Vec<f64> =
            level.iter().zip(&base).map(|(l, s)| q.perplexity.value * l - b.perplexity.value * s).collect();
        assert!((got.se / moments(&linear).se - 1.0).abs() < 1e-9);
        assert!(got.se < b.perplexity.se / 10.0);
    }

    #[test]
    fn a_level_equal_to_the_base_is_at_distance_zero() {
        let mut score = LevelScore::default();
        for nll in scores().0 {
            let same = Prediction { nll, top: 3, kld: 0.0 };
            score.push(&same, &same);
        }
        let base = perplexity_of(Estimate { value: 2.0, se: 0.1 });
        let a = score.finish(&base, &base);
        let zeros = [a.kld, a.perplexity_difference, a.log_perplexity_ratio, a.probability_change_rms];
        assert_eq!(zeros, [Estimate::default(); 4]);
        assert_eq!((a.kld_max, a.same_top), (0.0, Estimate { value: 1.0, se: 0.0 }));
    }
}
