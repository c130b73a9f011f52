//! Perplexity of a text.

use super::protocol::{Protocol, Window};
use super::runner::{Batching, Runner, check_tokens};
use super::statistics::{Estimate, Moments};
use super::{Observer, Progress, Request};
use crate::{Error, Tokenizer};
use pythia_model::Model;
use serde::Serialize;
use std::time::Instant;

/// How well a model predicts a text.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Perplexity {
    /// What was scored, and with what context.
    pub protocol: Protocol,
    /// Windows evaluated.
    pub windows: usize,
    /// Tokens scored.
    pub scored: usize,
    /// Bytes that the scored tokens stand for. `hf-stride` counts those of the text's first token too, which it cannot
    /// score: bits per byte are stated over the whole text.
    pub bytes: usize,
    /// Mean negative log-likelihood of a scored token, in nats.
    pub nll: Estimate,
    /// `exp` of it.
    pub perplexity: Estimate,
    /// Bits to encode a byte of the text.
    pub bits_per_byte: f64,
    /// Tokens through the model per second, logits included; of a comparison, its own work apart.
    pub tokens_per_second: f64,
}

/// Scores a text.
///
/// # Errors
/// If the text is too short for the protocol or holds ids that are not in the model's vocabulary, if a window does not
/// fit the model's context, if the model's output is not finite, or if the observer asks to stop.
pub fn perplexity(model: &Model, request: &Request<'_>, observer: &mut dyn Observer) -> Result<Perplexity, Error> {
    let windows = windows(request, model)?;
    let batching = Batching::new(&windows);
    let mut runner = Runner::new(model, batching, request.protocol.window_tokens())?;
    let mut score = Score::default();
    let (start, mut done) = (Instant::now(), 0);
    for batch in batching.batches(&windows) {
        runner.forward(request.tokens, &batch)?;
        let nlls = runner.nlls(request.tokens, &batch)?;
        let mut nlls = nlls.into_iter();
        for part in batch.parts {
            for (position, nll) in part.targets.zip(&mut nlls) {
                score.push(request.tokenizer, request.tokens[position], position, nll)?;
                observer.token(position, nll);
            }
            if part.ends {
                done += 1;
                if observer.window(&score.progress(done, windows.len(), start)).is_break() {
                    return Err(Error::Interrupted);
                }
            }
        }
    }
    Ok(score.finish(request, windows.len(), &runner))
}

/// The windows that are evaluated, after the checks that all models need.
pub(super) fn windows(request: &Request<'_>, model: &Model) -> Result<Vec<Window>, Error> {
    check_tokens(request.tokens, model.hparams().n_vocab)?;
    let (window, n_ctx) = (request.protocol.window_tokens(), model.hparams().n_ctx);
    if window > n_ctx {
        let problem = format!("found {window} tokens, wanted at most the model's context of {n_ctx}");
        return Err(Error::Setting { name: "window", problem });
    }
    let mut windows = request.protocol.windows(request.tokens.len())?;
    windows.truncate(request.max_windows.unwrap_or(usize::MAX).max(1));
    Ok(windows)
}

/// The sums behind a perplexity.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Score {
    nll: Moments,
    bytes: usize,
}

impl Score {
    /// Takes the next scored token.
    pub(super) fn push(&mut self, tokenizer: &Tokenizer, token: u32, position: usize, nll: f64) -> Result<(), Error> {
        if !nll.is_finite() {
            return Err(Error::NotFinite { position });
        }
        self.nll.push(nll);
        self.bytes += tokenizer.token_bytes(token).len();
        Ok(())
    }

    /// Where things stand.
    pub(super) fn progress(&self, windows: usize, total_windows: usize, start: Instant) -> Progress {
        let perplexity = self.nll.estimate().exp().value;
        Progress { windows, total_windows, scored: self.nll.n(), perplexity, elapsed: start.elapsed() }
    }

    /// The result.
    pub(super) fn finish(self, request: &Request<'_>, windows: usize, runner: &Runner<'_>) -> Perplexity {
        let first = match request.protocol {
            Protocol::Llama { .. } => 0,
            Protocol::HfStride { .. } => request.tokenizer.token_bytes(request.tokens[0]).len(),
        };
        let bytes = self.bytes + first;
        let nll = self.nll.estimate();
        Perplexity {
            protocol: request.protocol,
            windows,
            scored: self.nll.n(),
            bytes,
            nll,
            perplexity: nll.exp(),
            bits_per_byte: nll.value * self.nll.n() as f64 / std::f64::consts::LN_2 / bytes as f64,
            tokens_per_second: runner.rate(),
        }
    }
}
