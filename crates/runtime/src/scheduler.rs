//! Passes of one context that several generators share.

use crate::draft::{Experience, Load, Round};
use crate::engine::TokenScore;
use crate::{Error, Generator};
use pythia_model::{Context, Span};
use std::time::Instant;

/// Rows of logits that are in memory at the same time.
pub(crate) const TILE_ROWS: usize = 32;

/// Steps generators together: one pass of the context, then a choice by each generator that is ready for one. They can
/// join and leave at any step, and each gets the tokens that it would get alone: the bits of a row do not depend on the
/// others of its batch.
#[derive(Debug, Default)]
pub struct Scheduler {
    /// By generator, its tokens in the pass.
    shares: Vec<usize>,
    /// The first generator that gets tokens in the next pass.
    first: usize,
    /// By generator, the row of the pass that decides its next token.
    rows: Vec<Option<usize>>,
    /// Of the generators that choose from all logits, `[TILE_ROWS, n_vocab]` at most.
    logits: Vec<f32>,
    /// The rows of the pass that `logits` are of, ascending.
    tile: Vec<usize>,
    /// Of drafts, shared by all generators.
    experience: Experience,
    /// The last pass, until its drafts are settled.
    last: Option<Pass>,
    /// Passes with drafts since the last one without.
    drafted_passes: usize,
    /// The generator that drafts first for the next pass.
    first_to_draft: usize,
}

/// A pass, and how long it took.
#[derive(Debug)]
struct Pass {
    generators: usize,
    rows: usize,
    /// Until the first choice of each; without the choices until `is_complete`.
    seconds: f64,
    is_complete: bool,
    /// Whether every generator had one token of its text: the time says something about others then.
    is_plain: bool,
}

/// A pass without drafts follows so many with drafts, so that its time stays known.
const PLAIN_EVERY: usize = 32;

/// A generator that chooses from all logits.
struct Choice<'a, 'g> {
    index: usize,
    generator: &'a mut &'g mut Generator,
    row: usize,
    score: Option<TokenScore>,
}

impl Scheduler {
    /// A scheduler for any context and any generators of its sequences.
    pub fn new() -> Self {
        Self::default()
    }

    /// One step of the generators that have not ended: a token for each that has seen all others, and one more for every
    /// drafted token that is the right one.
    ///
    /// The batch is shared evenly: each generator that waits for tokens gets one, and prompts divide the rest. A long
    /// prompt therefore delays neither generators that decode nor other prompts. If the batch is too small for all, the
    /// next step begins with those that got nothing; for that the generators must keep their order.
    ///
    /// The last token of a generator that is [ready](Generator::is_ready) beforehand is computed again.
    ///
    /// # Errors
    /// If the device failed, the context was cancelled, or a generator is of another context. A generator for which no
    /// token was chosen continues from the same token with the next step.
    pub fn step(&mut self, context: &mut Context, generators: &mut [&mut Generator]) -> Result<(), Error> {
        self.forward(context, generators, context.n_batch())?;
        while self.has_choices() {
            self.choose(context, generators)?;
        }
        Ok(())
    }

