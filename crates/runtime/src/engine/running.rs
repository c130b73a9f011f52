//! A job in its sequence.

use super::choice::{Wanted, stored};
use super::score::RowAsked;
use super::{Event, Job, JobId, Outcome, Sink, SlotState, SlotStatus, TokenScore};
use crate::{Error, Finish, Generator, Timings};
use pythia_model::Sequence;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// The receiver of a job's events, until it breaks off.
pub(super) struct Outlet(Option<Sink>);

impl Outlet {
    pub(super) fn new(sink: Sink) -> Self {
        Self(Some(sink))
    }

    pub(super) fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// A sink that panics is one that breaks off: the others go on.
    pub(super) fn send(&mut self, event: Event) {
        if let Some(sink) = &mut self.0
            && catch_unwind(AssertUnwindSafe(|| sink(event))).map_or(true, |flow| flow.is_break())
        {
            self.0 = None;
        }
    }
}

/// Tokens that were computed in a sequence, and the scores of those that follow each, where they are known.
pub(super) struct Cached {
    pub(super) sequence: Sequence,
    pub(super) tokens: Vec<u32>,
    pub(super) scores: Vec<Option<TokenScore>>,
}

impl Cached {
    /// An empty sequence.
    pub(super) fn new(sequence: Sequence) -> Self {
        Self { sequence, tokens: Vec::new(), scores: Vec::new() }
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.sequence.truncate(len);
        self.tokens.truncate(len);
        self.scores.truncate(len);
    }
}

/// A job that runs.
pub(super) struct Running {
    pub(super) id: JobId,
    pub(super) outlet: Outlet,
    pub(super) generator: Generator,
    /// By row, the score of the token after it.
    scores: Vec<Option<TokenScore>>,
    job: Job,
    /// Text that the sink has, in bytes.
    shown: usize,
    /// Tokens that had been run before it.
    reused: usize,
    queued: Duration,
    start: Instant,
    timings: Timings,
    /// A position whose logits are not finite.
    not_finite: Option<usize>,
}

impl Running {
    /// A job whose `generator` holds the first tokens of its prompt, with these scores.
    pub(super) fn new(
        generator: Generator,
        scores: Vec<Option<TokenScore>>,
        (id, job, outlet): (JobId, Job, Outlet),
        queued: Duration,
    ) -> Self {
        let (reused, start) = (generator.seen().len(), Instant::now());
        let timings = Timings { prompt_tokens: job.prompt.len(), ..Timings::default() };
        let mut running =
            Self { id, outlet, generator, scores, job, shown: 0, reused, queued, start, timings, not_finite: None };
        if running.job.score_prompt && reused > 0 {
            running.send_prompt(0..reused);
        }
        running
    }

