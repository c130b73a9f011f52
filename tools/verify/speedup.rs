//! The speed-up that the cost of checks and a rate of acceptance promise, and the one that drafts of this rate reach.
//!
//! A draft of `k` tokens, each right with probability `a`, brings `1 + a + .. + a^k` tokens in the time of a pass over
//! `1 + k`, so a text is written `(1 + a + .. + a^k) T(1) / T(1 + k)` times as fast. Lengths are those that the generator
//! chooses, and the `k` for which the formula promises most. Texts with and without drafts take turns, and must be the same.

use super::{MOST, median};
use pythia_model::{ContextShape, Model};
use pythia_runtime::draft::{Draft, DraftLength, DraftStats};
use pythia_runtime::{Error, GenerateOptions, Generator, Rng, Sampler, Scheduler, Tokenizer};
use std::sync::Arc;
use std::time::Instant;

const RATES: [f64; 5] = [0.5, 0.7, 0.8, 0.9, 1.0];

/// Knows the text, and proposes a wrong token at some positions of it. It costs nothing.
#[derive(Debug)]
struct Known {
    /// Prompt and continuation.
    text: Vec<u32>,
    right: Vec<bool>,
}

impl Known {
    /// Wrong at so many random positions of the last `n` as the rate says: chance has no part in how many there are.
    fn new(text: &[u32], n: usize, rate: f64, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let wrong = ((1.0 - rate) * n as f64).round() as usize;
        let mut right: Vec<bool> = (0..n).map(|i| i >= wrong).collect();
        for i in (1..n).rev() {
            right.swap(i, (rng.next_f64() * (i + 1) as f64) as usize);
        }
        let right = [vec![true; text.len() - n], right].concat();
        Self { text: text.to_vec(), right }
    }
}

impl Draft for Known {
    fn propose(&mut self, tokens: &[u32], _: &Sampler, n: usize) -> Result<Vec<u32>, Error> {
        let next = self.text.iter().zip(&self.right).skip(tokens.len());
        Ok(next.take(n).map(|(&token, right)| if *right { token } else { token.checked_sub(1).unwrap_or(1) }).collect())
    }
}

/// A text that is written again and again.
pub(super) struct Texts {
    model: Arc<Model>,
    tokenizer: Arc<Tokenizer>,
    /// Prompt and continuation.
    text: Vec<u32>,
    n_prompt: usize,
    /// Seconds without a draft.
    plain: Vec<f64>,
    rows: [Row; RATES.len()],
}

/// What came of drafts of one rate.
#[derive(Default)]
struct Row {
    /// The speed-up with the length that promises most, and with those that the generator chooses.
    fixed: Vec<f64>,
    chosen: Vec<f64>,
    /// The mean of those.
    lengths: Vec<f64>,
}

impl Texts {
    /// The text of `n` tokens after this prompt.
    pub(super) fn new(model: &Arc<Model>, prompt: &[u32], n: usize) -> Result<Self, Error> {
        let tokenizer = Arc::new(Tokenizer::from_gguf(&model.gguf().metadata)?);
        // Its tokens are not known yet.
        let text = [prompt, &vec![0; n]].concat();
        let (model, plain, rows) = (Arc::clone(model), Vec::new(), Default::default());
        let mut texts = Self { model, tokenizer, text, n_prompt: prompt.len(), plain, rows };
        texts.text = [prompt, &texts.once(None)?.0].concat();
        Ok(texts)
    }

    /// Writes it without a draft and with one of each kind. `times` are those of passes over 1, 2 and so on tokens.
    pub(super) fn write(&mut self, seed: u64, times: &[f64]) -> Result<(), Error> {
        let (ids, plain, _) = self.once(None)?;
        let n = ids.len();
        self.plain.push(plain);
        for (i, rate) in RATES.into_iter().enumerate() {
            let drafted = |length| {
                let (same, seconds, stats) = self.once(Some((Known::new(&self.text, n, rate, seed), length)))?;
                assert_eq!(same, ids, "the text with a draft is the one without");
                Ok::<_, Error>((plain / seconds, stats.drafted as f64 / stats.passes.max(1) as f64))
            };
            let (best, _) = best(rate, times);
            let ((fixed, _), (chosen, length)) =
                (drafted(DraftLength::new(best, best)?)?, drafted(DraftLength::default())?);
            let row = &mut self.rows[i];
            row.fixed.push(fixed);
            row.chosen.push(chosen);
            row.lengths.push(length);
        }
        Ok(())
    }

    /// The tokens, the seconds that they took without the first, and what came of drafts.
    fn once(&self, draft: Option<(Known, DraftLength)>) -> Result<(Vec<u32>, f64, DraftStats), Error> {
        let (prompt, n) = (&self.text[..self.n_prompt], self.text.len() - self.n_prompt);
        let options = GenerateOptions { max_new_tokens: Some(n), ignore_eos: true, ..GenerateOptions::default() };
        let shape = ContextShape { n_seq: 1, n_ctx: self.text.len(), n_batch: prompt.len().max(MOST) };
        let mut context = self.model.context(shape)?;
        let mut generator = Generator::new(&context, &self.tokenizer, prompt, &options)?;
        if let Some((draft, length)) = draft {
            generator = generator.drafted_by(Box::new(draft), length);
        }
        let mut scheduler = Scheduler::new();
        scheduler.step(&mut context, &mut [&mut generator])?;
        let start = Instant::now();
        while generator.finish().is_none() {
            scheduler.step(&mut context, &mut [&mut generator])?;
        }
        Ok((generator.ids().to_vec(), start.elapsed().as_secs_f64(), generator.draft_stats()))
    }

    pub(super) fn print(&self, times: &[f64]) {
        let n = self.text.len() - self.n_prompt;
        let per_token = 1e3 * median(&self.plain) / (n - 1) as f64;
        println!("\n{n} tokens, plain {per_token:.3} ms each; speed-ups with drafts that cost nothing:");
        println!("accepted  best k  promised     with best k   chosen lengths    mean");
        for (rate, row) in RATES.into_iter().zip(&self.rows) {
            let (best, promised) = best(rate, times);
            let (fixed, chosen, length) = (median(&row.fixed), median(&row.chosen), median(&row.lengths));
            let (of_fixed, of_chosen) = (fixed / promised, chosen / promised);
            println!(
                "{rate:8.2}{best:8}{promised:10.2}{fixed:9.2} ({of_fixed:4.2}){chosen:10.2} ({of_chosen:4.2}){length:8.1}"
            );
        }
    }
}

/// The length for which the formula promises most, and the speed-up.
fn best(rate: f64, times: &[f64]) -> (usize, f64) {
    let gain = |k: usize| (0..=k).map(|i| rate.powi(i as i32)).sum::<f64>() * times[0] / times[k];
    (1..times.len()).map(|k| (k, gain(k))).max_by(|a, b| a.1.total_cmp(&b.1)).expect("drafts of a token and more")
}
