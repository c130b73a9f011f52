//! How well a model predicts a text, and how far one file of it is from another.

mod exp;
mod kl;
mod perplexity;
mod protocol;
mod runner;
mod statistics;

pub use kl::{AgainstBase, Comparison, Level, compare};
pub use perplexity::{Perplexity, perplexity};
pub use protocol::{Protocol, Window};
pub(crate) use runner::check_tokens;
pub use statistics::Estimate;

use crate::Tokenizer;
use std::ops::ControlFlow;
use std::time::Duration;

/// What is evaluated, apart from the models.
#[derive(Clone, Copy, Debug)]
pub struct Request<'t> {
    /// The text. Use [`strip_newline`] on a file's content before it is tokenized.
    pub tokens: &'t [u32],
    /// What made them: it knows how many bytes each one stands for.
    pub tokenizer: &'t Tokenizer,
    /// Which tokens are scored, and with what context.
    pub protocol: Protocol,
    /// Stop after so many windows.
    pub max_windows: Option<usize>,
}

/// State of an evaluation after a window.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Windows done.
    pub windows: usize,
    /// Windows in all.
    pub total_windows: usize,
    /// Tokens scored so far.
    pub scored: usize,
    /// Perplexity so far; of the base, in a comparison.
    pub perplexity: f64,
    /// Time since the start.
    pub elapsed: Duration,
}

/// Is told how an evaluation goes.
pub trait Observer {
    /// Negative log-likelihood, in nats, of the token at `position` of the text; of the base, in a comparison.
    fn token(&mut self, position: usize, nll: f64) {
        let _ = (position, nll);
    }

    /// A window is done. The answer is whether to go on. Short windows run together and are reported together.
    fn window(&mut self, progress: &Progress) -> ControlFlow<()> {
        let _ = progress;
        ControlFlow::Continue(())
    }
}

/// An observer that does not look.
impl Observer for () {}

/// A file's content without one trailing newline: what every protocol scores.
pub fn strip_newline(text: &str) -> &str {
    text.strip_suffix('\n').unwrap_or(text)
}
