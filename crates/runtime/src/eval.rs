//! How well a model predicts a text, and how far one file of it is from another.

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
pub use kl::{AgainstBase, Qualities, Quality, compare};
pub use perplexity::{Perplexity, perplexity};
pub use protocol::{Protocol, Window};
pub use statistics::Estimate;

use crate::Tokenizer;
use pythia_task::Cancel;
use std::ops::ControlFlow;
use std::time::Duration;

/// What is evaluated, apart from the models and the text. Of a file's text, leave out the
/// [last line end](crate::TextReader::without_last_newline).
#[derive(Clone, Copy, Debug)]
pub struct Request<'t> {
    /// What made the tokens: it knows how many bytes each one stands for.
    pub tokenizer: &'t Tokenizer,
    /// Which tokens are scored, and with what context.
    pub protocol: Protocol,
    /// Stop after so many windows.
    pub max_windows: Option<usize>,
    /// Raised by the caller to stop, within a window too.
    pub cancel: &'t Cancel,
}

/// State of an evaluation after a window.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Windows done.
    pub windows: usize,
    /// Windows in all: an estimate until the end of a long text has been read. `None` if it is not known how long that is.
    pub total_windows: Option<usize>,
    /// Tokens scored so far.
    pub scored: usize,
    /// Perplexity so far; of the base, in a comparison.
    pub perplexity: f64,
    /// Time since the start.
    pub elapsed: Duration,
}

/// Is told how an evaluation goes.
pub trait Observer {
    /// Negative log-likelihood, in nats, of `token` at `position` of the text; of the base, in a comparison.
    fn token(&mut self, position: usize, token: u32, nll: f64) {
        let _ = (position, token, nll);
    }

    /// A window is done. The answer is whether to go on. Short windows run together and are reported together.
    fn window(&mut self, progress: &Progress) -> ControlFlow<()> {
        let _ = progress;
        ControlFlow::Continue(())
    }
}

/// An observer that does not look.
impl Observer for () {}
