//! What goes into a shard: decided before it is written, so that every value has its place in the file from the start.

use super::Options;
use super::dtype::Dtype;
use super::positions::Positions;
use super::source::{Sequence, Sequences};
use crate::{Error, Selection};
use pythia_model::Hook;
use pythia_model::hook::Width;
use pythia_schema::Hparams;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;

/// Tokens of a shard at most: they are in memory while it is written.
const MAX_TOKENS: usize = 1 << 22;
/// Arrays of a shard at most: a header names each of them.
const MAX_ARRAYS: usize = 1 << 16;
/// Sequences of a shard at most.
const MAX_SEQUENCES: usize = 1 << 20;

/// The hooks of an export, by the form of their values.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    /// A row per exported position: hook, and values of a row.
    pub(super) rows: Vec<(Hook, usize)>,
    /// Scores and patterns: an array per sequence.
    pub(super) weights: Vec<Hook>,
    /// Heads of these.
    pub(super) n_head: usize,
    pub(super) dtype: Dtype,
    pub(super) positions: Positions,
}

impl Columns {
    pub(super) fn new(selection: &Selection, hparams: &Hparams, dtype: Dtype, positions: Positions) -> Self {
        let width = |hook: Hook| match hook.site.width() {
            Width::Embd | Width::Heads => Some(hparams.n_embd),
            Width::Neurons => Some(hparams.n_ff),
            Width::Vocab => Some(hparams.n_vocab),
            Width::Keys => None,
        };
        let hooks = selection.hooks();
        Self {
            rows: hooks.iter().filter_map(|&hook| width(hook).map(|width| (hook, width))).collect(),
            weights: hooks.iter().copied().filter(|&hook| width(hook).is_none()).collect(),
            n_head: hparams.n_head,
            dtype,
            positions,
        }
    }

    /// Whether the tokens of a whole sequence are exported with its scores or patterns: those of the rows are not all.
    pub(super) fn has_keys(&self) -> bool {
        !self.weights.is_empty() && !self.positions.is_all()
    }

    /// Bytes of a row, with its token and position.
    fn row_bytes(&self) -> u64 {
        self.rows.iter().map(|(_, width)| width * self.dtype.bytes()).sum::<usize>() as u64 + 8
    }

    /// Bytes of a sequence of which so many positions are exported.
    fn sequence_bytes(&self, tokens: usize, rows: usize) -> u64 {
        let weights = (self.weights.len() * self.n_head * self.dtype.bytes()) as u64 * (rows * tokens) as u64;
        let keys = if self.has_keys() { 4 * tokens } else { 0 };
        rows as u64 * self.row_bytes() + weights + keys as u64 + 16
    }

    /// Arrays of a sequence of its own.
    fn sequence_arrays(&self) -> usize {
        self.weights.len() + usize::from(self.has_keys())
    }
}

/// A sequence of a shard.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    /// Its number in the export.
    pub(super) number: u64,
    pub(super) text: u64,
    pub(super) tokens: Vec<u32>,
    /// Rows of the shard before those of this sequence.
    pub(super) first_row: usize,
    /// Rows of it.
    pub(super) rows: usize,
    /// Tokens that are run: what follows the last exported position changes nothing before it.
    pub(super) run: usize,
}

/// The sequences of a shard.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub(super) sequences: Vec<Planned>,
    pub(super) rows: usize,
}

impl Plan {
    /// Tokens that are run.
    pub(super) fn tokens(&self) -> u64 {
        self.sequences.iter().map(|sequence| sequence.run as u64).sum()
    }

    /// Bytes of its values.
    pub(super) fn bytes(&self, columns: &Columns) -> u64 {
        self.sequences.iter().map(|sequence| columns.sequence_bytes(sequence.tokens.len(), sequence.rows)).sum()
    }

    /// SHA-256 of the tokens, as hexadecimal: what tells this shard from one of another text.
    pub(super) fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        for Planned { text, tokens, .. } in &self.sequences {
            hasher.update(text.to_le_bytes());
            hasher.update((tokens.len() as u64).to_le_bytes());
            tokens.iter().for_each(|token| hasher.update(token.to_le_bytes()));
        }
        pythia_text::hex(&hasher.finalize())
    }
}

/// Puts sequences into shards, in their order.
pub(super) struct Planner<'t, 'c> {
    source: Sequences<'t>,
    columns: &'c Columns,
    shard_bytes: u64,
    /// Sequences that are still wanted.
    left: u64,
    /// Tokens of all that are wanted, at most.
    most: u64,
    number: u64,
    /// The first of the next shard.
    waiting: VecDeque<Sequence>,
}

impl<'t, 'c> Planner<'t, 'c> {
    pub(super) fn new(source: Sequences<'t>, columns: &'c Columns, options: &Options) -> Self {
        let left = options.max_sequences.unwrap_or(u64::MAX);
        // The longest that these can be.
        let most = left.saturating_mul(options.window as u64);
        let (shard_bytes, waiting) = (options.shard_bytes, VecDeque::new());
        Self { source, columns, shard_bytes, left, most, number: 0, waiting }
    }

    /// Whether there is no further shard.
    pub(super) fn is_done(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The next shard; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Plan>, Error> {
        let (mut plan, mut bytes, mut tokens) = (Plan::default(), 0, 0);
        while let Some(sequence) = self.take()? {
            let positions = self.columns.positions.of(sequence.tokens.len());
            let (rows, run) = (positions.len(), positions.last().map_or(0, |last| last + 1));
            let more = self.columns.sequence_bytes(sequence.tokens.len(), rows);
            if more > self.shard_bytes {
                return Err(self.too_large(&sequence, rows, more));
            }
            let arrays = (plan.sequences.len() + 1) * self.columns.sequence_arrays();
            let is_full = bytes + more > self.shard_bytes
                || tokens + sequence.tokens.len() > MAX_TOKENS
                || plan.sequences.len() >= MAX_SEQUENCES
                || arrays > MAX_ARRAYS;
            if is_full && !plan.sequences.is_empty() {
                self.waiting.push_back(sequence);
                break;
            }
            let Sequence { text, tokens: ids } = sequence;
            (bytes, tokens) = (bytes + more, tokens + ids.len());
            plan.sequences.push(Planned { number: self.number, text, tokens: ids, first_row: plan.rows, rows, run });
            plan.rows += rows;
            self.number += 1;
        }
        Ok((!plan.sequences.is_empty()).then_some(plan))
    }

    /// Tokens in all, as far as that can be told now.
    pub(super) fn estimate(&self) -> Option<u64> {
        self.source.estimate().map(|tokens| tokens.min(self.most))
    }

    fn take(&mut self) -> Result<Option<Sequence>, Error> {
        if let Some(sequence) = self.waiting.pop_front() {
            return Ok(Some(sequence));
        }
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.source.next()
    }

    fn too_large(&self, sequence: &Sequence, rows: usize, bytes: u64) -> Error {
        let per_row = self.columns.row_bytes() * rows as u64;
        let weights =
            if per_row < bytes / 2 { "; scores and patterns grow with the square of a text's length" } else { "" };
        Error::Request(format!(
            "text {}: its {} tokens take {} at these hooks, more than a shard of {}{weights}: wanted fewer hooks or \
             positions, shorter windows (--ctx-size) or larger shards (--shard-size)",
            sequence.text,
            sequence.tokens.len(),
            size(bytes),
            size(self.shard_bytes)
        ))
    }
}

/// Bytes for people.
pub(super) fn size(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "kB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} bytes"),
    }
}