    /// As [`step`](Self::step), but one token of each at most: tokens of a draft that turn out right come one by one, with
    /// further calls, before there is another pass. So a text can be ended after any of its tokens.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn step_one(&mut self, context: &mut Context, generators: &mut [&mut Generator]) -> Result<(), Error> {
        if !self.has_choices() {
            self.forward(context, generators, context.n_batch())?;
        }
        self.choose(context, generators)
    }

    /// The pass of a step, over `limit` tokens at most. Choices follow until there [are none](Self::has_choices).
    pub(crate) fn forward(
        &mut self,
        context: &mut Context,
        generators: &mut [&mut Generator],
        limit: usize,
    ) -> Result<(), Error> {
        // No choice followed the pass of the last token, and its logits may be gone.
        generators.iter_mut().for_each(|generator| generator.repeat_last());
        self.settle(generators);
        self.rows.clear();
        self.tile.clear();
        let limit = limit.min(context.n_batch());
        self.draft(generators, limit)?;
        self.share_out(limit, generators);
        let decodes = |(generator, &share): (&&mut Generator, &usize)| generator.pending() == share.min(1);
        let all_decode = generators.iter().zip(&self.shares).all(decodes);
        let start = Instant::now();
        let spans = generators.iter_mut().zip(&self.shares).map(|(generator, &share)| generator.next_span(share));
        context.forward(&mut spans.collect::<Vec<Span<'_>>>())?;
        let mut end = 0;
        self.rows.extend(generators.iter().zip(&self.shares).map(|(generator, share)| {
            end += share;
            (*share > 0 && generator.is_ready()).then(|| end - 1 - generator.unchecked())
        }));
        for generator in generators.iter_mut() {
            let tokens = generator.unchecked();
            generator.speculation().into_iter().for_each(|speculation| speculation.checked(tokens));
        }
        let n = self.shares.iter().filter(|share| **share > 0).count();
        let (seconds, is_plain) = (start.elapsed().as_secs_f64(), all_decode && n > 0);
        self.last = Some(Pass { generators: n, rows: end, seconds, is_complete: false, is_plain });
        Ok(())
    }

    /// Ends the rounds of drafts that the last pass checked, and notes how long the pass took.
    fn settle(&mut self, generators: &mut [&mut Generator]) {
        let Some(pass) = self.last.take() else { return };
        let experience = &mut self.experience;
        let speculations = generators.iter_mut().filter_map(|generator| generator.speculation());
        let rounds: Vec<Round> = speculations.map(|speculation| speculation.settle(experience)).collect();
        let has_drafts = rounds.iter().any(|round| round.checked > 0);
        self.drafted_passes = if has_drafts { self.drafted_passes + 1 } else { 0 };
        if let Pass { generators: n, rows, seconds, is_complete: true, is_plain: true } = pass {
            experience.times.record(rows, seconds);
            experience.settle(n, seconds, &rounds);
        }
    }

    /// Drafts tokens for the next pass, if it has no prompts: nobody knows what more rows cost there.
    fn draft(&mut self, generators: &mut [&mut Generator], limit: usize) -> Result<(), Error> {
        let is_speculative = generators.iter().any(|generator| generator.is_speculative());
        if !is_speculative || generators.iter().any(|generator| generator.pending() > 1) {
            return Ok(());
        }
        let n = generators.iter().filter(|generator| generator.pending() > 0).count();
        let most = limit.min(TILE_ROWS);
        let is_due = self.drafted_passes >= PLAIN_EVERY;
        if is_due {
            self.drafted_passes = 0;
        }
        let mut load = Load::plain(n, &self.experience.times);
        // Each has its turn: there may be room, or time to lose, for one draft only.
        let (n, first) = (generators.len(), self.first_to_draft);
        self.first_to_draft = (first + 1) % n;
        for i in (first..first + n).map(|i| i % n) {
            if generators[i].is_speculative() {
                let room = most.saturating_sub(load.rows);
                generators[i].draft(&mut load, &mut self.experience, room, is_due)?;
            }
        }
        Ok(())
    }

    /// Whether the last pass has logits that nobody has chosen from.
    pub(crate) fn has_choices(&self) -> bool {
        self.rows.iter().any(Option::is_some)
    }

    /// By generator, its tokens in the last pass, whose rows are in this order.
    pub(crate) fn shares(&self) -> &[usize] {
        &self.shares
    }

    /// How many tokens of each generator are in the next pass, of `left` in all.
    fn share_out(&mut self, mut left: usize, generators: &[&mut Generator]) {
        let (n, first) = (generators.len(), self.first);
        self.shares.clear();
        self.shares.resize(n, 0);
        // A round gives each the same, or what it lacks. What that leaves is for the next round.
        while left > 0 {
            let lacking = self.shares.iter().zip(generators).filter(|(share, of)| **share < of.wanted()).count();
            if lacking == 0 {
                break;
            }
            let most = (left / lacking).max(1);
            for i in (first..first + n).map(|i| i % n) {
                let more = most.min(generators[i].wanted() - self.shares[i]).min(left);
                self.shares[i] += more;
                left -= more;
                if left == 0 {
                    self.first = (i + 1) % n;
                    break;
                }
            }
        }
    }

    /// One choice of each generator that is ready.
    pub(crate) fn choose(&mut self, context: &mut Context, generators: &mut [&mut Generator]) -> Result<(), Error> {
        self.choose_scored(context, generators, |_| None).map(drop)
    }

    /// One choice of each generator that is ready, and the scores of the tokens that were chosen: with as many of the
    /// likeliest as `wanted` says for that generator, none where it says `None`.
    pub(crate) fn choose_scored(
        &mut self,
        context: &mut Context,
        generators: &mut [&mut Generator],
        wanted: impl Fn(usize) -> Option<usize> + Sync,
    ) -> Result<Vec<(usize, TokenScore)>, Error> {
        let start = Instant::now();
        let mut rows = std::mem::take(&mut self.rows);
        self.rows.resize(rows.len(), None);
        // A text may have been ended since the last choice.
        rows.iter_mut().zip(&*generators).for_each(|(row, generator)| *row = row.filter(|_| generator.is_ready()));
        // A few candidates where they are all that the sampler looks at and the logits are far away.
        for (index, (generator, row)) in generators.iter_mut().zip(&mut rows).enumerate() {
            let (Some(largest), &mut Some(of), None) = (generator.enough(), &mut *row, wanted(index)) else { continue };
            if let Some(candidates) = context.largest(of, generator.n_tokens(), largest)? {
                generator.choose_among(&candidates);
                *row = None;
                self.rows[index] = generator.is_ready().then_some(of + 1);
            }
        }
        let model = context.model().clone();
        let (cpu, n_vocab) = (model.cpu(), model.hparams().n_vocab);
        let ready = generators.iter_mut().zip(&rows).enumerate();
        let ready =
            ready.filter_map(|(index, (generator, row))| row.map(|row| Choice { index, generator, row, score: None }));
        let mut choices: Vec<Choice<'_, '_>> = ready.collect();
        for tile in choices.chunks_mut(TILE_ROWS) {
            // The rows of a draft are computed with the first: the output matrix is read once for all. They fit in one
            // tile, because `draft` keeps to its size.
            if tile.iter().any(|choice| self.tile.binary_search(&choice.row).is_err()) {
                let all = tile.iter().flat_map(|choice| choice.row..=choice.row + choice.generator.unchecked());
                self.tile = all.collect();
                self.logits.resize(self.tile.len() * n_vocab, 0.0);
                context.logits(self.tile.iter().copied(), &mut self.logits)?;
            }
            let (logits, computed) = (&self.logits, &self.tile);
            cpu.team().run_pieces(tile, 1, |_, choice| {
                let Choice { index, generator, row, score } = &mut choice[0];
                let at = computed.binary_search(row).expect("computed above");
                let logits = &logits[at * n_vocab..][..n_vocab];
                let chosen = generator.ids().len();
                generator.choose(logits);
                let token = generator.ids().get(chosen);
                *score = wanted(*index).zip(token).map(|(top, &token)| TokenScore::of_logits(cpu, logits, token, top));
            });
        }
        for Choice { index, generator, row, .. } in &choices {
            self.rows[*index] = generator.is_ready().then_some(row + 1);
        }
        if let Some(pass) = self.last.as_mut().filter(|pass| !pass.is_complete) {
            pass.seconds += start.elapsed().as_secs_f64();
            pass.is_complete = true;
        }
        let scores = choices.into_iter().filter_map(|choice| Some((choice.index, choice.score?))).collect();
        if !self.has_choices() {
            self.settle(generators);
        }
        Ok(scores)
    }
}

#[cfg(test)]
mod tests;