    pub(super) fn wanted(&self) -> Wanted<'_> {
        wanted(self.id, &self.job)
    }

    /// By row, the score of the token after it.
    pub(super) fn scores(&self) -> &[Option<TokenScore>] {
        &self.scores
    }

    /// How many of the likeliest tokens are to be kept with the score of a chosen token.
    pub(super) fn top_of_choice(&self) -> Option<usize> {
        self.job.logprobs.map(stored)
    }

    /// The last `share` tokens that the model has seen, as rows.
    fn rows(&self, share: usize) -> Range<usize> {
        let seen = self.generator.sequence().len();
        seen - share..seen
    }

    /// The rows to be scored of the last pass, where this job had `share` tokens from `first_row` on.
    pub(super) fn asked(&self, first_row: usize, share: usize) -> impl Iterator<Item = RowAsked> {
        let (rows, top) = (self.rows(share), stored(self.job.logprobs.unwrap_or(0)));
        let targets = self.job.prompt.get(rows.start + 1..).filter(|_| self.job.score_prompt).unwrap_or_default();
        (first_row..first_row + share).zip(targets).map(move |(row, &token)| RowAsked { row, token, top })
    }

    /// Takes the scores that were [asked](Self::asked) for.
    pub(super) fn prompt_scored(&mut self, share: usize, scores: Vec<TokenScore>) {
        let rows = self.rows(share);
        let rows = rows.start..rows.start + scores.len();
        scores.into_iter().zip(rows.clone()).for_each(|(score, row)| self.keep(row, score));
        if !rows.is_empty() {
            self.send_prompt(rows);
        }
    }

    /// The pass has processed the last token of the prompt, if it had not been before.
    pub(super) fn pass_done(&mut self) {
        if self.timings.prompt.is_zero() && self.generator.sequence().len() >= self.job.prompt.len() {
            self.timings.prompt = self.start.elapsed();
        }
    }

    /// Tells of the token that was chosen in this step.
    pub(super) fn chosen(&mut self, score: Option<TokenScore>) {
        let Some(&id) = self.generator.ids().last().filter(|_| self.not_finite.is_none()) else { return };
        if self.generator.ids().len() == 1 {
            self.timings.first_token = self.start.elapsed();
        }
        self.timings.generation = self.start.elapsed() - self.timings.first_token;
        let row = self.job.prompt.len() + self.generator.ids().len() - 2;
        if score.as_ref().is_some_and(is_nan) {
            self.not_finite.get_or_insert(row + 1);
            return;
        }
        let told = score.as_ref().zip(self.job.logprobs).map(|(score, top)| score.with(top));
        if let Some(score) = score {
            self.keep(row, score);
        }
        self.timings.generated_tokens += 1;
        let text = self.generator.piece().unwrap_or_default().to_owned();
        self.shown += text.len();
        self.outlet.send(Event::Token { score: told, id, text });
    }

    fn keep(&mut self, row: usize, score: TokenScore) {
        if self.scores.len() <= row {
            self.scores.resize(row + 1, None);
        }
        self.scores[row] = Some(score);
    }

    fn send_prompt(&mut self, rows: Range<usize>) {
        let top = self.job.logprobs.unwrap_or(0);
        let finite = self.scores[rows.clone()].iter().flatten().take_while(|score| !is_nan(score));
        let told: Vec<TokenScore> = finite.map(|score| score.with(top)).collect();
        if told.len() < rows.len() {
            self.not_finite.get_or_insert(rows.start + told.len() + 1);
        }
        if !told.is_empty() {
            self.outlet.send(Event::Prompt(told));
        }
    }

    /// Whether it has ended, or nobody wants more of it.
    pub(super) fn has_ended(&self) -> bool {
        self.generator.finish().is_some() || self.not_finite.is_some() || !self.outlet.is_open()
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.job.cancel.is_raised()
    }

    /// Ends the job with the reason that there is, or interrupts it, and leaves its tokens to others. Returns whether it
    /// was cut short.
    pub(super) fn finish(mut self) -> (Cached, bool) {
        if self.not_finite.is_none() {
            match self.outlet.is_open() {
                // It may have ended for a reason of its own in the same step.
                true if self.generator.finish().is_some() => {}
                _ => self.generator.interrupt(),
            }
        }
        let position = self.not_finite.map(|position| Finish::NotFinite { position });
        let finish = position.or_else(|| self.generator.finish().cloned()).unwrap_or(Finish::Interrupted);
        let cut = finish == Finish::Interrupted;
        let text = self.generator.text()[self.shown..].to_owned();
        let Self { reused: reused_tokens, queued, mut timings, .. } = self;
        timings.draft = self.generator.draft_stats();
        self.outlet.send(Event::Done(Outcome { finish, text, reused_tokens, queued, timings }));
        (self.into_cached(), cut)
    }

    /// Ends the job because the device failed.
    pub(super) fn fail(mut self, problem: &str) {
        self.outlet.send(Event::Failed(Error::Engine(problem.to_owned())));
    }

    fn into_cached(self) -> Cached {
        let Self { generator, mut scores, not_finite, .. } = self;
        let (mut tokens, sequence) = generator.into_parts();
        tokens.truncate(sequence.len());
        scores.truncate(tokens.len());
        let mut cached = Cached { sequence, tokens, scores };
        if not_finite.is_some() {
            cached.truncate(0);
        }
        cached
    }

    pub(super) fn status(&self) -> SlotStatus {
        SlotStatus {
            state: if self.generator.ids().is_empty() { SlotState::Prompt } else { SlotState::Generating },
            job: Some(self.id),
            cached_tokens: self.generator.sequence().len(),
            prompt_tokens: self.job.prompt.len(),
            generated_tokens: self.generator.ids().len(),
        }
    }
}

pub(super) fn wanted(id: JobId, job: &Job) -> Wanted<'_> {
    Wanted { id, prompt: &job.prompt, scored: job.score_prompt.then(|| job.logprobs.unwrap_or(0)) }
}

fn is_nan(score: &TokenScore) -> bool {
    score.log_likelihood.is_nan()
}
