//! Whether any text is as long as a patch wants it.

use crate::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The last position that patches of a model replace, and how far its passes have come. A patch beyond the end of every
/// text changes nothing, and a number would be taken for that of a changed model.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    last: Option<usize>,
    seen: Arc<AtomicUsize>,
}

impl Reach {
    pub(super) fn new(last: Option<usize>, seen: &Arc<AtomicUsize>) -> Self {
        Self { last, seen: Arc::clone(seen) }
    }

    /// Tells whether a sequence of `tokens` has all positions. `what` it is, such as "the prompt".
    ///
    /// # Errors
    /// If a patch is beyond its end.
    pub fn check(&self, tokens: usize, what: &str) -> Result<(), Error> {
        let Some(last) = self.last.filter(|last| *last >= tokens) else { return Ok(()) };
        let wanted = match tokens {
            0 => "wanted a text with tokens".to_owned(),
            1 => format!("wanted 0: {what} has one token"),
            n => format!("wanted 0 to {}: {what} has {n} tokens", n - 1),
        };
        Err(Error::Setting { name: "position of a patch", problem: format!("found {last}, {wanted}") })
    }

    /// The same for the longest sequence that was scored with the changes: of a text that is scored, all tokens but the
    /// last are run.
    ///
    /// # Errors
    /// If none had all positions.
    pub fn check_scored(&self, what: &str) -> Result<(), Error> {
        self.check(self.seen.load(Ordering::Relaxed) + 1, what)
    }
}
