//! The speed of generation with a draft, beside the same text without.

use super::stopwatch::median;
use crate::Error;
use pythia_model::{ContextShape, Model};
use pythia_runtime::draft::{DraftStats, Drafting};
use pythia_runtime::{GenerateOptions, Timings, Tokenizer, generate};
use pythia_task::{Cancel, Progress};
use std::ops::ControlFlow;
use std::sync::Arc;

/// A model and a draft to measure. Texts are greedy.
pub struct DraftBench<'a> {
    /// The model.
    pub model: &'a Arc<Model>,
    /// Its tokenizer.
    pub tokenizer: &'a Arc<Tokenizer>,
    /// What is continued.
    pub prompt: &'a [u32],
    /// Tokens to generate.
    pub n: usize,
    /// The draft.
    pub drafting: &'a Drafting,
    /// Repetitions that count; each is one text without and one with the draft.
    pub repetitions: usize,
    /// Ends the test with an error when it is raised.
    pub cancel: &'a Cancel,
    /// Receives each repetition, including the warm-up.
    pub progress: &'a dyn Progress,
}

/// Tokens per second, medians, and what came of the drafts.
#[derive(Clone, Copy, Debug)]
pub struct DraftResult {
    /// Without the draft.
    pub plain_ts: f64,
    /// With it.
    pub drafted_ts: f64,
    /// The median of the ratios of each repetition.
    pub ratio: f64,
    /// Of the last text.
    pub stats: DraftStats,
}

impl DraftBench<'_> {
    /// Measures both in turns.
    ///
    /// # Errors
    /// If the text does not fit the model's context, the two texts differ, or the test is cancelled.
    pub fn run(&self) -> Result<DraftResult, Error> {
        let (mut plain, mut drafted, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        let mut stats = DraftStats::default();
        for repetition in 0..=self.repetitions {
            let (ids, without) = self.text(None)?;
            let (same, with) = self.text(Some(self.drafting.clone()))?;
            if ids != same {
                return Err(Error::Request("the text with a draft is another one: this is a bug".to_owned()));
            }
            stats = with.draft;
            self.progress.advance("draft", 1);
            // The first loads weights into memory and does not count.
            if repetition > 0 {
                plain.push(without.generation_rate());
                drafted.push(with.generation_rate());
                ratios.push(with.generation_rate() / without.generation_rate().max(f64::MIN_POSITIVE));
            }
        }
        Ok(DraftResult { plain_ts: median(&plain), drafted_ts: median(&drafted), ratio: median(&ratios), stats })
    }

    fn text(&self, draft: Option<Drafting>) -> Result<(Vec<u32>, Timings), Error> {
        let options =
            GenerateOptions { max_new_tokens: Some(self.n), ignore_eos: true, draft, ..GenerateOptions::default() };
        let n_ctx = self.prompt.len() + self.n;
        let shape = ContextShape { n_seq: 1, n_ctx, n_batch: options.n_batch(self.prompt.len()) };
        let mut context = self.model.context(shape)?.cancelled_by(self.cancel.clone());
        let mut on_text = |_: &str| match self.cancel.is_raised() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let text = generate(&mut context, self.tokenizer, self.prompt, &options, &mut on_text)?;
        if self.cancel.is_raised() {
            return Err(Error::Cancelled);
        }
        Ok((text.ids, text.timings))
    }
}
