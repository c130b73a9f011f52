//! Every limit of the server. `docs/server.md` lists them.

use std::time::Duration;

/// Bytes of a request's body.
pub(crate) const BODY_BYTES: usize = 4 << 20;
/// Bytes of a request's first line and headers together.
pub(crate) const HEADER_BYTES: usize = 16 << 10;
/// Values in the JSON of a body.
pub(crate) const JSON_VALUES: usize = 1 << 19;
/// Connections at the same time. More wait to be accepted.
pub(crate) const CONNECTIONS: usize = 4096;
/// Estimated memory of all requests that are being read, computed and answered.
pub(crate) const MEMORY: usize = 1 << 30;
/// Estimated memory of one of them.
pub(crate) const REQUEST_MEMORY: usize = 256 << 20;
/// Bytes of a body that is too long and is read all the same, so that the client sees why.
pub(crate) const DRAINED_BYTES: usize = 256 << 20;
/// Time for that.
pub(crate) const DRAINING: Duration = Duration::from_secs(5);

/// Prompts of a request.
pub(crate) const PROMPTS: usize = 256;
/// Choices of a request: prompts times `best_of`.
pub(crate) const CHOICES: usize = 1024;
/// `n` and `best_of`.
pub(crate) const BEST_OF: i64 = 128;
/// `max_tokens`. A text also ends where the context does.
pub(crate) const MAX_TOKENS: i64 = 1 << 20;
/// `logprobs`, and `top` of `/v1/tokens`.
pub(crate) const LOGPROBS: i64 = 20;
/// `temperature`.
pub(crate) const TEMPERATURE: f64 = 100.0;
/// `repetition_penalty`.
pub(crate) const REPETITION_PENALTY: f64 = 100.0;
/// `presence_penalty` and `frequency_penalty`, and less than 0 as far.
pub(crate) const PENALTY: f64 = 2.0;
/// A value of `logit_bias`, and less than 0 as far.
pub(crate) const BIAS: f64 = 100.0;
/// Entries of `logit_bias`.
pub(crate) const BIASES: usize = 1024;
/// Stop strings.
pub(crate) const STOPS: usize = 64;
/// Bytes of a stop string.
pub(crate) const STOP_BYTES: usize = 1024;

/// Bytes of a text that can only be tokenized at once: it takes 140 times its size in memory.
pub(crate) const WORD_BYTES: usize = 256 << 10;
/// Texts that are read and tokenized, or replies that are written, at the same time.
pub(crate) const PREPARED: usize = 2;
/// Events of a stream that its client has not read. More cancel it.
pub(crate) const UNREAD_EVENTS: usize = 1024;
/// Without other data a stream gets a comment this often, so that nothing between takes the connection for dead.
pub(crate) const PING: Duration = Duration::from_secs(10);
/// `/v1/tokens` at the same time, beyond which they are refused; one runs, the others wait.
pub(crate) const TOKEN_REQUESTS: usize = 8;
/// Time to write the last answers after everything was interrupted.
pub(crate) const FAREWELL: Duration = Duration::from_millis(1500);
