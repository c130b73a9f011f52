//! Cancelling, progress and error kinds of long operations, the folder for what they keep, and locks of files.
//!
//! Every crate of the workspace uses these types, so a caller handles all operations in the same way.

mod cache;
mod lock;

pub use cache::user_cache;
pub use lock::LockFile;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A request to stop, shared by its clones. It can be raised once and is never lowered.
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
    /// A flag that is not raised.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks all work that checks a clone of this flag to stop.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether work should stop. This is one relaxed load.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Receives the progress of an operation, from any of its threads. Every method has a default that does nothing.
pub trait Progress: Send + Sync {
    /// The operation has `total` units: bytes of its source, or the unit that its documentation names. `None` if
    /// unknown. Called again when there is a better estimate.
    fn expect(&self, total: Option<u64>) {
        let _ = total;
    }

    /// The operation enters a stage called `name`. Units count from 0 again, and the total is unknown until the next
    /// [`expect`](Self::expect). Operations that have a single stage do not call it.
    fn stage(&self, name: &str) {
        let _ = name;
    }

    /// `units` more are done, of the tensor, file or text called `item`. Negative if work must be repeated.
    fn advance(&self, item: &str, units: i64) {
        let _ = (item, units);
    }

    /// A note for the user, one line without a line end.
    fn note(&self, line: &str) {
        let _ = line;
    }
}

/// Ignores progress.
impl Progress for () {}

/// The kind of an error, by its cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request is invalid, in general or for this input.
    Usage,
    /// The data are wrong: a file is malformed or does not fit.
    Data,
    /// The environment failed or refused: the operating system, a device, the network or a server.
    Io,
    /// The operation was cancelled.
    Cancelled,
}

impl ErrorKind {
    const ALL: [Self; 4] = [Self::Usage, Self::Data, Self::Io, Self::Cancelled];

    /// The exit code of a program that ends with such an error: `EX_DATAERR` and `EX_IOERR` of `sysexits.h`, 2 for a
    /// wrong command line as most programs have it, and the shell's code for Ctrl-C.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Data => 65,
            Self::Io => 74,
            Self::Cancelled => 130,
        }
    }

    /// The kind with this exit code.
    pub fn from_exit_code(code: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| i32::from(kind.exit_code()) == code)
    }
}
