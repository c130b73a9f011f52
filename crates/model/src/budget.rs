//! How much memory contexts may take together.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A limit of memory that contexts share. It is for what a program cannot give back: caches, activations, and
/// [copies](crate::Residence) of files. The mapped pages of a model's file do not count, since the system drops
/// them when memory is short, without writing them anywhere. Nor do contexts on a GPU.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    taken: Mutex<u64>,
}

impl Budget {
    /// A limit of `limit` bytes.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, taken: Mutex::new(0) })
    }

    /// What is left of it.
    pub fn left(&self) -> u64 {
        self.limit - *self.taken()
    }

    /// Takes `bytes` until the result is dropped; `None` if that many are not left.
    pub(crate) fn take(self: &Arc<Self>, bytes: u64) -> Option<Taken> {
        let mut taken = self.taken();
        *taken = taken.checked_add(bytes).filter(|sum| *sum <= self.limit)?;
        Some(Taken { budget: Arc::clone(self), bytes })
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, u64> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Part of a budget, in use.
#[derive(Debug)]
pub(crate) struct Taken {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Drop for Taken {
    fn drop(&mut self) {
        *self.budget.taken() -= self.bytes;
    }
}

/// Bytes, for messages: in millions, or in thousands if they are fewer.
pub(crate) struct Amount(pub(crate) u64);

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1_000_000 {
            return write!(f, "{:.1} kB", self.0 as f64 / 1e3);
        }
        write!(f, "{:.1} MB", self.0 as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_can_be_taken_again() {
        let budget = Budget::new(100);
        let most = budget.take(60).unwrap();
        assert!(budget.take(41).is_none() && budget.take(u64::MAX).is_none());
        let rest = budget.take(40).unwrap();
        assert_eq!(budget.left(), 0);
        drop(most);
        assert_eq!(budget.left(), 60);
        drop(rest);
        assert_eq!(budget.left(), 100);
    }
}
