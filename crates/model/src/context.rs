//! Running state: sequences and the cache of their keys and values.

use crate::backend::{Batch, Candidate, Head, Largest, RowSpan};
use crate::budget::{Amount, Budget, Taken};
use crate::cpu::CPU;
use crate::error::Error;
use crate::hook::{Hook, Hooks};
use crate::loaded::Running;
use crate::model::Model;
use crate::sequence::{Sequence, Slots};
use crate::tap::Taps;
use pythia_kernels::Prediction;
use pythia_task::Cancel;
use std::sync::Arc;

/// How much a context can hold.
#[derive(Clone, Copy, Debug)]
pub struct ContextShape {
    /// Independent sequences.
    pub n_seq: usize,
    /// Positions per sequence.
    pub n_ctx: usize,
    /// Tokens per call of [`Context::forward`].
    pub n_batch: usize,
}

/// Tokens to append to a sequence.
#[derive(Debug)]
pub struct Span<'t> {
    /// Which sequence: of the context that runs them.
    pub sequence: &'t mut Sequence,
    /// Token ids, below the vocabulary's size.
    pub tokens: &'t [u32],
}

/// Sequences in progress. It shares its model, and can be moved to another thread.
pub struct Context {
    model: Arc<Model>,
    shape: ContextShape,
    slots: Arc<Slots>,
    running: Box<dyn Running>,
    cancel: Cancel,
    /// The last batch: its tokens and where they belong. Empty after an error, when there are no rows to read.
    tokens: Vec<u32>,
    row_spans: Vec<RowSpan>,
    /// Its part of [`Options::memory`](crate::Options::memory).
    _taken: Option<Taken>,
}

/// The budget of a model, if there is one, and what a context takes of it.
fn price(model: &Model, shape: ContextShape) -> Option<(&Arc<Budget>, u64)> {
    let budget = model.options().memory.as_ref().filter(|_| model.device() == CPU)?;
    Some((budget, model.context_bytes(shape).map_or(u64::MAX, |bytes| bytes as u64)))
}

/// Takes what a context needs from the budget of its model.
fn reserve(model: &Model, shape: ContextShape) -> Result<Option<Taken>, Error> {
    let Some((budget, bytes)) = price(model, shape) else { return Ok(None) };
    budget.take(bytes).map(Some).ok_or_else(|| too_much(model, shape, "", bytes, budget))
}

/// Checks that `n` contexts fit what is left of the budget.
pub(crate) fn check_memory(model: &Model, shape: ContextShape, n: usize) -> Result<(), Error> {
    let Some((budget, bytes)) = price(model, shape) else { return Ok(()) };
    let all = bytes.saturating_mul(n as u64);
    let times = if n == 1 { String::new() } else { format!("{n} times ") };
    if all <= budget.left() { Ok(()) } else { Err(too_much(model, shape, &times, all, budget)) }
}

fn too_much(model: &Model, shape: ContextShape, times: &str, bytes: u64, budget: &Budget) -> Error {
    let spec = model.loaded.spec(model.options().kv, shape);
    let (bytes, left) = (Amount(bytes), Amount(budget.left()));
    Error::Request(format!("{times}{spec} takes {bytes}, wanted at most {left}"))
}

impl Context {
    pub(crate) fn new(model: Arc<Model>, shape: ContextShape) -> Result<Self, Error> {
        let ContextShape { n_seq, n_ctx, n_batch } = shape;
        if n_seq == 0 || n_ctx == 0 || n_batch == 0 {
            return Err(Error::Request(format!(
                "a context of {n_seq} sequences, {n_ctx} positions, {n_batch} tokens per batch: none may be 0"
            )));
        }
        let taken = reserve(&model, shape)?;
        let running = Arc::clone(&model.loaded).run(model.options().kv, shape)?;
        let slots = Slots::new(n_seq, n_ctx);
        let (tokens, row_spans) = (Vec::new(), Vec::new());
        Ok(Self { model, shape, slots, running, cancel: Cancel::new(), tokens, row_spans, _taken: taken })
    }

