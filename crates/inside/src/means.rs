//! Means of values over a text.

use crate::Error;
use pythia_model::backend::Batch;
use pythia_model::{BATCH_TOKENS, ContextShape, Hook, Hooks, Model, Span, Values};
use pythia_runtime::TokenStream;
use pythia_task::Cancel;
use std::sync::Arc;

/// For each of `hooks` the mean of its rows over the tokens of a text, run in windows of the model's context: what an
/// ablation to the mean puts in their place. Sums are in f64, token by token.
///
/// # Errors
/// If the text has no tokens, the device does not show a hook or failed, or `cancel` is raised.
pub fn mean_of(
    model: &Arc<Model>,
    text: &mut TokenStream<'_>,
    hooks: &[Hook],
    cancel: &Cancel,
) -> Result<Vec<Vec<f32>>, Error> {
    let n_ctx = model.hparams().n_ctx;
    let n_batch = BATCH_TOKENS.min(n_ctx);
    let mut context = model.context(ContextShape { n_seq: 1, n_ctx, n_batch })?.cancelled_by(cancel.clone());
    let mut sequence = context.sequence()?;
    let mut sums = Sums { hooks, sums: vec![Vec::new(); hooks.len()] };
    let mut done = 0;
    loop {
        let end = text.reach(done + n_batch.min(n_ctx - sequence.len()))?;
        if end == done {
            break;
        }
        context.forward_seen(&mut [Span { sequence: &mut sequence, tokens: text.slice(done..end) }], &mut sums)?;
        text.forget(end);
        done = end;
        if sequence.len() == n_ctx {
            sequence.truncate(0);
        }
    }
    if done == 0 {
        return Err(Error::Setting { name: "mean", problem: "the text has no tokens".to_owned() });
    }
    let mean = |sums: Vec<f64>| sums.into_iter().map(|sum| (sum / done as f64) as f32).collect();
    Ok(sums.sums.into_iter().map(mean).collect())
}

struct Sums<'a> {
    hooks: &'a [Hook],
    /// For each a number per column; empty before the first row.
    sums: Vec<Vec<f64>>,
}

impl Hooks for Sums<'_> {
    fn sees(&self, hook: Hook) -> bool {
        self.hooks.contains(&hook)
    }

    fn see(&mut self, hook: Hook, _: Batch<'_>, values: Values<'_>) {
        let Values::Rows(rows) = values else { return };
        for (_, sums) in self.hooks.iter().zip(&mut self.sums).filter(|(of, _)| **of == hook) {
            sums.resize(rows.cols(), 0.0);
            rows.iter().for_each(|row| sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x)));
        }
    }
}
