//! The passes of a shard, and the way of their values into its file.

use super::dtype::Tally;
use super::layout::Layout;
use super::plan::{Columns, Plan, Planned};
use crate::Error;
use pythia_convert::output::AtomicFile;
use pythia_model::backend::Batch;
use pythia_model::{BATCH_TOKENS, Context, ContextShape, Hook, Hooks, Model, Sequence, Site, Span, Values};
use pythia_task::Cancel;
use std::ops::Range;
use std::sync::Arc;

/// Sequences in a batch at most: attention runs each on its own.
const MAX_SEQUENCES: usize = 32;

/// Logits that are in memory at a time.
const LOGITS_BYTES: usize = 8 << 20;

/// The context that runs at the moment, for sequences up to some length.
pub(super) struct Runner {
    model: Arc<Model>,
    cancel: Cancel,
    /// Length of the longest sequence that any context must hold.
    window: usize,
    running: Option<Running>,
}

struct Running {
    context: Context,
    sequences: Vec<Sequence>,
}

/// Part of a sequence in a batch.
struct Part {
    /// Which, in the plan.
    sequence: usize,
    /// Its tokens.
    tokens: Range<usize>,
    /// The exported positions among them.
    positions: Vec<usize>,
    /// Exported positions of the sequence before these.
    before: usize,
}

impl Runner {
    pub(super) fn new(model: &Arc<Model>, window: usize, cancel: &Cancel) -> Self {
        Self { model: Arc::clone(model), cancel: cancel.clone(), window, running: None }
    }

    /// Runs the sequences of a plan and writes their values. Sequences of about the same length share a batch. `done` is told
    /// how many tokens are.
    pub(super) fn run(
        &mut self,
        plan: &Plan,
        columns: &Columns,
        layout: &Layout,
        file: &AtomicFile,
        done: &dyn Fn(usize),
    ) -> Result<Tally, Error> {
        let mut order: Vec<usize> = (0..plan.sequences.len()).filter(|&i| plan.sequences[i].rows > 0).collect();
        let length = |i: usize| plan.sequences[i].run;
        // Stable, so that windows of the same length stay in order and their rows are written together.
        order.sort_by_key(|&i| std::cmp::Reverse(length(i)));
        let mut writer = Writer::new(plan, columns, layout, file);
        let mut rest = &order[..];
        while let Some(&longest) = rest.first() {
            let shape = self.shape(length(longest));
            let mut n = 0;
            let mut tokens = 0;
            while n < shape.n_seq.min(rest.len()) && (n == 0 || tokens + length(rest[n]) <= shape.n_batch) {
                tokens += length(rest[n]);
                n += 1;
            }
            let (group, others) = rest.split_at(n);
            rest = others;
            let Running { context, sequences } = self.ready(shape)?;
            sequences.iter_mut().for_each(|sequence| sequence.truncate(0));
            // Only a sequence alone has more tokens than a batch.
            for start in (0..length(longest)).step_by(shape.n_batch) {
                let part = |&i: &usize| part(plan, columns, i, start, shape.n_batch);
                writer.parts = group.iter().map(part).collect();
                let tokens = |part: &Part| &plan.sequences[part.sequence].tokens[part.tokens.clone()];
                let spans = sequences.iter_mut().zip(&writer.parts);
                let mut spans: Vec<Span<'_>> =
                    spans.map(|(sequence, part)| Span { sequence, tokens: tokens(part) }).collect();
                let n_tokens: usize = spans.iter().map(|span| span.tokens.len()).sum();
                context.forward_seen(&mut spans, &mut writer)?;
                drop(spans);
                writer.logits(context)?;
                if let Some(error) = writer.error.take() {
                    return Err(error);
                }
                done(n_tokens);
            }
        }
        Ok(writer.tally)
    }

