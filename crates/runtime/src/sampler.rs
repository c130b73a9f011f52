//! Chooses the next token.
//!
//! The steps and their order are those of transformers' `generate`: repetition penalty, temperature, top-k, top-p,
//! min-p, then one draw. Biases of single tokens come before them, OpenAI's presence and frequency penalties after the
//! repetition penalty. Probabilities are f64 and use a portable `exp`, so a seed gives the same tokens everywhere.

use crate::{Error, Rng};
use pythia_model::backend::Largest;
use std::collections::{HashMap, VecDeque};

/// How the next token is chosen. The default is greedy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the most likely token.
    pub temperature: f32,
    /// Number of most likely tokens that are candidates, plus those that tie with the last; 0 is no limit.
    pub top_k: usize,
    /// Only the smallest set of tokens whose probabilities reach this sum are candidates; 1 is no limit.
    pub top_p: f32,
    /// Only tokens at least this likely, relative to the most likely one, are candidates; 0 is no limit.
    pub min_p: f32,
    /// Positive logits of tokens that occurred are divided by it, negative ones multiplied; 1 changes nothing.
    pub repetition_penalty: f32,
    /// Number of last tokens that count as occurred; `None` for all, as in transformers.
    pub penalty_tokens: Option<usize>,
    /// Subtracted from the logit of every token that was generated, once however often; 0 changes nothing. With
    /// [`frequency_penalty`](Self::frequency_penalty) this is OpenAI's rule: a token that was generated `n` times loses
    /// `presence_penalty + n * frequency_penalty`. Tokens of the prompt do not count.
    pub presence_penalty: f32,
    /// Subtracted from the logit of a token for each time that it was generated; 0 changes nothing.
    pub frequency_penalty: f32,
    /// Seed of the generator.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            penalty_tokens: None,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 0,
        }
    }
}

impl Sampling {
    /// What is asked for by a temperature and filters, where each may be left out: with none of them the choice is
    /// greedy, and with a filter alone the temperature is 1.
    pub fn asked(temperature: Option<f32>, top_k: Option<usize>, top_p: Option<f32>, min_p: Option<f32>) -> Self {
        let filters = top_k.is_some() || top_p.is_some() || min_p.is_some();
        Self {
            temperature: temperature.unwrap_or(if filters { 1.0 } else { 0.0 }),
            top_k: top_k.unwrap_or(0),
            top_p: top_p.unwrap_or(1.0),
            min_p: min_p.unwrap_or(0.0),
            ..Self::default()
        }
    }

    fn check(&self) -> Result<(), Error> {
        let share = |x: f32| (0.0..=1.0).contains(&x);
        let checks = [
            ("temperature", self.temperature, self.temperature.is_finite() && self.temperature >= 0.0, "0 or more"),
            ("top-p", self.top_p, share(self.top_p) && self.top_p > 0.0, "more than 0, at most 1"),
            ("min-p", self.min_p, share(self.min_p), "0 to 1"),
            (
                "repetition penalty",
                self.repetition_penalty,
                self.repetition_penalty.is_finite() && self.repetition_penalty > 0.0,
                "more than 0",
            ),
            ("presence penalty", self.presence_penalty, self.presence_penalty.is_finite(), "a finite number"),
            ("frequency penalty", self.frequency_penalty, self.frequency_penalty.is_finite(), "a finite number"),
        ];
        match checks.into_iter().find(|&(_, _, ok, _)| !ok) {
            Some((name, found, _, wanted)) => {
                Err(Error::Setting { name, problem: format!("found {found}, wanted {wanted}") })
            }
            None => Ok(()),
        }
    }

    /// Whether generated tokens lose something for it.
    fn counts_generated(&self) -> bool {
        self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }
}

