//! Memory that passes reuse: the current batch, scratch, recorded passes.

use crate::Error;
use crate::device::{Device, Memory, Ptr};
use crate::graph::Graph;
use crate::ops::append::Rows;
use crate::ops::attend::{self, AttendTile};
use crate::ops::head;
use pythia_kernels::LogSumPart;
use pythia_model::backend::{Batch, ContextSpec};
use std::collections::HashMap;

/// Maximum number of rows whose logits are on the device at once: 26 MB for Pythia's vocabulary.
const LOGIT_ROWS: usize = 128;

/// A pass over one token per sequence, for a number of sequences.
pub(super) enum Pass {
    /// It ran once, so all its kernels are compiled.
    Ran,
    /// It is recorded and can be replayed.
    Recorded(Graph),
}

/// Device memory at fixed addresses, and the recorded passes that use it.
pub(crate) struct Workspace {
    /// Tokens, their sequences, their positions, u32 `[n]` each, then the tiles: one copy brings a batch.
    batch: Memory,
    scratch: Memory,
    pub(super) logits: Memory,
    pub(super) targets: Memory,
    pub(super) target_logits: Memory,
    pub(super) parts: Memory,
    pub(super) candidates: Memory,
    pub(super) sorted: Memory,
    pub(super) logit_rows: usize,
    pub(super) passes: HashMap<usize, Pass>,
    n_tokens: usize,
    n_tiles: usize,
    is_one_each: bool,
}

impl Workspace {
    /// Bytes of a workspace, except for a few kilobytes.
    pub(super) fn bytes(spec: &ContextSpec) -> u128 {
        let &ContextSpec { n_batch, n_vocab, kv, .. } = spec;
        let logits = n_batch.min(LOGIT_ROWS) as u128 * n_vocab as u128 * 4;
        let scratch = attend::scratch_bytes(n_batch.min(kv.sequences), kv) as u128;
        logits + scratch + head::scratch_bytes(1, n_vocab, head::MOST_K) as u128
    }

    pub(super) fn new(device: &Device, spec: &ContextSpec) -> Result<Self, Error> {
        let &ContextSpec { n_batch, n_vocab, kv, .. } = spec;
        let logit_rows = n_batch.min(LOGIT_ROWS);
        let words = |n: usize| device.alloc(n * size_of::<u32>());
        Ok(Self {
            batch: device.alloc(n_batch * (3 * size_of::<u32>() + size_of::<AttendTile>()))?,
            scratch: device.alloc(attend::scratch_bytes(n_batch.min(kv.sequences), kv))?,
            logits: words(logit_rows * n_vocab)?,
            targets: words(logit_rows)?,
            target_logits: words(logit_rows)?,
            parts: device.alloc(logit_rows * n_vocab.div_ceil(LogSumPart::LOGITS) * size_of::<LogSumPart>())?,
            candidates: words(2 * head::MOST_K + 1)?,
            sorted: device.alloc(head::scratch_bytes(1, n_vocab, head::MOST_K))?,
            logit_rows,
            passes: HashMap::new(),
            n_tokens: 0,
            n_tiles: 0,
            is_one_each: false,
        })
    }

    /// Copies a batch to the device. The addresses depend only on the number of tokens.
    pub(super) fn stage(&mut self, device: &Device, batch: Batch<'_>) {
        let Batch { tokens, spans } = batch;
        let (mut sequences, mut positions) = (Vec::with_capacity(tokens.len()), Vec::with_capacity(tokens.len()));
        let mut tiles: Vec<AttendTile> = Vec::new();
        for span in spans {
            sequences.extend(std::iter::repeat_n(span.sequence as u32, span.rows));
            positions.extend((span.first_position..span.first_position + span.rows).map(|p| p as u32));
            for first in (0..span.rows).step_by(attend::TILE_QUERIES) {
                tiles.push(AttendTile {
                    first_row: (span.first_row + first) as u32,
                    rows: attend::TILE_QUERIES.min(span.rows - first) as u32,
                    sequence: span.sequence as u32,
                    first_position: (span.first_position + first) as u32,
                });
            }
        }
        self.n_tokens = tokens.len();
        self.n_tiles = tiles.len();
        self.is_one_each = spans.len() == tokens.len();
        let tiles = tiles.iter().flat_map(|t| [t.first_row, t.rows, t.sequence, t.first_position]);
        let words = [tokens, &sequences, &positions].into_iter().flatten().copied().chain(tiles);
        device.upload(self.batch.ptr(), &bytes_of(words));
    }

    fn words(&self, array: usize) -> Ptr {
        self.batch.ptr().add(array * self.n_tokens * size_of::<u32>())
    }

    pub(super) fn tokens(&self) -> Ptr {
        self.words(0)
    }

    pub(super) fn rows(&self) -> Rows {
        Rows { sequences: self.words(1), positions: self.words(2) }
    }

    pub(super) fn tiles(&self) -> Ptr {
        self.words(3)
    }

    pub(super) fn n_tiles(&self) -> usize {
        self.n_tiles
    }

    pub(super) fn scratch(&self) -> Ptr {
        self.scratch.ptr()
    }

    /// Whether every sequence of the batch has a single row.
    pub(super) fn is_one_each(&self) -> bool {
        self.is_one_each
    }
}

pub(super) fn bytes_of(words: impl IntoIterator<Item = u32>) -> Vec<u8> {
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}
