//! Many continuations of many contexts: their log-likelihoods, or texts that the model writes.

mod generate;
mod order;
mod room;
mod slots;
#[cfg(test)]
mod tests;

pub use generate::generate_all;

use crate::{Error, tokens};
use order::{Order, Want};
use pythia_model::{Context, Model, Prediction};
use pythia_task::Cancel;
use slots::{Part, Slots};
use std::sync::Arc;

/// Tokens of which the last ones are scored, each given all before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Context and continuation. At most one more than the model's context: the last token predicts nothing that is
    /// scored, so it is not run.
    pub tokens: Vec<u32>,
    /// The first token that is scored: at least 1, since the first token of a text is given no other.
    pub first: usize,
}

/// What a continuation got.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Sum of the log-likelihoods of its tokens, in nats, in token order.
    pub log_likelihood: f64,
    /// Whether each of its tokens is the first of those with the largest logit: greedy decoding would write it.
    pub is_greedy: bool,
}

/// What a run may use.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// Bytes for keys, values and activations, at most; `None` takes a share of the memory that is available. A run
    /// takes what one text needs in any case.
    pub memory: Option<u64>,
    /// Texts that are written side by side, at most; 0 for as many as keep passes short.
    pub parallel: usize,
    /// Positions of a text that is written, its prompt included, at most; 0 for as many as the model has.
    pub n_ctx: usize,
    /// Raised by the caller to stop, also within a forward pass.
    pub cancel: &'a Cancel,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tokens that would have been run for each ask by itself.
    pub asked: u64,
    /// Tokens that were run: each shared start once, or a few times.
    pub run: u64,
    /// Tokens whose keys and values were copied from one sequence to another.
    pub copied: u64,
    /// Forward passes.
    pub passes: u64,
}

impl Ask {
    /// Tokens that are scored.
    fn scored(&self) -> usize {
        self.tokens.len() - self.first
    }

    /// Tokens that the model runs.
    fn run(&self) -> &[u32] {
        &self.tokens[..self.tokens.len() - 1]
    }
}

/// An ask in the making.
struct Open {
    /// Tokens that are not scored yet.
    left: usize,
    is_greedy: bool,
    /// By scored token, its log-likelihood; empty before the first is known. They come in any order, but are added in
    /// the order of the tokens.
    log_likelihoods: Vec<f64>,
}

impl Open {
    fn new(ask: &Ask) -> Self {
        Self { left: ask.scored(), is_greedy: true, log_likelihoods: Vec::new() }
    }

    /// Takes in what is predicted of one of its tokens. Returns the score with the last of them.
    fn answer(&mut self, ask: &Ask, want: &Want, prediction: &Prediction) -> Option<Score> {
        self.log_likelihoods.resize(ask.scored(), 0.0);
        self.log_likelihoods[want.position + 1 - ask.first] = prediction.log_likelihood;
        self.is_greedy &= prediction.best == want.target;
        self.left -= 1;
        (self.left == 0).then(|| Score {
            log_likelihood: std::mem::take(&mut self.log_likelihoods).iter().sum(),
            is_greedy: self.is_greedy,
        })
    }
}