    /// The context for sequences of this length. Shorter ones have one with less room per sequence, in powers of two, so
    /// that a batch of many takes no more memory than one of a long one.
    fn shape(&self, length: usize) -> ContextShape {
        if length > BATCH_TOKENS / 2 {
            let n_ctx = if length > BATCH_TOKENS { self.window } else { self.window.min(BATCH_TOKENS) };
            return ContextShape { n_seq: 1, n_ctx, n_batch: BATCH_TOKENS.min(n_ctx) };
        }
        let n_ctx = length.next_power_of_two().clamp(2 * BATCH_TOKENS / MAX_SEQUENCES, BATCH_TOKENS / 2);
        // The longest of a batch has more than half of that, others may have less.
        ContextShape { n_seq: 2 * BATCH_TOKENS / n_ctx, n_ctx, n_batch: BATCH_TOKENS }
    }

    fn ready(&mut self, shape: ContextShape) -> Result<&mut Running, Error> {
        let fits = |running: &Running| {
            let is = (running.sequences.len(), running.context.n_ctx(), running.context.n_batch());
            is == (shape.n_seq, shape.n_ctx, shape.n_batch)
        };
        if !self.running.as_ref().is_some_and(fits) {
            // The old one goes first: both need not fit.
            self.running = None;
            let context = self.model.context(shape)?.cancelled_by(self.cancel.clone());
            let sequences = (0..shape.n_seq).map(|_| context.sequence()).collect::<Result<_, _>>()?;
            self.running = Some(Running { context, sequences });
        }
        self.running.as_mut().ok_or_else(|| Error::Request("no context".to_owned()))
    }
}

fn part(plan: &Plan, columns: &Columns, sequence: usize, start: usize, n_batch: usize) -> Part {
    let Planned { tokens, run, .. } = &plan.sequences[sequence];
    let all = columns.positions.of(tokens.len());
    let tokens = start..(*run).min(start + n_batch);
    let before = all.partition_point(|&position| position < tokens.start);
    let end = all.partition_point(|&position| position < tokens.end);
    Part { sequence, tokens, positions: all[before..end].to_vec(), before }
}

/// Writes the values of the batch that runs.
struct Writer<'a> {
    plan: &'a Plan,
    columns: &'a Columns,
    layout: &'a Layout,
    file: &'a AtomicFile,
    /// Of the batch, in the order of its rows.
    parts: Vec<Part>,
    buffer: Vec<u8>,
    tally: Tally,
    /// What went wrong while the pass ran, which it cannot be told.
    error: Option<Error>,
}

impl<'a> Writer<'a> {
    fn new(plan: &'a Plan, columns: &'a Columns, layout: &'a Layout, file: &'a AtomicFile) -> Self {
        let (parts, buffer, tally) = (Vec::new(), Vec::new(), Tally::default());
        Self { plan, columns, layout, file, parts, buffer, tally, error: None }
    }

