//! A text of token ids in one go: its logits, or the log-likelihood of each token.

use crate::{Error, tokens};
use pythia_model::{BATCH_TOKENS, Context, ContextShape, Model, Span};
use pythia_task::Cancel;
use std::ops::Range;
use std::sync::Arc;

/// Logits after each of `ids`, `[ids.len(), n_vocab]` by rows: row `i` predicts the token at `i + 1`. In memory all at
/// once, which is 4 bytes per token and row of the vocabulary.
///
/// # Errors
/// If there are no ids, more than the model's context, or one that the model does not have, if the device failed, or
/// the run was cancelled.
pub fn logits(model: &Arc<Model>, ids: &[u32], cancel: &Cancel) -> Result<Vec<f32>, Error> {
    let n_vocab = model.hparams().n_vocab;
    check(model, ids)?;
    let mut logits = vec![0.0; ids.len() * n_vocab];
    pass(model, ids, cancel, |context, tokens| {
        let out = &mut logits[tokens.start * n_vocab..tokens.end * n_vocab];
        Ok(context.logits(0..tokens.len(), out)?)
    })?;
    Ok(logits)
}

/// `ln p` of each of `ids` but the first, given all before it, in nats: value `i` is that of the token at `i + 1`.
///
/// # Errors
/// As [`logits`], or if a value is not a number.
pub fn log_likelihoods(model: &Arc<Model>, ids: &[u32], cancel: &Cancel) -> Result<Vec<f64>, Error> {
    let mut values = vec![0.0; ids.len().saturating_sub(1)];
    pass(model, ids, cancel, |context, tokens| {
        // The last token predicts nothing that is known.
        let scored = tokens.start..tokens.end.min(values.len());
        let targets = &ids[scored.start + 1..scored.end + 1];
        context.log_likelihoods(0..scored.len(), targets, &mut values[scored.clone()])?;
        match values[scored.clone()].iter().position(|value| value.is_nan()) {
            Some(at) => Err(Error::NotFinite { position: scored.start + at + 1 }),
            None => Ok(()),
        }
    })?;
    Ok(values)
}

/// Before anything is allocated for them.
fn check(model: &Model, ids: &[u32]) -> Result<(), Error> {
    let n_ctx = model.hparams().n_ctx;
    if ids.is_empty() {
        return Err(Error::EmptyPrompt);
    }
    if ids.len() > n_ctx {
        return Err(Error::PromptTooLong { tokens: ids.len(), n_ctx });
    }
    tokens::check(ids, model.hparams().n_vocab)
}

/// Runs `ids` from an empty context, a batch at a time. After each, `read` gets the context and which tokens the batch
/// had.
fn pass(
    model: &Arc<Model>,
    ids: &[u32],
    cancel: &Cancel,
    mut read: impl FnMut(&mut Context, Range<usize>) -> Result<(), Error>,
) -> Result<(), Error> {
    check(model, ids)?;
    let shape = ContextShape { n_seq: 1, n_ctx: ids.len(), n_batch: ids.len().min(BATCH_TOKENS) };
    let mut context = model.context(shape)?.cancelled_by(cancel.clone());
    let mut sequence = context.sequence()?;
    for tokens in ids.chunks(BATCH_TOKENS) {
        let start = sequence.len();
        context.forward(&mut [Span { sequence: &mut sequence, tokens }])?;
        read(&mut context, start..start + tokens.len())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::tests::model;
    use pythia_model::KvType;

    #[test]
    fn likelihoods_are_of_the_logits() {
        let (model, _) = model(KvType::F32);
        let n_vocab = model.hparams().n_vocab;
        let ids: Vec<u32> = (0..model.hparams().n_ctx).map(|i| (i * 7 % n_vocab) as u32).collect();
        let cancel = Cancel::new();
        let logits = logits(model, &ids, &cancel).unwrap();
        let found = log_likelihoods(model, &ids, &cancel).unwrap();
        assert_eq!((logits.len(), found.len()), (ids.len() * n_vocab, ids.len() - 1));
        for ((row, &target), found) in logits.chunks_exact(n_vocab).zip(&ids[1..]).zip(found) {
            let wanted = f64::from(row[target as usize]) - model.cpu().log_sum_exp(row);
            assert!((found - wanted).abs() < 1e-5, "{found} {wanted}");
        }
        assert!(log_likelihoods(model, &ids[..1], &cancel).unwrap().is_empty());
        assert!(matches!(self::logits(model, &[], &cancel), Err(Error::EmptyPrompt)));
        let long = vec![0; model.hparams().n_ctx + 1];
        assert!(matches!(self::logits(model, &long, &cancel), Err(Error::PromptTooLong { .. })));
        let wrong = n_vocab as u32;
        assert!(matches!(self::logits(model, &[wrong], &cancel), Err(Error::TokenOutOfRange { .. })));
        cancel.raise();
        assert!(matches!(self::logits(model, &ids, &cancel), Err(Error::Cancelled)));
    }
}
