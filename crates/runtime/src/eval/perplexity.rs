//! Perplexity of a text.

use super::protocol::Protocol;
use super::runner::Runner;
use super::statistics::{Estimate, Moments};
use super::windows::Windows;
use super::{Observer, Request, State};
use crate::{Error, TokenStream, Tokenizer};
use pythia_model::Model;
use serde::Serialize;
use std::sync::Arc;
use std::time::Instant;

/// The perplexity of a text, with related figures.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Perplexity {
    /// Which tokens were scored, and their context.
    pub protocol: Protocol,
    /// Windows evaluated.
    pub windows: usize,
    /// Tokens scored.
    pub scored: usize,
    /// Bytes of the scored tokens. `hf-stride` also counts those of the text's first token, which it cannot score, so
    /// that bits per byte refer to the whole text.
    pub bytes: usize,
    /// Mean negative log-likelihood of a scored token, in nats.
    pub nll: Estimate,
    /// `exp` of it.
    pub perplexity: Estimate,
    /// Bits to encode a byte of the text.
    pub bits_per_byte: f64,
    /// Tokens per second through the model, including logits. In a comparison, without the work of comparing; 0 if
    /// nothing was run.
    pub tokens_per_second: f64,
}

/// Scores a text. Reads no more of it than the windows need.
///
/// # Errors
/// If the text cannot be read or tokenized, is too short for the protocol or holds ids that are not in the model's
/// vocabulary, if a window does not fit the model's context, if the model's output is not finite, or if it is cancelled.
pub fn perplexity(
    model: &Arc<Model>,
    request: &Request<'_>,
    tokens: &mut TokenStream<'_>,
    observer: &mut dyn Observer,
) -> Result<Perplexity, Error> {
    let mut windows = Windows::new(request, tokens, model)?;
    let batching = windows.batching();
    let mut runner = Runner::new(model, batching, request.protocol.window_tokens(), request.cancel)?;
    let mut score = Score::default();
    let (start, mut done) = (Instant::now(), 0);
    loop {
        let group = windows.next(tokens)?;
        if group.is_empty() {
            return Ok(score.finish(request, &windows, runner.rate()));
        }
        for batch in batching.batches(&group) {
            runner.forward(tokens, &batch)?;
            let mut nlls = runner.nlls(tokens, &batch)?.into_iter();
            for part in batch.parts {
                for (position, nll) in part.targets.zip(&mut nlls) {
                    let token = tokens.get(position);
                    score.push(request.tokenizer, token, position, nll)?;
                    observer.token(position, token, nll);
                }
                if part.ends {
                    done += 1;
                    observer.window(&score.state(done, windows.total(tokens), start));
                    request.check_cancel()?;
                }
            }
        }
    }
}

/// The sums behind a perplexity.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Score {
    nll: Moments,
    bytes: usize,
}

impl Score {
    /// Adds the next scored token.
    pub(super) fn push(&mut self, tokenizer: &Tokenizer, token: u32, position: usize, nll: f64) -> Result<(), Error> {
        if !nll.is_finite() {
            return Err(Error::NotFinite { position });
        }
        self.nll.push(nll);
        self.bytes += tokenizer.token_bytes(token).len();
        Ok(())
    }

    /// The state so far.
    pub(super) fn state(&self, windows: usize, total_windows: Option<usize>, start: Instant) -> State {
        let perplexity = self.nll.estimate().exp().value;
        State { windows, total_windows, scored: self.nll.n(), perplexity, elapsed: start.elapsed() }
    }

    /// The result.
    pub(super) fn finish(self, request: &Request<'_>, windows: &Windows, tokens_per_second: f64) -> Perplexity {
        let bytes = self.bytes + windows.unscored_bytes();
        let nll = self.nll.estimate();
        Perplexity {
            protocol: request.protocol,
            windows: windows.n(),
            scored: self.nll.n(),
            bytes,
            nll,
            perplexity: nll.exp(),
            bits_per_byte: nll.value * self.nll.n() as f64 / std::f64::consts::LN_2 / bytes as f64,
            tokens_per_second,
        }
    }
}
