//! Running state: sequences, their lengths and caches.

use crate::backend::{Batch, Candidate, Head, Largest, RowSpan};
use crate::error::Error;
use crate::loaded::Running;
use crate::model::Model;
use crate::observer::MatrixInput;
use pythia_task::Cancel;

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
#[derive(Clone, Copy, Debug)]
pub struct Span<'t> {
    /// Which sequence, below `n_seq`.
    pub sequence: usize,
    /// Token ids, below the vocabulary's size.
    pub tokens: &'t [u32],
}

/// Sequences in progress.
pub struct Context<'m> {
    model: &'m Model,
    shape: ContextShape,
    lengths: Vec<usize>,
    /// Rows of the last batch.
    rows: usize,
    running: Box<dyn Running + 'm>,
    cancel: Cancel,
}

impl<'m> Context<'m> {
    pub(crate) fn new(model: &'m Model, shape: ContextShape) -> Result<Self, Error> {
        let ContextShape { n_seq, n_ctx, n_batch } = shape;
        if n_seq == 0 || n_ctx == 0 || n_batch == 0 {
            return Err(Error::Request(format!(
                "a context of {n_seq} sequences, {n_ctx} positions, {n_batch} tokens per batch: none may be 0"
            )));
        }
        let running = model.loaded.run(model.options().kv, shape)?;
        Ok(Self { model, shape, lengths: vec![0; n_seq], rows: 0, running, cancel: Cancel::new() })
    }

    /// From now on a forward pass ends with [`Error::Cancelled`] between two layers once `cancel` is raised. On a device
    /// that is asked for a whole pass at once, it ends after the pass.
    #[must_use]
    pub fn cancelled_by(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// Appends every span to its sequence and computes the hidden rows of the new tokens.
    ///
    /// # Errors
    /// If a span names a sequence or token that does not exist, a sequence would outgrow its context, a sequence is
    /// named twice, or there are more tokens than a batch holds. Nothing is changed then. Or if the device failed, or
    /// the pass was [cancelled](Self::cancelled_by).
    pub fn forward(&mut self, spans: &[Span<'_>]) -> Result<(), Error> {
        let cancel = self.cancel.clone();
        self.run(spans, |running, batch| running.forward(batch, &cancel))
    }

    /// As [`forward`](Self::forward), and shows `observe` what enters each matrix: those of the blocks in the order in
    /// which they are used, then `output.weight` with the rows of all new tokens.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_observed(
        &mut self,
        spans: &[Span<'_>],
        observe: &mut dyn FnMut(MatrixInput<'_>),
    ) -> Result<(), Error> {
        let cancel = self.cancel.clone();
        self.run(spans, |running, batch| running.forward_observed(batch, &cancel, observe))
    }

    fn run(
        &mut self,
        spans: &[Span<'_>],
        forward: impl FnOnce(&mut dyn Running, Batch<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut tokens = Vec::new();
        let mut row_spans: Vec<RowSpan> = Vec::with_capacity(spans.len());
        for span in spans {
            self.check(span)?;
            if row_spans.iter().any(|p| p.sequence == span.sequence) {
                return Err(Error::Request(format!("sequence {} is named twice in a batch", span.sequence)));
            }
            row_spans.push(RowSpan {
                sequence: span.sequence,
                first_row: tokens.len(),
                rows: span.tokens.len(),
                first_position: self.lengths[span.sequence],
            });
            tokens.extend_from_slice(span.tokens);
        }
        if tokens.len() > self.shape.n_batch {
            return Err(Error::Request(format!("{} tokens in a batch of {}", tokens.len(), self.shape.n_batch)));
        }
        row_spans.retain(|p| p.rows > 0);
        self.rows = tokens.len();
        if tokens.is_empty() {
            return Ok(());
        }
        forward(&mut *self.running, Batch { tokens: &tokens, spans: &row_spans })?;
        for span in row_spans {
            self.lengths[span.sequence] += span.rows;
        }
        Ok(())
    }

    fn check(&self, span: &Span<'_>) -> Result<(), Error> {
        let Some(&length) = self.lengths.get(span.sequence) else {
            return Err(Error::Request(format!("sequence {} of {}", span.sequence, self.lengths.len())));
        };
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

    /// `ln softmax(logits)[target]` for a target per row of the last batch, without the logits in memory: the fewer
    /// calls, the less often the output matrix is read. Not a number where a logit is infinite or not a number.
    ///
    /// # Errors
    /// If the device failed.
    ///
    /// # Panics
    /// If the last batch has no such rows, a target is not below the vocabulary's size, or there are not as many
    /// targets and results as rows.
    pub fn log_likelihoods(
        &mut self,
        rows: impl IntoIterator<Item = usize>,
        targets: &[u32],
        out: &mut [f64],
    ) -> Result<(), Error> {
        let rows = self.checked(rows);
        let n_vocab = self.model.hparams().n_vocab;
        assert!(targets.len() == rows.len() && out.len() == rows.len(), "a target and a result per row");
        assert!(targets.iter().all(|&target| (target as usize) < n_vocab), "targets within the vocabulary");
        self.running.head(Head::LogLikelihoods { rows: &rows, targets, out })
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
        assert!(rows.iter().all(|&row| row < self.rows), "rows {rows:?} of a batch of {}", self.rows);
        rows
    }

    /// Tokens in a sequence.
    ///
    /// # Panics
    /// If there is no such sequence.
    pub fn len(&self, sequence: usize) -> usize {
        self.lengths[sequence]
    }

    /// Whether a sequence has no tokens.
    ///
    /// # Panics
    /// If there is no such sequence.
    pub fn is_empty(&self, sequence: usize) -> bool {
        self.lengths[sequence] == 0
    }

    /// Forgets the tokens of a sequence from `len` on; nothing if it has no more.
    ///
    /// # Panics
    /// If there is no such sequence.
    pub fn truncate(&mut self, sequence: usize, len: usize) {
        let length = &mut self.lengths[sequence];
        *length = len.min(*length);
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
    pub fn model(&self) -> &'m Model {
        self.model
    }
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("shape", &self.shape).field("lengths", &self.lengths).finish_non_exhaustive()
    }
}
