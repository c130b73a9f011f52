//! Evaluates how well a model predicts a text, and the divergence of one file from another.

mod exp;
mod kept;
mod kl;
mod perplexity;
mod protocol;
mod runner;
mod side_by_side;
mod statistics;
mod windows;

pub use kept::{Store, TokenScore};
pub use kl::{AgainstBase, Qualities, Quality, WindowSums, compare};
pub use perplexity::{Perplexity, perplexity};
pub use protocol::{Protocol, Window};
pub use side_by_side::Divergence;
pub use statistics::{Estimate, nan_if_null};

use crate::{Error, Tokenizer};
use pythia_task::Cancel;
use std::time::Duration;

/// Settings of an evaluation. The text of a file should be read without its
/// [last line end](crate::TextReader::without_last_newline).
#[derive(Clone, Copy, Debug)]
pub struct Request<'t> {
    /// The tokenizer, which knows the bytes of each token.
    pub tokenizer: &'t Tokenizer,
    /// Which tokens are scored, and their context.
    pub protocol: Protocol,
    /// Stop after this many windows.
    pub max_windows: Option<usize>,
    /// Raised by the caller to stop, also within a window.
    pub cancel: &'t Cancel,
}

impl Request<'_> {
    fn check_cancel(&self) -> Result<(), Error> {
        if self.cancel.is_raised() { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// State of an evaluation after a window.
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// Windows done.
    pub windows: usize,
    /// Total number of windows, an estimate until the end of the text has been read. `None` if its length is unknown.
    pub total_windows: Option<usize>,
    /// Tokens scored so far.
    pub scored: usize,
    /// Perplexity so far; of the base, in a comparison.
    pub perplexity: f64,
    /// Time since the start.
    pub elapsed: Duration,
}

/// Receives the progress of an evaluation.
pub trait Observer {
    /// Negative log-likelihood, in nats, of `token` at `position` of the text; of the base, in a comparison.
    fn token(&mut self, position: usize, token: u32, nll: f64) {
        let _ = (position, token, nll);
    }

    /// A window is done. Short windows run together and are reported together.
    fn window(&mut self, state: &State) {
        let _ = state;
    }
}

/// An observer that does nothing.
impl Observer for () {}
