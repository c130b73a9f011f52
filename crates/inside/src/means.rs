//! Means of values over a text.

use crate::Error;
use pythia_model::backend::Batch;
use pythia_model::{BATCH_TOKENS, ContextShape, Hook, Hooks, Model, Span, Values};
use pythia_runtime::{Text, TokenStream, Tokenizer};
use pythia_task::Cancel;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// For each of `hooks` the mean of its rows over the tokens of a text, run in windows of the model's context: what an
/// ablation to the mean puts in their place. Sums are in f64, token by token.
///
/// # Errors
/// If the text has no tokens, values are not finite, the device does not show a hook or failed, or `cancel` is raised.
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
    let mut sums = Sums { hooks, sums: vec![Vec::new(); hooks.len()], failed: None };
    let mut done = 0;
    loop {
        let end = text.reach(done + n_batch.min(n_ctx - sequence.len()))?;
        if end == done {
            break;
        }
        context.forward_seen(&mut [Span { sequence: &mut sequence, tokens: text.slice(done..end) }], &mut sums)?;
        if let Some((hook, row)) = sums.failed {
            return Err(Error::NotFinite { hook, position: done + row });
        }
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

/// The same for a text that is read and tokenized. What is wrong with it says its name.
///
/// # Errors
/// As [`mean_of`], and if the text cannot be read to its end.
pub fn mean_over(
    model: &Arc<Model>,
    tokenizer: &Tokenizer,
    text: &Text,
    hooks: &[Hook],
    cancel: &Cancel,
) -> Result<Vec<Vec<f32>>, Error> {
    let path = model.paths().first().map_or(Path::new(""), PathBuf::as_path);
    let located = |error: pythia_runtime::Error| Error::from(error.located(path, text));
    let mut tokens = text.tokens(tokenizer, cancel)?;
    tokens.require_below(model.hparams().n_vocab).map_err(located)?;
    if tokens.reach(1).map_err(located)? == 0 {
        return Err(Error::Input { place: text.to_string(), problem: "has no tokens, which a mean needs".to_owned() });
    }
    mean_of(model, &mut tokens, hooks, cancel).map_err(|error| match error {
        Error::Runtime(error) => located(error),
        error => error,
    })
}

struct Sums<'a> {
    hooks: &'a [Hook],
    /// For each a number per column; empty before the first row.
    sums: Vec<Vec<f64>>,
    /// The first hook where something was not finite, and the row of the batch.
    failed: Option<(Hook, usize)>,
}

impl Hooks for Sums<'_> {
    fn sees(&self, hook: Hook) -> bool {
        self.hooks.contains(&hook)
    }

    fn see(&mut self, hook: Hook, _: Batch<'_>, values: Values<'_>) {
        let Values::Rows(rows) = values else { return };
        if self.failed.is_none() {
            let row = rows.iter().position(|row| row.iter().any(|x| !x.is_finite()));
            self.failed = row.map(|row| (hook, row));
        }
        for (_, sums) in self.hooks.iter().zip(&mut self.sums).filter(|(of, _)| **of == hook) {
            sums.resize(rows.cols(), 0.0);
            rows.iter().for_each(|row| sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x)));
        }
    }
}
