//! The key-value cache and causal attention over it.
//!
//! Keys are stored 16 positions to a tile, dimension by dimension, so that a lane is a key: a score is one chain of
//! fused multiply-adds over the dimensions, ascending, and needs no sum across lanes. Values are stored position by
//! position, so that a lane is a dimension: an output is one chain over the keys, ascending. Neither order depends on
//! how many queries are worked on together. This is the layout of floats; `int8` describes that of bytes.

mod append;
mod attend;
mod cache;
mod int8;
#[cfg(test)]
mod tests;
mod weights;

use crate::isa::Supported;
use crate::rope::RopeTable;
use crate::shared::SharedMut;
use crate::team::Team;
use append::Append;
use attend::Head;
pub use cache::{KvCache, KvShape, KvType};
use std::cmp::Reverse;
pub use weights::AttentionWeights;
use weights::{HeadWeights, SharedWeights};

/// Queries of a sequence that one task takes: enough to reuse keys from the nearest cache.
const QUERIES_PER_TASK: usize = 16;

/// The rows of a batch that continue one sequence: consecutive rows, consecutive positions.
#[derive(Clone, Copy, Debug)]
pub struct RowSpan {
    /// Which sequence.
    pub sequence: usize,
    /// First row of the batch.
    pub first_row: usize,
    /// Number of rows.
    pub rows: usize,
    /// Position of the first row in its sequence.
    pub first_position: usize,
}

impl RowSpan {
    /// Whether one task does all of a head.
    fn is_short(&self) -> bool {
        self.rows <= QUERIES_PER_TASK
    }
}

/// Rotates queries and keys, appends keys and values to the cache, and attends: all heads of all sequences of a batch.
#[derive(Debug)]
pub struct Attention<'a> {
    /// Where keys and values go.
    pub cache: &'a mut KvCache,
    /// The rotation.
    pub rope: &'a RopeTable,
    /// The sequences that the rows continue: every row, in order, each sequence at most once.
    pub spans: &'a [RowSpan],
    /// `[n, 3 * heads * head_dim]`: per row all queries, all keys, all values, each head by head. Queries and keys
    /// are rotated in place.
    pub qkv: &'a mut [f32],
    /// Output: `[n, heads * head_dim]`.
    pub out: &'a mut [f32],
    /// Where scores and patterns go, if anybody wants them.
    pub weights: Option<AttentionWeights<'a>>,
}

impl Attention<'_> {
    fn check(&self) {
        let shape = self.cache.shape;
        let (mut rows, mut seen) = (0, vec![false; shape.sequences]);
        for span in self.spans {
            assert!(span.first_row == rows, "rows in order");
            assert!(!std::mem::replace(&mut seen[span.sequence], true), "each sequence at most once");
            let end = span.first_position.checked_add(span.rows);
            assert!(end.is_some_and(|end| end <= shape.positions), "positions within the cache");
            rows += span.rows;
        }
        assert!(self.qkv.len() == 3 * rows * shape.width() && self.out.len() == rows * shape.width(), "all rows");
    }

    pub(crate) fn run(self, team: &Team, isa: Supported) {
        self.check();
        let shape = self.cache.shape;
        let heads = Heads {
            shape,
            keys: SharedMut::new(&mut self.cache.keys),
            values: SharedMut::new(&mut self.cache.values),
            rope: self.rope,
            qkv: SharedMut::new(self.qkv),
            out: SharedMut::new(self.out),
            weights: self.weights.map(|weights| SharedWeights::new(weights, shape.heads, self.spans)),
            isa,
        };
        let long: Vec<&RowSpan> = self.spans.iter().filter(|span| !span.is_short()).collect();
        // SAFETY: the spans are of different sequences and rows. Each head of each is one task.
        team.run(long.len() * shape.heads, &|task| unsafe {
            heads.append(long[task / shape.heads], task % shape.heads)
        });

        let firsts = |span: &RowSpan| (0..span.rows).step_by(QUERIES_PER_TASK);
        let blocks = self.spans.iter().enumerate();
        let blocks = blocks.flat_map(|(index, span)| firsts(span).map(move |first| (index, span, first)));
        let mut blocks: Vec<(usize, &RowSpan, usize)> = blocks.collect();
        // Those that see many keys go first, so that the last tasks to be taken are small ones.
        blocks.sort_by_key(|(_, span, first)| Reverse(span.first_position + first));
        team.run(blocks.len() * shape.heads, &|task| {
            let ((index, span, first), head) = (blocks[task / shape.heads], task % shape.heads);
            // SAFETY: as above. A head of a short span is appended by the one task that attends; those of long spans
            // are only read here.
            unsafe {
                if span.is_short() {
                    heads.append(span, head);
                }
                let weights = heads.weights.map(|weights| {
                    weights.of(AttentionWeights::len(shape.heads, &self.spans[..index]), span, head, first)
                });
                heads.attend(span, head, first, weights);
            }
        });
    }
}

/// What the tasks share.
struct Heads<'a> {
    shape: KvShape,
    keys: SharedMut<'a, u8>,
    values: SharedMut<'a, u8>,
    rope: &'a RopeTable,
    qkv: SharedMut<'a, f32>,
    out: SharedMut<'a, f32>,
    weights: Option<SharedWeights<'a>>,
    isa: Supported,
}

impl Heads<'_> {
    /// Appends all rows of a span.
    ///
    /// # Safety
    /// Nobody else may work on this head of this sequence, or on its part of these rows.
    unsafe fn append(&self, span: &RowSpan, head: usize) {
        let &Self { shape, rope, qkv, .. } = self;
        let &RowSpan { sequence, first_row, rows, first_position } = span;
        let (of, key_bytes, value_bytes) = (shape.head(sequence, head), shape.key_bytes(), shape.value_bytes());
        // SAFETY: the caller's promise.
        let (keys, values) =
            unsafe { (self.keys.slice(of * key_bytes, key_bytes), self.values.slice(of * value_bytes, value_bytes)) };
        self.isa.dispatch(Append { shape, keys, values, rope, qkv, head, first_row, n: rows, first_position });
    }

    /// Attention of some queries of a span, from its row `first` on.
    ///
    /// # Safety
    /// Nobody may write this head of this sequence, or its part of these rows, or work on what these queries put out.
    unsafe fn attend(&self, span: &RowSpan, head: usize, first: usize, weights: Option<HeadWeights<'_>>) {
        let &Self { shape, qkv, out, .. } = self;
        let (of, key_bytes, value_bytes) = (shape.head(span.sequence, head), shape.key_bytes(), shape.value_bytes());
        // SAFETY: the caller's promise.
        let (keys, values) =
            unsafe { (self.keys.read(of * key_bytes, key_bytes), self.values.read(of * value_bytes, value_bytes)) };
        let (first_row, first_position) = (span.first_row + first, span.first_position + first);
        let n = QUERIES_PER_TASK.min(span.rows - first);
        Head { shape, keys, values, head, qkv, first_row, n, first_position, out, weights }.dispatch(self.isa);
    }
}
