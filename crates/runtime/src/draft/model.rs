//! Drafts of a smaller model.

use super::Draft;
use crate::{Error, Sampler};
use pythia_model::{BATCH_TOKENS, Context, ContextShape, Model, Sequence, Span};
use pythia_task::Cancel;
use std::sync::Arc;

/// A model that continues the text, one token per pass. It draws from its own logits with the sampler of the text, and so
/// with the random numbers that the text will use: where the two distributions are alike, the tokens mostly are.
#[derive(Debug)]
pub struct ModelDraft {
    model: Arc<Model>,
    n_ctx: usize,
    cancel: Cancel,
    /// Made for the first draft: most texts of a full batch have none.
    running: Option<Running>,
    /// Whether there was no memory for it. The text is written without drafts then.
    is_refused: bool,
}

#[derive(Debug)]
struct Running {
    context: Context,
    sequence: Sequence,
    /// The tokens that `sequence` holds.
    seen: Vec<u32>,
    logits: Vec<f32>,
}

/// So many tokens behind the text are normal: the last one, and one that was drafted last and accepted.
const NORMAL_LAG: usize = 2;

impl ModelDraft {
    /// Drafts for a text of at most `n_ctx` tokens. A text that outgrows the model's own context gets none from there on,
    /// and a text gets none at all if there is no memory for a context. Passes end with an error once `cancel` is raised.
    pub fn new(model: &Arc<Model>, n_ctx: usize, cancel: &Cancel) -> Self {
        let n_ctx = Self::shape(model, n_ctx).n_ctx;
        Self { model: Arc::clone(model), n_ctx, cancel: cancel.clone(), running: None, is_refused: false }
    }

    /// The context of a draft for such a text.
    pub(super) fn shape(model: &Model, n_ctx: usize) -> ContextShape {
        let n_ctx = n_ctx.min(model.hparams().n_ctx);
        ContextShape { n_seq: 1, n_ctx, n_batch: n_ctx.min(BATCH_TOKENS) }
    }

    fn running(&mut self) -> Result<Option<&mut Running>, Error> {
        if self.running.is_none() && !self.is_refused {
            match self.model.context(Self::shape(&self.model, self.n_ctx)) {
                Ok(context) => {
                    let context = context.cancelled_by(self.cancel.clone());
                    let (sequence, logits) = (context.sequence()?, vec![0.0; self.model.hparams().n_vocab]);
                    self.running = Some(Running { context, sequence, seen: Vec::new(), logits });
                }
                Err(pythia_model::Error::Request(_) | pythia_model::Error::Device(_)) => self.is_refused = true,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.running.as_mut())
    }
}

impl Running {
    /// Runs the tokens of `text` after what it has in common with what was run. Returns the row of the last, if there are
    /// any.
    fn run(&mut self, text: &[u32]) -> Result<Option<usize>, Error> {
        let common = self.seen.iter().zip(text).take_while(|(a, b)| a == b).count();
        self.seen.truncate(common);
        self.sequence.truncate(common);
        let mut last = None;
        for batch in text[common..].chunks(self.context.n_batch()) {
            self.context.forward(&mut [Span { sequence: &mut self.sequence, tokens: batch }])?;
            self.seen.extend_from_slice(batch);
            last = Some(batch.len() - 1);
        }
        Ok(last)
    }

    fn choose(&mut self, row: usize, sampler: &mut Sampler) -> Result<Option<u32>, Error> {
        if let Some(enough) = sampler.enough()
            && let Some(candidates) = self.context.largest(row, sampler.n_tokens(), enough)?
        {
            return Ok(sampler.sample_among(&candidates));
        }
        self.context.logits([row], &mut self.logits)?;
        Ok(sampler.sample(&self.logits))
    }
}

impl Draft for ModelDraft {
    fn follow(&mut self, tokens: &[u32]) -> Result<(), Error> {
        if tokens.len() > self.n_ctx {
            return Ok(());
        }
        let Some(running) = self.running()? else { return Ok(()) };
        let most = &tokens[..tokens.len().saturating_sub(NORMAL_LAG)];
        if !running.seen.starts_with(most) {
            running.run(most)?;
        }
        Ok(())
    }

    fn propose(&mut self, tokens: &[u32], sampler: &Sampler, n: usize) -> Result<Vec<u32>, Error> {
        // The last proposed token is not run, so one more fits.
        let n = n.min((self.n_ctx + 1).saturating_sub(tokens.len()));
        if n == 0 || tokens.is_empty() {
            return Ok(Vec::new());
        }
        let Some(running) = self.running()? else { return Ok(Vec::new()) };
        // The last token of the text runs in any case: its logits choose the first of the draft.
        running.seen.truncate(tokens.len() - 1);
        let mut sampler = sampler.clone();
        let mut text = tokens.to_vec();
        while text.len() < tokens.len() + n {
            let Some(row) = running.run(&text)? else { break };
            let Some(token) = running.choose(row, &mut sampler)? else { break };
            text.push(token);
        }
        Ok(text.split_off(tokens.len()))
    }
}
