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

    /// One step of all generators that have not ended. First come those that wait for a single token, so that long
    /// prompts do not hold them up; prompts share the rest of the batch in the order given.
    ///
    /// A batch that is smaller than the number of generators leaves out the last of them.
    ///
    /// # Errors
    /// If the device failed or the context was cancelled: then no generator has got on. Or if a generator's sequence is
    /// of another context, or its tokens are not below the vocabulary's size.
    pub fn step(&mut self, context: &mut Context, generators: &mut [&mut Generator]) -> Result<(), Error> {
        self.forward(context, generators)?;
        self.choose(context, generators)
    }

    /// The pass of a step.
    pub(crate) fn forward(&mut self, context: &mut Context, generators: &mut [&mut Generator]) -> Result<(), Error> {
        self.share_out(context.n_batch(), generators);
        let spans = generators.iter_mut().zip(&self.shares).map(|(generator, &share)| generator.next_span(share));
        context.forward(&mut spans.collect::<Vec<Span<'_>>>())?;
        let mut end = 0;
        self.rows.clear();
        self.rows.extend(generators.iter().zip(&self.shares).map(|(generator, share)| {
            end += share;
            generator.is_ready().then(|| end - 1)
        }));
        Ok(())
    }

    /// How many tokens of each generator are in the next pass, of `left` in all.
    fn share_out(&mut self, mut left: usize, generators: &[&mut Generator]) {
        self.shares.clear();
        self.shares.resize(generators.len(), 0);
        for prompts in [false, true] {
            for (share, generator) in self.shares.iter_mut().zip(generators) {
                let pending = generator.pending();
                if (pending > 1) == prompts {
                    *share = pending.min(left);
                    left -= *share;
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
        let n_vocab = context.model().hparams().n_vocab;
        self.logits.resize(rows.clone().count() * n_vocab, 0.0);
        context.logits(rows, &mut self.logits)?;
        let ready = generators.iter_mut().zip(&self.rows).filter_map(|(generator, row)| row.map(|_| generator));
        for (generator, logits) in ready.zip(self.logits.chunks_exact_mut(n_vocab)) {
            generator.choose(logits);
        }
        Ok(())
    }
}