/// Checks settings and biases for a vocabulary of `n_tokens`.
///
/// # Errors
/// If one is out of its range, or a bias is not finite or for a token that cannot be chosen.
pub(crate) fn check(settings: &Sampling, bias: &[(u32, f32)], n_tokens: usize) -> Result<(), Error> {
    settings.check()?;
    let problem = bias.iter().find_map(|&(token, bias)| match (token as usize) < n_tokens {
        false => Some(format!("found token {token}, wanted ids below {n_tokens}")),
        true if !bias.is_finite() => Some(format!("found {bias} for token {token}, wanted a finite number")),
        true => None,
    });
    problem.map_or(Ok(()), |problem| Err(Error::Setting { name: "logit bias", problem }))
}

/// A candidate: its id and its weight, first the scaled logit and then the probability before normalization.
type Candidate = (u32, f64);

/// The candidates for the next token, with their probabilities after temperature, filters and penalty.
#[derive(Clone, Debug, Default)]
pub struct Distribution {
    candidates: Vec<Candidate>,
    /// Sum of the weights. Weights are not divided by it, because that would round the terms of [`draw`](Self::draw).
    total: f64,
}

impl Distribution {
    /// The probability of a token; 0 if it is no candidate.
    pub fn probability(&self, token: u32) -> f64 {
        self.probabilities().find(|candidate| candidate.0 == token).map_or(0.0, |candidate| candidate.1)
    }

    /// The candidates and their probabilities, which sum to 1: by ascending id, or most likely first after top-p.
    pub fn probabilities(&self) -> impl Iterator<Item = (u32, f64)> {
        self.candidates.iter().map(|&(token, weight)| (token, weight / self.total))
    }

    /// Draws a token with one random number. `None` if there are no candidates.
    pub fn draw(&self, rng: &mut Rng) -> Option<u32> {
        let mut left = rng.next_f64() * self.total;
        let chosen = self.candidates.iter().find(|c| {
            left -= c.1;
            left < 0.0
        });
        // Rounding can leave a small rest after the last one.
        chosen.or(self.candidates.last()).map(|c| c.0)
    }

    /// Computes the distribution of these logits under the settings.
    fn fill(&mut self, settings: &Sampling, logits: impl Iterator<Item = (u32, f32)>) {
        let &Sampling { temperature, top_k, top_p, min_p, .. } = settings;
        let Self { candidates, total } = self;
        candidates.clear();
        if temperature == 0.0 {
            candidates.extend(argmax(logits).map(|token| (token, 1.0)));
            *total = 1.0;
            return;
        }
        // Infinity would turn every probability into NaN, so it is replaced by the largest finite value.
        let usable = logits.filter(|&(_, x)| x > f32::NEG_INFINITY);
        candidates.extend(usable.map(|(id, x)| (id, f64::from(x.min(f32::MAX)) / f64::from(temperature))));
        keep_top_k(candidates, top_k);
        let max = candidates.iter().fold(f64::NEG_INFINITY, |max, c| max.max(c.1));
        for c in candidates.iter_mut() {
            c.1 = libm::exp(c.1 - max);
        }
        keep_top_p(candidates, f64::from(top_p));
        // The most likely one has weight 1 exactly.
        candidates.retain(|c| c.1 >= f64::from(min_p));
        *total = candidates.iter().map(|c| c.1).sum();
    }
}

/// Chooses tokens, one position after another.
#[derive(Clone, Debug)]
pub struct Sampler {
    settings: Sampling,
    rng: Rng,
    /// How often each token occurred among those that count. As long as the tokenizer's vocabulary.
    occurrences: Vec<u32>,
    /// The last tokens, if only those count.
    recent: VecDeque<u32>,
    /// Added to the logits of these tokens.
    bias: Vec<(u32, f32)>,
    /// How often each token was drawn, if that counts.
    generated: HashMap<u32, u32>,
    /// Logits with biases and penalties.
    adjusted: Vec<f32>,
    distribution: Distribution,
}

impl Sampler {
    /// A sampler over token ids below `n_tokens`. Padding rows of a model's vocabulary are never chosen.
    ///
    /// # Errors
    /// If a setting is out of its range.
    pub fn new(settings: Sampling, n_tokens: usize) -> Result<Self, Error> {
        Self::biased(settings, n_tokens, &[])
    }

