//! Scores and patterns of attention, for those who want to see them.

use super::RowSpan;
use crate::shared::SharedMut;

/// Where attention leaves what it computes on its way. Both arrays hold one span after another, each
/// `[heads, rows, first_position + rows]`: head, query, key. See [`AttentionWeights::len`].
#[derive(Debug)]
pub struct AttentionWeights<'a> {
    /// Scores: `q . k / sqrt(head_dim)`, minus infinity for keys that the query does not see.
    pub scores: Option<&'a mut [f32]>,
    /// The softmax of the scores: 0 for keys that the query does not see.
    pub pattern: Option<&'a mut [f32]>,
}

impl AttentionWeights<'_> {
    /// How many numbers each array has for these spans.
    pub fn len(heads: usize, spans: &[RowSpan]) -> usize {
        spans.iter().map(|span| heads * span.rows * (span.first_position + span.rows)).sum()
    }
}

/// The same, shared by the tasks.
#[derive(Clone, Copy)]
pub(super) struct SharedWeights<'a> {
    scores: Option<SharedMut<'a, f32>>,
    pattern: Option<SharedMut<'a, f32>>,
}

impl<'a> SharedWeights<'a> {
    /// # Panics
    /// If an array has another length than the spans call for.
    pub(super) fn new(weights: AttentionWeights<'a>, heads: usize, spans: &[RowSpan]) -> Self {
        let len = AttentionWeights::len(heads, spans);
        let shared = |array: &'a mut [f32]| {
            assert_eq!(array.len(), len, "a number per head, query and key");
            SharedMut::new(array)
        };
        Self { scores: weights.scores.map(shared), pattern: weights.pattern.map(shared) }
    }

    /// The part of one head's queries of a span, from its row `first` on, in arrays whose part of this span begins at
    /// `start`.
    ///
    /// # Safety
    /// Nobody else may work on this part as long as the result lives.
    pub(super) unsafe fn of(&self, start: usize, span: &RowSpan, head: usize, first: usize) -> HeadWeights<'a> {
        let keys = span.first_position + span.rows;
        HeadWeights { shared: *self, first: start + (head * span.rows + first) * keys, keys }
    }
}

/// Scores and pattern of some queries of one head: a row per query. Made by [`SharedWeights::of`], whose caller promises
/// that nobody else works on these rows.
#[derive(Clone, Copy)]
pub(super) struct HeadWeights<'a> {
    shared: SharedWeights<'a>,
    /// Where the first query's row is.
    first: usize,
    /// Keys of a row.
    keys: usize,
}

impl HeadWeights<'_> {
    /// Scales what the query `i` has with each key that it sees.
    // Not inlined: a kernel that nobody looks into would be larger and slower by it.
    #[cold]
    #[inline(never)]
    pub(super) fn store_scores(&self, i: usize, seen: &[f32], scale: f32) {
        self.store(self.shared.scores, i, seen, scale, f32::NEG_INFINITY);
    }

    /// Divides its exponentials by their sum.
    // Not inlined: a kernel that nobody looks into would be larger and slower by it.
    #[cold]
    #[inline(never)]
    pub(super) fn store_pattern(&self, i: usize, seen: &[f32], inverse_sum: f32) {
        self.store(self.shared.pattern, i, seen, inverse_sum, 0.0);
    }

    fn store(&self, array: Option<SharedMut<'_, f32>>, i: usize, seen: &[f32], factor: f32, unseen: f32) {
        let Some(array) = array else { return };
        // SAFETY: the promise of who made this.
        let row = unsafe { array.slice(self.first + i * self.keys, self.keys) };
        let (known, rest) = row.split_at_mut(seen.len());
        known.iter_mut().zip(seen).for_each(|(out, x)| *out = x * factor);
        rest.fill(unseen);
    }
}
