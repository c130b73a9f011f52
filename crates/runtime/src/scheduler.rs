//! Passes of one context that several generators share.

use crate::engine::TokenScore;
use crate::{Error, Generator};
use pythia_model::{Context, Span};

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
}

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

    /// One step of the generators that have not ended.
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
        self.choose(context, generators)
    }

    /// The pass of a step, over `limit` tokens at most.
    pub(crate) fn forward(
        &mut self,
        context: &mut Context,
        generators: &mut [&mut Generator],
        limit: usize,
    ) -> Result<(), Error> {
        // No choice followed the pass of the last token, and its logits may be gone.
        generators.iter_mut().for_each(|generator| generator.repeat_last());
        self.share_out(limit.min(context.n_batch()), generators);
        let spans = generators.iter_mut().zip(&self.shares).map(|(generator, &share)| generator.next_span(share));
        context.forward(&mut spans.collect::<Vec<Span<'_>>>())?;
        let mut end = 0;
        self.rows.clear();
        self.rows.extend(generators.iter().zip(&self.shares).map(|(generator, share)| {
            end += share;
            (*share > 0 && generator.is_ready()).then(|| end - 1)
        }));
        Ok(())
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
            let lacking = self.shares.iter().zip(generators).filter(|(share, of)| **share < of.pending()).count();
            if lacking == 0 {
                break;
            }
            let most = (left / lacking).max(1);
            for i in (first..first + n).map(|i| i % n) {
                let more = most.min(generators[i].pending() - self.shares[i]).min(left);
                self.shares[i] += more;
                left -= more;
                if left == 0 {
                    self.first = (i + 1) % n;
                    break;
                }
            }
        }
    }

    /// The choices of a step.
    pub(crate) fn choose(&mut self, context: &mut Context, generators: &mut [&mut Generator]) -> Result<(), Error> {
        self.choose_scored(context, generators, |_| None).map(drop)
    }

    /// The choices of a step, and the scores of the tokens that were chosen: with as many of the likeliest as `wanted`
    /// says for that generator, none where it says `None`.
    pub(crate) fn choose_scored(
        &mut self,
        context: &mut Context,
        generators: &mut [&mut Generator],
        wanted: impl Fn(usize) -> Option<usize> + Sync,
    ) -> Result<Vec<(usize, TokenScore)>, Error> {
        // A few candidates where they are all that the sampler looks at and the logits are far away.
        for (index, (generator, row)) in generators.iter_mut().zip(&mut self.rows).enumerate() {
            let (Some(largest), &mut Some(of), None) = (generator.enough(), &mut *row, wanted(index)) else { continue };
            if let Some(candidates) = context.largest(of, generator.n_tokens(), largest)? {
                generator.choose_among(&candidates);
                *row = None;
            }
        }
        let model = context.model().clone();
        let (cpu, n_vocab) = (model.cpu(), model.hparams().n_vocab);
        let ready = generators.iter_mut().zip(&self.rows).enumerate();
        let ready =
            ready.filter_map(|(index, (generator, row))| row.map(|row| Choice { index, generator, row, score: None }));
        let mut choices: Vec<Choice<'_, '_>> = ready.collect();
        for tile in choices.chunks_mut(TILE_ROWS) {
            self.logits.resize(tile.len() * n_vocab, 0.0);
            context.logits(tile.iter().map(|choice| choice.row), &mut self.logits)?;
            let logits = &self.logits;
            cpu.team().run_pieces(tile, 1, |n, choice| {
                let Choice { index, generator, score, .. } = &mut choice[0];
                let logits = &logits[n * n_vocab..][..n_vocab];
                let chosen = generator.ids().len();
                generator.choose(logits);
                let token = generator.ids().get(chosen);
                *score = wanted(*index).zip(token).map(|(top, &token)| TokenScore::of_logits(cpu, logits, token, top));
            });
        }
        Ok(choices.into_iter().filter_map(|choice| Some((choice.index, choice.score?))).collect())
    }
}

#[cfg(test)]
mod tests;
