//! The windows of a text that is read as it is evaluated.

use super::protocol::{Cutter, Window};
use super::runner::Batching;
use super::{Protocol, Request};
use crate::{Error, TokenStream};
use pythia_model::Model;

/// The windows that are evaluated, in groups that can share a batch.
pub(super) struct Windows {
    protocol: Protocol,
    cutter: Cutter,
    batching: Batching,
    /// Bytes of the text's first token.
    first_bytes: usize,
    /// Windows at most.
    max: usize,
    /// Windows handed out.
    n: usize,
}

impl Windows {
    /// At the start of the text, after the checks that all models need.
    pub(super) fn new(request: &Request<'_>, tokens: &mut TokenStream<'_>, model: &Model) -> Result<Self, Error> {
        let protocol = request.protocol;
        tokens.require_below(model.hparams().n_vocab)?;
        let (window, n_ctx) = (protocol.window_tokens(), model.hparams().n_ctx);
        if window > n_ctx {
            let problem = format!("found {window} tokens, wanted at most the model's context of {n_ctx}");
            return Err(Error::Setting { name: "window", problem });
        }
        tokens.reach_end_if_short()?;
        let cutter = Cutter::new(protocol, &mut |end| tokens.reach(end))?;
        let max = request.max_windows.unwrap_or(usize::MAX).max(1);
        let total = tokens.total();
        // The last token of a window predicts nothing that is scored, so it is not run.
        let longest = window.min(total.unwrap_or(usize::MAX)) - 1;
        let n_windows = total.map_or(usize::MAX, |total| protocol.count(total)).min(max);
        let batching = Batching::new(longest, n_windows);
        let first_bytes = request.tokenizer.token_bytes(tokens.get(0)).len();
        Ok(Self { protocol, cutter, batching, first_bytes, max, n: 0 })
    }

    /// How they are put into batches.
    pub(super) fn batching(&self) -> Batching {
        self.batching
    }

    /// The next windows, as many as share a batch; none at the end. Tokens before them are forgotten.
    pub(super) fn next(&mut self, tokens: &mut TokenStream<'_>) -> Result<Vec<Window>, Error> {
        let mut group = Vec::new();
        while self.n < self.max && group.len() < self.batching.n_seq() {
            let Some(window) = self.cutter.next(&mut |end| tokens.reach(end))? else { break };
            self.n += 1;
            group.push(window);
        }
        if let Some(window) = group.first() {
            tokens.forget(window.tokens.start);
        }
        Ok(group)
    }

    /// Windows handed out by now.
    pub(super) fn n(&self) -> usize {
        self.n
    }

    /// Windows in all, as far as that is known or can be estimated.
    pub(super) fn total(&self, tokens: &TokenStream<'_>) -> Option<usize> {
        let estimate = tokens.estimated_total().map(|total| self.protocol.count(total).max(self.n));
        match (estimate, self.max) {
            (None, usize::MAX) => None,
            (None, max) => Some(max),
            (Some(estimate), max) => Some(estimate.min(max)),
        }
    }

    /// Bytes that count in addition to those of the scored tokens: for `hf-stride`, those of the first token.
    pub(super) fn unscored_bytes(&self) -> usize {
        match self.protocol {
            Protocol::Llama { .. } => 0,
            Protocol::HfStride { .. } => self.first_bytes,
        }
    }
}