/// Scores every ask and tells `done` its index and score as soon as it has one, in any order. Each ask gets the bits
/// that it would get alone.
///
/// Asks are sorted by their tokens, and tokens that several of them begin with are run once. As many sequences as fill a
/// batch work through them side by side.
///
/// # Errors
/// If an ask is empty, too long, scores its first token or has a token that the model does not have; if the context does
/// not fit in memory, a logit is not finite, the device failed, or the run was cancelled.
pub fn score(
    model: &Arc<Model>,
    asks: &[Ask],
    settings: &Settings<'_>,
    done: &mut dyn FnMut(usize, Score),
) -> Result<Tally, Error> {
    asks.iter().try_for_each(|ask| check(model, ask))?;
    let mut open: Vec<Open> = asks.iter().map(Open::new).collect();
    for (ask, _) in open.iter().enumerate().filter(|(_, open)| open.left == 0) {
        done(ask, Score { log_likelihood: 0.0, is_greedy: true });
    }
    let order = Order::new(asks);
    let asked = (0..order.len()).map(|step| order.run(step).len() as u64).sum();
    let mut tally = Tally { asked, ..Tally::default() };
    if order.len() == 0 {
        return Ok(tally);
    }
    let (context, n_slots) = room::for_steps(model, &order, settings)?;
    let mut context = context.cancelled_by(settings.cancel.clone());
    let mut slots = Slots::new(&context, &order, n_slots)?;
    let mut batch = Wanted::default();
    loop {
        let parts = slots.pass(&mut context)?;
        if parts.is_empty() {
            break;
        }
        tally.passes += 1;
        tally.run += parts.iter().map(|part| part.positions.len() as u64).sum::<u64>();
        batch.collect(&order, &parts);
        batch.predict(&mut context)?;
        for (want, prediction) in batch.answers() {
            if prediction.log_likelihood.is_nan() {
                return Err(Error::NotFinite { position: want.position + 1 });
            }
            if let Some(score) = open[want.ask].answer(&asks[want.ask], want, prediction) {
                done(want.ask, score);
            }
        }
    }
    tally.copied = slots.copied;
    debug_assert!(open.iter().all(|open| open.left == 0), "every ask has its score");
    Ok(tally)
}

/// The predictions that are wanted of a pass.
#[derive(Default)]
struct Wanted {
    wants: Vec<Want>,
    /// By prediction: its row of the batch, its target, and the end of those `wants` that it answers.
    rows: Vec<usize>,
    targets: Vec<u32>,
    ends: Vec<usize>,
    predictions: Vec<Prediction>,
    of_part: Vec<Want>,
}

impl Wanted {
    /// All that is wanted of the tokens of these parts, each prediction once.
    fn collect(&mut self, order: &Order<'_>, parts: &[Part]) {
        let Self { wants, rows, targets, ends, of_part, .. } = self;
        wants.clear();
        rows.clear();
        targets.clear();
        ends.clear();
        let mut first_row = 0;
        for Part { step, positions } in parts {
            // What is run again has been predicted already.
            let own = positions.start.max(order.shared(*step))..positions.end;
            order.wants(*step, own, of_part);
            for same in of_part.chunk_by(|a, b| (a.position, a.target) == (b.position, b.target)) {
                rows.push(first_row + same[0].position - positions.start);
                targets.push(same[0].target);
                wants.extend(same);
                ends.push(wants.len());
            }
            first_row += positions.len();
        }
    }

    fn predict(&mut self, context: &mut Context) -> Result<(), Error> {
        self.predictions.clear();
        self.predictions.resize(self.rows.len(), Prediction::default());
        if !self.rows.is_empty() {
            context.predictions(self.rows.iter().copied(), &self.targets, &mut self.predictions)?;
        }
        Ok(())
    }

    /// Every want with its answer.
    fn answers(&self) -> impl Iterator<Item = (&Want, &Prediction)> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let wants = starts.zip(&self.ends).map(|(start, &end)| &self.wants[start..end]);
        wants.zip(&self.predictions).flat_map(|(wants, prediction)| wants.iter().map(move |want| (want, prediction)))
    }
}

fn check(model: &Model, ask: &Ask) -> Result<(), Error> {
    let (n, n_ctx) = (ask.tokens.len(), model.hparams().n_ctx);
    if n == 0 {
        return Err(Error::EmptyPrompt);
    }
    if !(1..=n).contains(&ask.first) {
        let problem = format!("found {}, wanted 1 to {n}, the number of tokens", ask.first);
        return Err(Error::Setting { name: "first scored token", problem });
    }
    if n > n_ctx + 1 {
        return Err(Error::PromptTooLong { tokens: n, n_ctx: n_ctx + 1 });
    }
    tokens::check(&ask.tokens, model.hparams().n_vocab)
}
