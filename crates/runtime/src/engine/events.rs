//! What a job tells its sink.

use super::TokenScore;
use crate::{Error, Finish, Timings};
use std::time::Duration;

/// Something happened to a job.
#[derive(Debug)]
pub enum Event {
    /// Scores of the next tokens of the prompt; the first one has none. They come in order and in pieces, and only if
    /// they were asked for.
    Prompt(Vec<TokenScore>),
    /// A token was chosen.
    Token {
        /// Its score, if `logprobs` asked for it.
        score: Option<TokenScore>,
        /// Its id. It may be the end-of-text token.
        id: u32,
        /// The text that is certain now and was not before; often empty.
        text: String,
    },
    /// The job is done.
    Done(Outcome),
    /// The job cannot be done: the device failed.
    Failed(Error),
}

/// How a job ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Why.
    pub finish: Finish,
    /// Text that is certain only now.
    pub text: String,
    /// Tokens of the prompt that were not computed, because the same beginning had been before.
    pub reused_tokens: usize,
    /// Time before a sequence was free.
    pub queued: Duration,
    /// Numbers of tokens, and times from then on.
    pub timings: Timings,
}
