//! The divergence of files of a model from a base file, on the same text.
//!
//! All models process a batch of windows together, and only a tile of logits of each is in memory. So nothing is
//! written to disk; llama.cpp's file with the base's logits takes 14 GB for a usual test text. The whole vocabulary
//! counts, nothing is clipped or rounded, and sums are f64.

use super::kept::{Store, TokenScore};
use super::perplexity::{Perplexity, Score};
use super::side_by_side::SideBySide;
use super::statistics::{Estimate, Moments, percentile};
use super::windows::Windows;
use super::{Observer, Request};
use crate::{Error, TokenStream, Tokenizer};
use pythia_model::Model;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Instant;

/// The results of a comparison.
#[derive(Clone, Debug)]
pub struct Qualities {
    /// Of the base.
    pub base: Perplexity,
    /// Of the others, in the order given.
    pub others: Vec<Quality>,
    /// Of every model, the base first: the sums over each window, in their order.
    pub windows: Vec<Vec<WindowSums>>,
}

/// Sums over the scored tokens of a window, for tests that pair windows of two models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct WindowSums {
    /// Negative log-likelihood, in nats.
    pub nll: f64,
    /// Divergence from the base's predictions, in nats; 0 for the base.
    pub kld: f64,
}

/// The results of a file: its perplexity, and its divergence from the base.
#[derive(Clone, Copy, Debug)]
pub struct Quality {
    /// Its perplexity.
    pub perplexity: Perplexity,
    /// Its divergence from the base.
    pub against_base: AgainstBase,
}

/// Comparison of a file with the base, on the same tokens. Differences are paired token by token. Reports have the
/// serialized fields.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct AgainstBase {
    /// Perplexity minus the base's.
    pub perplexity_delta: Estimate,
    /// The same in percent of the base's perplexity, the error carried over to first order.
    pub perplexity_delta_percent: Estimate,
    /// Mean Kullback-Leibler divergence from the base's prediction, in nats per token.
    pub kld_mean: Estimate,
    /// 99th percentile of the divergence.
    #[serde(deserialize_with = "super::nan_if_null")]
    pub kld_p99: f64,
    /// Largest divergence at any token.
    #[serde(deserialize_with = "super::nan_if_null")]
    pub kld_max: f64,
    /// Share of tokens where both find the same token most likely, 0 to 1.
    pub same_top: Estimate,
    /// Natural logarithm of the quotient of both perplexities.
    #[serde(skip)]
    pub log_perplexity_ratio: Estimate,
    /// Median of the divergence.
    #[serde(skip)]
    pub kld_median: f64,
    /// 90th percentile.
    #[serde(skip)]
    pub kld_p90: f64,
    /// 95th percentile.
    #[serde(skip)]
    pub kld_p95: f64,
    /// 99.9th percentile.
    #[serde(skip)]
    pub kld_p999: f64,
    /// Mean change of the probability of the correct token.
    #[serde(skip)]
    pub probability_change: Estimate,
    /// Root mean square of that change.
    #[serde(skip)]
    pub probability_change_rms: Estimate,
}

/// Compares `others` with `base`, except for windows whose scores are in `store`. The results of a model do not depend
/// on the other models or on the store.
///
/// # Errors
/// As [`super::perplexity()`], and if a model's vocabulary has another size than the base's.
pub fn compare<'m>(
    base: &'m Arc<Model>,
    others: &[&'m Arc<Model>],
    request: &Request<'m>,
    tokens: &mut TokenStream<'_>,
    store: &mut dyn Store,
    observer: &mut dyn Observer,
) -> Result<Qualities, Error> {
    let n_vocab = base.hparams().n_vocab;
    if let Some(level) = others.iter().map(|m| m.hparams().n_vocab).find(|&n| n != n_vocab) {
        return Err(Error::VocabularyMismatch { base: n_vocab, level });
    }
    let mut windows = Windows::new(request, tokens, base)?;
    let models = [base].into_iter().chain(others.iter().copied());
    let mut models = SideBySide::new(models, windows.batching(), request);
    let mut scores = Scores {
        base: Score::default(),
        others: vec![OtherScore::default(); others.len()],
        windows: vec![Vec::new(); 1 + others.len()],
    };
    let (start, mut done) = (Instant::now(), 0);
    loop {
        let group = windows.next(tokens)?;
        if group.is_empty() {
            return Ok(scores.finish(request, &windows, &models));
        }
        let predictions = models.windows(tokens, &group, done, store)?;
        let mut row = 0;
        for window in &group {
            scores.windows.iter_mut().for_each(|windows| windows.push(WindowSums::default()));
            for position in window.scored.clone() {
                let token = tokens.get(position);
                let of_models = predictions.iter().map(|scores| scores[row]);
                scores.push(request.tokenizer, token, position, of_models)?;
                observer.token(position, token, predictions[0][row].nll);
                row += 1;
            }
            done += 1;
            observer.window(&scores.base.state(done, windows.total(tokens), start));
            // A window whose scores are known does not run a model, which would check this too.
            request.check_cancel()?;
        }
    }
}

/// The scores of all models so far.
struct Scores {
    base: Score,
    others: Vec<OtherScore>,
    windows: Vec<Vec<WindowSums>>,
}

