//! Sequences and the slots of a context's cache that they occupy.

use std::sync::{Arc, Mutex, PoisonError};

/// A sequence of tokens in a [`Context`](crate::Context), which keeps their keys and values. It has a slot of the cache
/// for itself; dropping it frees the slot, also while the context runs a pass for others.
#[derive(Debug)]
pub struct Sequence {
    pub(crate) slot: usize,
    pub(crate) len: usize,
    slots: Arc<Slots>,
}

impl Sequence {
    /// Tokens in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no tokens.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Tokens that it can hold: the context's positions per sequence.
    pub fn n_ctx(&self) -> usize {
        self.slots.n_ctx
    }

    /// Forgets the tokens from `len` on; nothing if it has no more.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Whether it occupies one of these slots.
    pub(crate) fn is_of(&self, slots: &Arc<Slots>) -> bool {
        Arc::ptr_eq(&self.slots, slots)
    }
}

impl Drop for Sequence {
    fn drop(&mut self) {
        self.slots.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.slot);
    }
}

/// The slots of a context.
#[derive(Debug)]
pub(crate) struct Slots {
    n_ctx: usize,
    /// Taken from the end: a slot that was in use lately is in memory already.
    free: Mutex<Vec<usize>>,
}

impl Slots {
    pub(crate) fn new(n_seq: usize, n_ctx: usize) -> Arc<Self> {
        Arc::new(Self { n_ctx, free: Mutex::new((0..n_seq).rev().collect()) })
    }

    /// An empty sequence in a free slot, if there is one.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Sequence> {
        let slot = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        Some(Sequence { slot, len: 0, slots: Arc::clone(self) })
    }
}