    /// Writes the rows of a hook, of the batch's rows that are exported, in as few pieces as their places allow.
    fn rows<'r>(&mut self, hook: usize, row: impl Fn(usize) -> &'r [f32]) -> Result<(), Error> {
        let (_, width) = self.columns.rows[hook];
        let row_bytes = (width * self.columns.dtype.bytes()) as u64;
        let at = |row: usize| self.layout.rows(hook) + row as u64 * row_bytes;
        let (mut first, mut next) = (0, 0);
        self.buffer.clear();
        let mut first_row = 0;
        for part in &self.parts {
            let place = self.plan.sequences[part.sequence].first_row + part.before;
            if place != next {
                self.file.write_at(&self.buffer, at(first))?;
                self.buffer.clear();
                first = place;
            }
            next = place + part.positions.len();
            for position in &part.positions {
                let values = row(first_row + position - part.tokens.start);
                self.columns.dtype.encode(values, false, &mut self.buffer, &mut self.tally);
            }
            first_row += part.tokens.len();
        }
        Ok(self.file.write_at(&self.buffer, at(first))?)
    }

    /// Writes scores or patterns: per head, the queries that are exported, with all keys of the sequence.
    fn weights(&mut self, hook: usize, site: Site, values: &[f32]) -> Result<(), Error> {
        let (dtype, n_head) = (self.columns.dtype, self.columns.n_head);
        let (is_scores, mut rest) = (site == Site::Scores, values);
        let masked = if is_scores { f32::NEG_INFINITY } else { 0.0 };
        for part in &self.parts {
            let sequence = &self.plan.sequences[part.sequence];
            let (n_keys, seen) = (sequence.tokens.len(), part.tokens.end);
            let later = vec![masked; n_keys - seen];
            let (own, others) = rest.split_at(n_head * part.tokens.len() * seen);
            rest = others;
            let Some(start) = self.layout.weights(part.sequence, hook) else { continue };
            for (head, queries) in own.chunks_exact(part.tokens.len() * seen).enumerate() {
                self.buffer.clear();
                for position in &part.positions {
                    let row = &queries[(position - part.tokens.start) * seen..][..seen];
                    dtype.encode(row, is_scores, &mut self.buffer, &mut self.tally);
                    dtype.encode(&later, is_scores, &mut self.buffer, &mut self.tally);
                }
                let row = (head * sequence.rows + part.before) * n_keys * dtype.bytes();
                self.file.write_at(&self.buffer, start + row as u64)?;
            }
        }
        Ok(())
    }

    /// Writes logits, which are not part of a pass, some rows at a time.
    fn logits(&mut self, context: &mut Context) -> Result<(), Error> {
        let is_logits = |&(hook, _): &(Hook, usize)| hook.site == Site::Logits;
        let Some(hook) = self.columns.rows.iter().position(is_logits) else { return Ok(()) };
        let (_, n_vocab) = self.columns.rows[hook];
        let row_bytes = (n_vocab * self.columns.dtype.bytes()) as u64;
        // Row of the batch, and row of the shard.
        let mut rows = Vec::new();
        let mut first_row = 0;
        for part in &self.parts {
            let place = self.plan.sequences[part.sequence].first_row + part.before;
            let row = |(i, position): (usize, &usize)| (first_row + position - part.tokens.start, place + i);
            rows.extend(part.positions.iter().enumerate().map(row));
            first_row += part.tokens.len();
        }
        let n = (LOGITS_BYTES / (4 * n_vocab)).max(1);
        let mut logits = Vec::new();
        for tile in rows.chunks(n) {
            logits.resize(tile.len() * n_vocab, 0.0);
            context.logits(tile.iter().map(|(row, _)| *row), &mut logits)?;
            for ((_, place), values) in tile.iter().zip(logits.chunks_exact(n_vocab)) {
                self.buffer.clear();
                self.columns.dtype.encode(values, false, &mut self.buffer, &mut self.tally);
                self.file.write_at(&self.buffer, self.layout.rows(hook) + *place as u64 * row_bytes)?;
            }
        }
        Ok(())
    }
}

impl Hooks for Writer<'_> {
    fn sees(&self, hook: Hook) -> bool {
        hook.site != Site::Logits
            && (self.columns.rows.iter().any(|(of, _)| *of == hook) || self.columns.weights.contains(&hook))
    }

    fn see(&mut self, hook: Hook, _: Batch<'_>, values: Values<'_>) {
        if self.error.is_some() {
            return;
        }
        let written = match values {
            Values::Rows(rows) => {
                let place = self.columns.rows.iter().position(|(of, _)| *of == hook);
                place.map_or(Ok(()), |place| self.rows(place, |row| rows.row(row)))
            }
            Values::Weights(weights) => {
                let place = self.columns.weights.iter().position(|of| *of == hook);
                place.map_or(Ok(()), |place| self.weights(place, hook.site, &weights))
            }
        };
        self.error = written.err();
    }
}
