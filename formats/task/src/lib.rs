//! What long operations share: how they are cancelled, how they report progress, and of what kinds their errors are.
//!
//! Every crate of the workspace uses these three types, so a caller handles all operations alike.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A request to stop, shared by its clones. Raised once, never lowered.
///
/// ```
/// use pythia_task::Cancel;
///
/// let cancel = Cancel::new();
/// let seen_by_worker = cancel.clone();
/// cancel.raise();
/// assert!(seen_by_worker.is_raised());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A request that has not been made yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for the end of all work that looks at a clone of this.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether work should stop. Cheap: one relaxed load.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Hears how an operation proceeds, from any of its threads. Every method may be left out.
pub trait Progress: Send + Sync {
    /// The operation has `total` units in all: bytes of its source, or what its documentation says. `None` if that is
    /// not known. Called again when a better estimate is there.
    fn expect(&self, total: Option<u64>) {
        let _ = total;
    }

    /// `units` more are done, of the tensor, file or text called `item`. Negative where work must be done again.
    fn advance(&self, item: &str, units: i64) {
        let _ = (item, units);
    }

    /// A line that a user should read, without its line end.
    fn note(&self, line: &str) {
        let _ = line;
    }
}

/// Hears nothing.
impl Progress for () {}

/// Where the cause of an error lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// In the request: it can never be met, or not by this input.
    Usage,
    /// In the data: a file is malformed or does not fit.
    Data,
    /// In the environment: the operating system, a device, the network or a server failed or refused.
    Io,
    /// Nowhere: the operation was cancelled.
    Cancelled,
}
