//! Passes of one context that several generators share.

use crate::{Error, Generator};
use pythia_model::{Context, Span};

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
    /// Of the generators that choose from all logits, `[generators, n_vocab]`.
    logits: Vec<f32>,
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
        self.forward(context, generators)?;
        self.choose(context, generators)
    }

    /// The pass of a step.
    pub(crate) fn forward(&mut self, context: &mut Context, generators: &mut [&mut Generator]) -> Result<(), Error> {
        // No choice followed the pass of the last token, and its logits may be gone.
        generators.iter_mut().for_each(|generator| generator.repeat_last());
        self.share_out(context.n_batch(), generators);
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
        // A few candidates where they are all that the sampler looks at and the logits are far away.
        for (generator, row) in generators.iter_mut().zip(&mut self.rows) {
            let (Some(largest), &mut Some(of)) = (generator.enough(), &mut *row) else { continue };
            if let Some(candidates) = context.largest(of, generator.n_tokens(), largest)? {
                generator.choose_among(&candidates);
                *row = None;
            }
        }
        let rows = self.rows.iter().flatten().copied();
        let (n, n_vocab) = (rows.clone().count(), context.model().hparams().n_vocab);
        if n == 0 {
            return Ok(()); // without waiting for the device
        }
        self.logits.resize(n * n_vocab, 0.0);
        context.logits(rows, &mut self.logits)?;
        let ready = generators.iter_mut().zip(&self.rows).filter_map(|(generator, row)| row.map(|_| generator));
        for (generator, logits) in ready.zip(self.logits.chunks_exact(n_vocab)) {
            generator.choose(logits);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