    /// As [`new`](Self::new), and adds `bias` to the logits of these tokens before everything else. -100 bans a token
    /// in practice. Biases of one token add up.
    ///
    /// # Errors
    /// If a setting is out of its range, or a bias is not finite or for an id that is not below `n_tokens`.
    pub fn biased(settings: Sampling, n_tokens: usize, bias: &[(u32, f32)]) -> Result<Self, Error> {
        check(&settings, bias, n_tokens)?;
        Ok(Self {
            settings,
            rng: Rng::new(settings.seed),
            occurrences: vec![0; n_tokens],
            recent: VecDeque::new(),
            bias: bias.to_vec(),
            generated: HashMap::new(),
            adjusted: Vec::new(),
            distribution: Distribution::default(),
        })
    }

    /// Ids that can be chosen are below.
    pub fn n_tokens(&self) -> usize {
        self.occurrences.len()
    }

    /// Records a token of the prompt or of the continuation, for the repetition penalty.
    pub fn accept(&mut self, token: u32) {
        let Some(occurred) = self.occurrences.get_mut(token as usize) else { return };
        *occurred = occurred.saturating_add(1);
        let Some(window) = self.settings.penalty_tokens else { return };
        self.recent.push_back(token);
        if self.recent.len() > window
            && let Some(oldest) = self.recent.pop_front()
        {
            self.occurrences[oldest as usize] -= 1;
        }
    }

    /// The distribution of the next token, from `logits`, one per vocabulary row. NaN counts as impossible: there are
    /// no candidates if no token has a value above minus infinity. Nothing is drawn or recorded.
    pub fn distribution(&mut self, logits: &[f32]) -> &Distribution {
        let Self { settings, occurrences, bias, generated, adjusted, distribution, .. } = self;
        let logits = &logits[..logits.len().min(occurrences.len())];
        let penalty = settings.repetition_penalty;
        if bias.is_empty() && generated.is_empty() && penalty == 1.0 {
            distribution.fill(settings, (0..).zip(logits.iter().copied()));
            return distribution;
        }
        adjusted.clear();
        adjusted.extend_from_slice(logits);
        for &(token, bias) in &*bias {
            adjusted.get_mut(token as usize).into_iter().for_each(|x| *x += bias);
        }
        if penalty != 1.0 {
            for (x, _) in adjusted.iter_mut().zip(occurrences).filter(|(_, n)| **n > 0) {
                *x = if *x < 0.0 { *x * penalty } else { *x / penalty };
            }
        }
        for (&token, &n) in &*generated {
            let by = settings.presence_penalty + n as f32 * settings.frequency_penalty;
            adjusted.get_mut(token as usize).into_iter().for_each(|x| *x -= by);
        }
        distribution.fill(settings, (0..).zip(adjusted.iter().copied()));
        distribution
    }

    /// The part of the logits that gives the same result as all of them; `None` if all are needed.
    pub fn enough(&self) -> Option<Largest> {
        let Sampling { temperature, top_k, repetition_penalty, .. } = self.settings;
        match top_k {
            // Any logit may rise above the others.
            _ if repetition_penalty != 1.0 || !self.bias.is_empty() || self.settings.counts_generated() => None,
            _ if temperature == 0.0 => Some(Largest::First),
            0 => None,
            k => Some(Largest::Top(k)),
        }
    }

    /// As [`distribution`](Self::distribution), from those logits that are [`enough`](Self::enough), by ascending id.
    pub fn distribution_among(&mut self, candidates: &[(u32, f32)]) -> &Distribution {
        self.distribution.fill(&self.settings, candidates.iter().copied());
        &self.distribution
    }

    /// Draws from the [`distribution`](Self::distribution) of these logits, and records the token. `None` if there are
    /// no candidates.
    pub fn sample(&mut self, logits: &[f32]) -> Option<u32> {
        self.distribution(logits);
        self.draw()
    }