impl Scores {
    /// Adds the scores of the base and the others for the next token.
    fn push(
        &mut self,
        tokenizer: &Tokenizer,
        token: u32,
        position: usize,
        predictions: impl Iterator<Item = TokenScore>,
    ) -> Result<(), Error> {
        let mut predictions = predictions.zip(&mut self.windows).map(|(score, windows)| {
            if let Some(sums) = windows.last_mut() {
                sums.nll += score.nll;
                sums.kld += score.kld;
            }
            score
        });
        let base = predictions.next().unwrap_or_default();
        self.base.push(tokenizer, token, position, base.nll)?;
        for (score, level) in self.others.iter_mut().zip(predictions) {
            score.perplexity.push(tokenizer, token, position, level.nll)?;
            score.push(&base, &level);
        }
        Ok(())
    }

    fn finish(self, request: &Request<'_>, windows: &Windows, models: &SideBySide<'_>) -> Qualities {
        let base = self.base.finish(request, windows, models.rate(0));
        let others = self.others.into_iter().zip(1..).map(|(score, model)| {
            let perplexity = score.perplexity.finish(request, windows, models.rate(model));
            Quality { perplexity, against_base: score.finish(&perplexity, &base) }
        });
        Qualities { others: others.collect(), base, windows: self.windows }
    }
}

/// The sums behind a [`Quality`].
#[derive(Clone, Debug, Default)]
struct OtherScore {
    perplexity: Score,
    /// Difference of the negative log-likelihoods.
    nll_difference: Moments,
    klds: Vec<f64>,
    same_top: usize,
    /// Changes of the probability of the correct token, and their squares.
    change: Moments,
    change_squared: Moments,
}

impl OtherScore {
    fn push(&mut self, base: &TokenScore, level: &TokenScore) {
        self.nll_difference.push(level.nll - base.nll);
        self.klds.push(level.kld);
        self.same_top += usize::from(level.same_top);
        let change = libm::exp(-level.nll) - libm::exp(-base.nll);
        self.change.push(change);
        self.change_squared.push(change * change);
    }

    fn finish(mut self, level: &Perplexity, base: &Perplexity) -> AgainstBase {
        let kld_mean = self.klds.iter().copied().collect::<Moments>().estimate();
        self.klds.sort_unstable_by(f64::total_cmp);
        let at = |fraction| percentile(&self.klds, fraction);
        let log_ratio = self.nll_difference.estimate();
        AgainstBase {
            perplexity_delta: perplexity_delta(level, base, log_ratio),
            perplexity_delta_percent: percent(log_ratio),
            kld_mean,
            kld_p99: at(0.99),
            kld_max: at(1.0),
            same_top: Estimate::share(self.same_top, self.klds.len()),
            log_perplexity_ratio: log_ratio,
            kld_median: at(0.5),
            kld_p90: at(0.9),
            kld_p95: at(0.95),
            kld_p999: at(0.999),
            probability_change: self.change.estimate(),
            probability_change_rms: root(self.change_squared.estimate()),
        }
    }
}

/// Difference of both perplexities. To first order it moves by `Q q - B b` when the mean log-likelihoods move by `q`
/// and `b`; with `q = b + d` its variance takes those of `b` and `d` and their covariance, which the variance of `q`
/// gives.
fn perplexity_delta(level: &Perplexity, base: &Perplexity, log_ratio: Estimate) -> Estimate {
    let variance = |e: Estimate| e.se * e.se;
    let (q, b, d) = (variance(level.nll), variance(base.nll), variance(log_ratio));
    let scale = level.perplexity.value;
    let value = base.perplexity.value * libm::expm1(log_ratio.value);
    let variance = scale * scale * d + value * value * b + scale * value * (q - b - d);
    Estimate { value, se: variance.max(0.0).sqrt() }
}

/// By how many percent a ratio, of which this is the logarithm, is above 1; the error is carried over to first order.
fn percent(log_ratio: Estimate) -> Estimate {
    let ratio = log_ratio.value.exp();
    Estimate { value: 100.0 * log_ratio.value.exp_m1(), se: 100.0 * ratio * log_ratio.se }
}

/// Square root, the error carried over to first order; no error where there is nothing to carry over.
fn root(x: Estimate) -> Estimate {
    let value = x.value.sqrt();
    Estimate { value, se: if value > 0.0 { 0.5 / value * x.se } else { 0.0 } }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let got = perplexity_delta(&q, &b, moments(&d));
        assert!((got.value - (q.perplexity.value - b.perplexity.value)).abs() < 1e-12);
        // What the first-order expansion says, sample by sample.
        let linear: Vec<f64> =
            level.iter().zip(&base).map(|(l, s)| q.perplexity.value * l - b.perplexity.value * s).collect();
        assert!((got.se / moments(&linear).se - 1.0).abs() < 1e-9);
        assert!(got.se < b.perplexity.se / 10.0);
    }

    #[test]
    fn a_level_equal_to_the_base_is_at_distance_zero() {
        let mut score = OtherScore::default();
        for nll in scores().0 {
            let same = TokenScore { nll, kld: 0.0, same_top: true };
            score.push(&same, &same);
        }
        let base = perplexity_of(Estimate { value: 2.0, se: 0.1 });
        let a = score.finish(&base, &base);
        let zeros = [a.kld_mean, a.perplexity_delta, a.log_perplexity_ratio, a.probability_change_rms];
        assert_eq!(zeros, [Estimate::default(); 4]);
        assert_eq!((a.kld_max, a.same_top), (0.0, Estimate { value: 1.0, se: 0.0 }));
    }
}