    /// From now on a forward pass ends with [`Error::Cancelled`] between two layers once `cancel` is raised. On a device
    /// that is asked for a whole pass at once, it ends after the pass.
    #[must_use]
    pub fn cancelled_by(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// What ends its passes.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// An empty sequence.
    ///
    /// # Errors
    /// If there are as many sequences as the context holds.
    pub fn sequence(&self) -> Result<Sequence, Error> {
        let in_use = || Error::Request(format!("all {} sequences of the context are in use", self.shape.n_seq));
        self.slots.take().ok_or_else(in_use)
    }

    /// A new sequence that begins with the first `len` tokens of `sequence`. Its later tokens have the bits that they
    /// would have if those had been computed again.
    ///
    /// Keys and values are copied. 512 positions of the 410m shape are 48 MiB as f16: 4 to 12 ms on two cores of a
    /// server, 60 to 80 ms in a slot whose memory is touched for the first time, where computing them takes about a
    /// second. Sharing by reference count would spare copy and memory, but attention would have to look up a page per
    /// tile of keys, in every pass, also of sequences that share nothing.
    ///
    /// # Errors
    /// If there are as many sequences as the context holds, if `sequence` is of another context or shorter than `len`.
    pub fn fork(&mut self, sequence: &Sequence, len: usize) -> Result<Sequence, Error> {
        self.check_owner(sequence)?;
        if len > sequence.len {
            return Err(Error::Request(format!("a fork after {len} tokens of a sequence of {}", sequence.len)));
        }
        let mut fork = self.sequence()?;
        self.running.copy_prefix(sequence.slot, fork.slot, len);
        fork.len = len;
        Ok(fork)
    }

    /// Appends every span to its sequence and computes the hidden rows of the new tokens.
    ///
    /// # Errors
    /// If a span names a sequence of another context or a token that does not exist, a sequence would outgrow the
    /// context, or there are more tokens than a batch holds. Or if the device failed, or the pass was
    /// [cancelled](Self::cancelled_by). The sequences are then as before, and there is no last batch.
    pub fn forward(&mut self, spans: &mut [Span<'_>]) -> Result<(), Error> {
        self.run(spans, None)
    }

    /// As [`forward`](Self::forward), and shows `hooks` what they want to see of the pass. No bit of the results depends
    /// on that.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and if the device does not show what is wanted.
    pub fn forward_seen(&mut self, spans: &mut [Span<'_>], hooks: &mut dyn Hooks) -> Result<(), Error> {
        if !self.model.loaded.shows_attention() {
            self.tokens.clear();
            let mut wanted = Hook::all(self.model.hparams());
            wanted.retain(|hook| hooks.sees(*hook));
            self.model.check_shows(&wanted)?;
        }
        self.run(spans, Some(hooks))
    }

    fn run(&mut self, spans: &mut [Span<'_>], hooks: Option<&mut (dyn Hooks + '_)>) -> Result<(), Error> {
        self.tokens.clear();
        spans.iter().try_for_each(|span| self.check(span))?;
        let n: usize = spans.iter().map(|span| span.tokens.len()).sum();
        if n > self.shape.n_batch {
            return Err(Error::Request(format!("{n} tokens in a batch of {}", self.shape.n_batch)));
        }
        self.row_spans.clear();
        for Span { sequence, tokens } in spans.iter().filter(|span| !span.tokens.is_empty()) {
            let (first_row, rows) = (self.tokens.len(), tokens.len());
            self.row_spans.push(RowSpan { sequence: sequence.slot, first_row, rows, first_position: sequence.len });
            self.tokens.extend_from_slice(tokens);
        }
        if n > 0 {
            let batch = Batch { tokens: &self.tokens, spans: &self.row_spans };
            let edits = self.model.edits().map(|edits| &**edits);
            let result = self.running.forward(batch, &self.cancel, Taps { hooks, edits });
            if result.is_err() {
                self.tokens.clear();
                return result;
            }
        }
        spans.iter_mut().for_each(|span| span.sequence.len += span.tokens.len());
        Ok(())
    }

    fn check(&self, span: &Span<'_>) -> Result<(), Error> {
        self.check_owner(span.sequence)?;
        let length = span.sequence.len;
        if span.tokens.len() > self.shape.n_ctx - length {
            let (more, n_ctx) = (span.tokens.len(), self.shape.n_ctx);
            return Err(Error::Request(format!("{more} more tokens after {length} exceed the context of {n_ctx}")));
        }
        let n_vocab = self.model.hparams().n_vocab;
        match span.tokens.iter().find(|&&t| t as usize >= n_vocab) {
            Some(token) => Err(Error::Request(format!("token {token}, but the vocabulary has {n_vocab}"))),
            None => Ok(()),
        }
    }

    fn check_owner(&self, sequence: &Sequence) -> Result<(), Error> {
        if sequence.is_of(&self.slots) {
            return Ok(());
        }
        Err(Error::Request("a sequence of another context".to_owned()))
    }

    /// Logits of rows of the last batch, `[number of rows, n_vocab]`. Rows count the tokens of all spans in order.
    ///
    /// # Errors
    /// If the device failed.
    ///
    /// # Panics
    /// If the last batch has no such rows, or `out` is not of that size.
    pub fn logits(&mut self, rows: impl IntoIterator<Item = usize>, out: &mut [f32]) -> Result<(), Error> {
        let rows = self.checked(rows);
        assert_eq!(out.len(), rows.len() * self.model.hparams().n_vocab, "a logit per row and token of the vocabulary");
        self.running.head(Head::Logits { rows: &rows, out })
    }

    /// Logits of any rows, `[rows, n_embd]`, as if they had left the last block: `[rows, n_vocab]`, of the last norm and
    /// the output matrix. Of what did leave it, the bits are those of [`logits`](Self::logits), unless the model's
    /// [edits](Model::edited) change the last norm, which they do not here. The last batch stays as it is.
    ///
    /// # Errors
    /// If the device failed, or the context is [cancelled](Self::cancelled_by).
    ///
    /// # Panics
    /// If `hidden` is not whole rows, or `out` not as many.
    pub fn project(&mut self, hidden: &[f32], out: &mut [f32]) -> Result<(), Error> {
        let hparams = self.model.hparams();
        let (n_embd, n_vocab) = (hparams.n_embd, hparams.n_vocab);
        assert!(hidden.len().is_multiple_of(n_embd), "whole rows");
        assert_eq!(out.len(), hidden.len() / n_embd * n_vocab, "a logit per row and token of the vocabulary");
        let tiles = hidden.chunks(self.shape.n_batch * n_embd).zip(out.chunks_mut(self.shape.n_batch * n_vocab));
        for (hidden, out) in tiles {
            if self.cancel.is_raised() {
                return Err(Error::Cancelled);
            }
            self.running.head_of(hidden, out)?;
        }
        Ok(())
    }

    /// What rows of the last batch predict, with the log-likelihood of a target each, without the logits in memory: the
    /// fewer calls, the less often the output matrix is read. The bits are those of the [logits](Self::logits) and their
    /// [log-sum-exp](pythia_kernels::Cpu::log_sum_exp).
    ///
    /// # Errors
    /// If the device failed.
    ///
    /// # Panics
    /// If the last batch has no such rows, a target is not below the vocabulary's size, or there are not as many
    /// targets and results as rows.
    pub fn predictions(
        &mut self,
        rows: impl IntoIterator<Item = usize>,
        targets: &[u32],
        out: &mut [Prediction],
    ) -> Result<(), Error> {
        let rows = self.checked(rows);
        let n_vocab = self.model.hparams().n_vocab;
        assert!(targets.len() == rows.len() && out.len() == rows.len(), "a target and a result per row");
        assert!(targets.iter().all(|&target| (target as usize) < n_vocab), "targets within the vocabulary");
        self.running.head(Head::Predictions { rows: &rows, targets, out })
    }

    /// `ln softmax(logits)[target]` for a target per row of the last batch: of [`predictions`](Self::predictions), which
    /// cost no more. Not a number where a logit is infinite or not a number.
    ///
    /// # Errors
    /// If the device failed.
    ///
    /// # Panics
    /// As [`predictions`](Self::predictions).
    pub fn log_likelihoods(
        &mut self,
        rows: impl IntoIterator<Item = usize>,
        targets: &[u32],
        out: &mut [f64],
    ) -> Result<(), Error> {
        let mut predictions = vec![Prediction::default(); out.len()];
        self.predictions(rows, targets, &mut predictions)?;
        out.iter_mut().zip(predictions).for_each(|(out, prediction)| *out = prediction.log_likelihood);
        Ok(())
    }

    /// The largest of the first `n` logits of a row of the last batch, by ascending id, without the logits leaving the
    /// device. `None` where they are on the host anyway, or the device would rather not: then there is
    /// [`logits`](Self::logits).
    ///
    /// # Errors
    /// If the device failed.
    ///
    /// # Panics
    /// If the last batch has no such row.
    pub fn largest(&mut self, row: usize, n: usize, wanted: Largest) -> Result<Option<Vec<Candidate>>, Error> {
        self.checked([row]);
        let (n, mut out) = (n.min(self.model.hparams().n_vocab), None);
        self.running.head(Head::Largest { row, n, wanted, out: &mut out })?;
        Ok(out)
    }

    /// Waits until the device has done what it was asked for: before a clock is read.
    ///
    /// # Errors
    /// If the device failed.
    pub fn finish(&self) -> Result<(), Error> {
        self.running.finish()
    }

    fn checked(&self, rows: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let rows: Vec<usize> = rows.into_iter().collect();
        let n = self.tokens.len();
        assert!(rows.iter().all(|&row| row < n), "rows {rows:?} of a batch of {n}");
        rows
    }

    /// Positions per sequence.
    pub fn n_ctx(&self) -> usize {
        self.shape.n_ctx
    }

    /// Tokens per batch.
    pub fn n_batch(&self) -> usize {
        self.shape.n_batch
    }

    /// The model it runs.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("shape", &self.shape).field("slots", &self.slots).finish_non_exhaustive()
    }
}