    /// As [`sample`](Self::sample), from those logits that are [`enough`](Self::enough), by ascending id.
    pub fn sample_among(&mut self, candidates: &[(u32, f32)]) -> Option<u32> {
        self.distribution_among(candidates);
        self.draw()
    }

    fn draw(&mut self) -> Option<u32> {
        let token = self.distribution.draw(&mut self.rng)?;
        self.accept(token);
        if self.settings.counts_generated() {
            *self.generated.entry(token).or_default() += 1;
        }
        Some(token)
    }
}

/// The first of the largest values. NaN is skipped.
fn argmax(logits: impl Iterator<Item = (u32, f32)>) -> Option<u32> {
    let mut best = (f32::NEG_INFINITY, None);
    for (id, x) in logits {
        if x > best.0 {
            best = (x, Some(id));
        }
    }
    best.1
}

fn keep_top_k(candidates: &mut Vec<Candidate>, k: usize) {
    if k == 0 || k >= candidates.len() {
        return;
    }
    let (_, &mut (_, least), _) = candidates.select_nth_unstable_by(k - 1, by_weight);
    candidates.retain(|c| c.1 >= least);
    // Sorted again, because selection reordered them and the draw depends on the order.
    candidates.sort_unstable_by_key(|c| c.0);
}

fn keep_top_p(candidates: &mut Vec<Candidate>, p: f64) {
    if p >= 1.0 || candidates.is_empty() {
        return;
    }
    let total: f64 = candidates.iter().map(|c| c.1).sum();
    // All tokens below this weight together weigh less than the share that is cut off, so none of them is kept. Few
    // remain to be sorted.
    let floor = (1.0 - p) * total / candidates.len() as f64;
    candidates.retain(|c| c.1 >= floor);
    candidates.sort_unstable_by(by_weight);
    let mut sum = 0.0;
    let kept = candidates.iter().take_while(|c| {
        let wanted = sum < p * total;
        sum += c.1;
        wanted
    });
    let kept = kept.count();
    candidates.truncate(kept);
}

/// Heaviest first; of equals the lower id.
fn by_weight(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(settings: Sampling, n: usize) -> Sampler {
        Sampler::new(settings, n).unwrap()
    }

    /// How often each id is drawn from the same logits.
    fn counts(settings: Sampling, logits: &[f32], draws: usize) -> Vec<usize> {
        let mut counts = vec![0; logits.len()];
        let mut sampler = sampler(settings, logits.len());
        for _ in 0..draws {
            counts[sampler.sample(logits).unwrap() as usize] += 1;
        }
        counts
    }

    const WARM: Sampling = Sampling {
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repetition_penalty: 1.0,
        penalty_tokens: None,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        seed: 1,
    };

    #[test]
    fn greedy_takes_the_first_of_the_largest_and_skips_nan() {
        let mut greedy = sampler(Sampling::default(), 5);
        assert_eq!(greedy.sample(&[f32::NAN, 1.0, 3.0, 3.0, f32::NAN]), Some(2));
        assert_eq!(greedy.sample(&[0.0, f32::INFINITY, 1.0, 0.0, 0.0]), Some(1));
        assert_eq!(greedy.sample(&[f32::NAN; 5]), None);
        assert_eq!(greedy.sample(&[f32::NEG_INFINITY; 5]), None);
        assert_eq!(greedy.sample(&[]), None);
    }

    /// What a device returns.
    fn largest(logits: &[f32], which: Largest) -> Vec<(u32, f32)> {
        let k = match which {
            Largest::First => return largest(logits, Largest::Top(1)).into_iter().take(1).collect(),
            Largest::Top(k) => k,
        };
        let mut sorted: Vec<f32> = logits.iter().copied().filter(|x| !x.is_nan()).collect();
        sorted.sort_unstable_by(|a, b| b.total_cmp(a));
        let Some(&least) = sorted.get(k - 1).or(sorted.last()) else { return Vec::new() };
        logits.iter().enumerate().filter(|(_, x)| **x >= least).map(|(id, &x)| (id as u32, x)).collect()
    }

    #[test]
    fn few_candidates_decide_as_all_logits_do() {
        for settings in [
            Sampling::default(),
            Sampling { top_k: 1, ..WARM },
            Sampling { top_k: 5, ..WARM },
            Sampling { top_k: 40, top_p: 0.9, min_p: 0.01, temperature: 0.7, ..WARM },
        ] {
            let (mut all, mut few) = (sampler(settings, 300), sampler(settings, 300));
            let which = few.enough().unwrap();
            for step in 0..200 {
                // Coarse steps, so that many tie.
                let mut logits: Vec<f32> = (0..300).map(|i| ((i * 37 + step * 101) % 211 / 8) as f32 / 4.0).collect();
                logits[step] = f32::NAN;
                let candidates = largest(&logits, which);
                assert_eq!(few.sample_among(&candidates), all.sample(&logits), "{settings:?} step {step}");
            }
        }
        assert_eq!(sampler(WARM, 4).enough(), None);
        assert_eq!(sampler(Sampling { repetition_penalty: 1.5, ..Sampling::default() }, 4).enough(), None);
    }

    #[test]
    fn padding_rows_are_never_chosen() {
        for settings in [Sampling::default(), WARM] {
            let mut sampler = sampler(settings, 2);
            for _ in 0..50 {
                assert!(sampler.sample(&[0.0, 0.0, 90.0, f32::INFINITY]).unwrap() < 2);
            }
        }
    }

    #[test]
    fn draws_follow_the_distribution() {
        let p = [0.5f32, 0.3, 0.15, 0.05];
        let logits = p.map(f32::ln);
        let n = counts(WARM, &logits, 20_000);
        for (n, p) in n.iter().zip(p) {
            assert!((*n as f32 / 20_000.0 - p).abs() < 0.015, "{n} for {p}");
        }
        // Temperature 1/2 squares the odds.
        let n = counts(Sampling { temperature: 0.5, ..WARM }, &logits[..2], 20_000);
        assert!((n[0] as f32 / 20_000.0 - 25.0 / 34.0).abs() < 0.015, "{n:?}");
    }

    /// What a sampler draws is what its distribution says, whatever the settings.
    #[test]
    fn draws_have_the_probabilities_of_the_distribution() {
        const DRAWS: usize = 20_000;
        let logits: Vec<f32> = (0..60).map(|i| (i * 37 % 61) as f32 / 12.0).collect();
        for settings in [
            Sampling::default(),
            WARM,
            Sampling { top_k: 7, ..WARM },
            Sampling { top_p: 0.8, ..WARM },
            Sampling { temperature: 0.7, top_k: 30, top_p: 0.9, min_p: 0.05, repetition_penalty: 1.3, ..WARM },
        ] {
            let mut sampler = sampler(settings, 60);
            [3, 3, 59].into_iter().for_each(|token| sampler.accept(token));
            let distribution = sampler.distribution(&logits).clone();
            let sum: f64 = distribution.probabilities().map(|(_, p)| p).sum();
            assert!((sum - 1.0).abs() < 1e-12, "{settings:?}: {sum}");
            let (mut drawn, mut rng) = ([0; 60], Rng::new(5));
            for _ in 0..DRAWS {
                drawn[distribution.draw(&mut rng).unwrap() as usize] += 1;
            }
            let mut expected = [0.0; 60];
            (0..).zip(&mut expected).for_each(|(token, p)| *p = distribution.probability(token));
            for (n, p) in drawn.into_iter().zip(expected) {
                // Five standard deviations of a binomial share.
                let bound = 5.0 * (p * (1.0 - p) / DRAWS as f64).sqrt();
                assert!((f64::from(n) / DRAWS as f64 - p).abs() <= bound, "{settings:?}: {n} for {p}");
            }
            // The next draw of the sampler is the first of its seed.
            let first = distribution.draw(&mut Rng::new(settings.seed));
            assert_eq!(sampler.sample(&logits), first);
        }
    }

    #[test]
    fn filters_cut_where_transformers_cuts() {
        let drawn = |settings, logits: &[f32]| -> Vec<usize> {
            let n = counts(settings, logits, 3_000);
            (0..n.len()).filter(|&i| n[i] > 0).collect()
        };
        let logits = [0.15f32, 0.5, 0.05, 0.3].map(f32::ln);
        assert_eq!(drawn(Sampling { top_k: 2, ..WARM }, &logits), [1, 3]);
        assert_eq!(drawn(Sampling { top_k: 2, ..WARM }, &[1.0, 1.0, 1.0, 0.0]), [0, 1, 2], "ties with the k-th stay");
        assert_eq!(drawn(Sampling { top_p: 0.45, ..WARM }, &logits), [1]);
        assert_eq!(drawn(Sampling { top_p: 0.51, ..WARM }, &logits), [1, 3]);
        assert_eq!(drawn(Sampling { top_p: 0.81, ..WARM }, &logits), [0, 1, 3]);
        assert_eq!(drawn(Sampling { min_p: 0.2, ..WARM }, &logits), [0, 1, 3]);
        assert_eq!(drawn(Sampling { min_p: 1.0, ..WARM }, &logits), [1]);
        // Top-p sees the distribution that top-k left: 0.5 and 0.3 of 0.8.
        assert_eq!(drawn(Sampling { top_k: 2, top_p: 0.62, ..WARM }, &logits), [1]);
    }

    #[test]
    fn repetition_penalty_as_in_transformers() {
        let mut s = sampler(Sampling { repetition_penalty: 2.0, ..Sampling::default() }, 4);
        s.accept(0);
        s.accept(3);
        assert_eq!(s.sample(&[3.0, 1.0, 2.0, -1.0]), Some(2));
        // The choice counts from now on, once however often it occurs.
        s.accept(2);
        assert_eq!(s.sample(&[0.0, 1.5, 2.0, 0.0]), Some(1));

        let penalty = Sampling { repetition_penalty: 2.0, ..WARM };
        let (mut penalized, mut plain) = (sampler(penalty, 4), sampler(WARM, 4));
        [0, 3, 3].into_iter().for_each(|token| penalized.accept(token));
        let wanted: Vec<_> = plain.distribution(&[1.5, 1.0, 2.0, -2.0]).probabilities().collect();
        // Also when asked again, and of a clone.
        for _ in 0..2 {
            let got: Vec<_> = penalized.distribution(&[3.0, 1.0, 2.0, -1.0]).probabilities().collect();
            assert_eq!(got, wanted);
        }
        let (mut clone, logits) = (penalized.clone(), [3.0, 1.0, 2.0, -1.0]);
        assert_eq!([0; 9].map(|_| clone.sample(&logits)), [0; 9].map(|_| penalized.sample(&logits)));
    }

    #[test]
    fn the_penalty_looks_back_as_far_as_asked() {
        const UNSEEN: u32 = 3;
        let penalized = |penalty_tokens| {
            let settings = Sampling { repetition_penalty: 2.0, penalty_tokens, ..WARM };
            let mut sampler = sampler(settings, 4);
            [0, 1, 1, 2].into_iter().for_each(|token| sampler.accept(token));
            let distribution = sampler.distribution(&[1.0; 4]);
            [0, 1, 2, 3].map(|token| distribution.probability(token) < distribution.probability(UNSEEN))
        };
        assert_eq!(penalized(None), [true, true, true, false]);
        assert_eq!(penalized(Some(4)), [true, true, true, false]);
        assert_eq!(penalized(Some(2)), [false, true, true, false], "a token that left once is still there once");
        assert_eq!(penalized(Some(1)), [false, false, true, false]);
        assert_eq!(penalized(Some(0)), [false; 4]);
    }

    #[test]
    fn presence_and_frequency_penalties_count_what_was_generated() {
        let greedy = Sampling { presence_penalty: 1.0, frequency_penalty: 0.5, ..Sampling::default() };
        let mut s = sampler(greedy, 3);
        assert_eq!(s.enough(), None);
        // Of the prompt: no penalty.
        [0, 0, 0].into_iter().for_each(|token| s.accept(token));
        let logits = [4.0, 2.75, 1.0];
        // 4 | 4 - 1.5 = 2.5 < 2.75 | 2.75 - 1.5 = 1.25 < 2.5 | 4 - 2 = 2 > 1.25 | 4 - 2.5 = 1.5 | 4 - 3 = 1 < 1.25
        assert_eq!([0; 7].map(|_| s.sample(&logits)), [0, 1, 0, 0, 0, 1, 0].map(Some));
        // A negative penalty is a reward.
        let mut s = sampler(Sampling { presence_penalty: -2.0, ..Sampling::default() }, 3);
        assert_eq!(s.sample(&[0.0, 1.0, 0.0]), Some(1));
        assert_eq!(s.sample(&[2.5, 1.0, 0.0]), Some(1));
    }

    #[test]
    fn biases_come_first() {
        let greedy = Sampling { repetition_penalty: 2.0, ..Sampling::default() };
        let biased = |settings, bias: &[(u32, f32)]| Sampler::biased(settings, 4, bias);
        let mut s = biased(greedy, &[(1, 3.0), (0, -100.0), (1, 0.5)]).unwrap();
        assert_eq!(s.enough(), None);
        assert_eq!(s.sample(&[9.0, 1.0, 4.0, 0.0]), Some(1), "1 + 3.5");
        assert_eq!(s.sample(&[9.0, 1.0, 2.0, 0.0]), Some(1), "(1 + 3.5) / 2");
        assert_eq!(s.sample(&[9.0, 1.0, 2.5, 0.0]), Some(2));
        assert_eq!(biased(WARM, &[]).unwrap().enough(), sampler(WARM, 4).enough());
        for (bias, wanted) in [
            ((4, 1.0), "logit bias: found token 4, wanted ids below 4"),
            ((3, f32::NAN), "logit bias: found NaN for token 3, wanted a finite number"),
        ] {
            assert_eq!(biased(WARM, &[bias]).unwrap_err().to_string(), wanted);
        }
    }

    #[test]
    fn a_seed_means_the_same_tokens_for_ever() {
        let logits: Vec<f32> = (0..100).map(|i| (i * 37 % 101) as f32 / 16.0).collect();
        let mut s = sampler(Sampling { seed: 42, ..WARM }, 100);
        let drawn: Vec<u32> = (0..8).map(|_| s.sample(&logits).unwrap()).collect();
        assert_eq!(drawn, [81, 30, 98, 68, 79, 60, 16, 60], "as a plain script of the same steps draws");
    }

    #[test]
    fn draws_survive_odd_values() {
        let mut s = sampler(Sampling { top_k: 3, top_p: 0.9, min_p: 0.1, ..WARM }, 4);
        assert_eq!(s.sample(&[f32::NAN, 5.0, f32::NEG_INFINITY, f32::NAN]), Some(1));
        assert_eq!(s.sample(&[f32::INFINITY, 5.0, 0.0, f32::NAN]), Some(0));
        assert_eq!(s.sample(&[f32::NAN; 4]), None);
        let mut cold = sampler(Sampling { temperature: f32::MIN_POSITIVE, ..WARM }, 2);
        assert_eq!(cold.sample(&[f32::MAX, f32::MIN]), Some(0));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        for (settings, name) in [
            (Sampling { temperature: -1.0, ..WARM }, "temperature"),
            (Sampling { temperature: f32::NAN, ..WARM }, "temperature"),
            (Sampling { top_p: 0.0, ..WARM }, "top-p"),
            (Sampling { top_p: 1.5, ..WARM }, "top-p"),
            (Sampling { min_p: -0.1, ..WARM }, "min-p"),
            (Sampling { repetition_penalty: 0.0, ..WARM }, "repetition penalty"),
            (Sampling { presence_penalty: f32::NAN, ..WARM }, "presence penalty"),
            (Sampling { frequency_penalty: f32::INFINITY, ..WARM }, "frequency penalty"),
        ] {
            let error = Sampler::new(settings, 4).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }
}
