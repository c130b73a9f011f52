//! What a pass is expected to bring and to take.

use super::times::PassTimes;

/// A pass that is being planned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Tokens that the model sees in it.
    pub(crate) rows: usize,
    /// Tokens that the texts are expected to get from it.
    pub(super) tokens: f64,
    /// Seconds that it is expected to take, with the drafts for it.
    pub(super) seconds: f64,
    /// Texts that it continues, and the seconds that it takes without drafts, when it brings a token to each.
    pub(super) texts: usize,
    pub(super) plain: f64,
}

impl Load {
    /// A pass over one token each of `n` texts.
    pub(crate) fn plain(n: usize, times: &PassTimes) -> Self {
        let seconds = times.of(n).unwrap_or(0.0);
        Self { rows: n, tokens: n as f64, seconds, texts: n, plain: seconds }
    }

    /// Whether such passes were timed.
    pub(super) fn is_known(&self) -> bool {
        self.seconds > 0.0
    }

    /// Tokens per second.
    pub(super) fn rate(&self) -> f64 {
        self.tokens / self.seconds
    }

    /// Seconds that plain passes are expected to take less for as many tokens; below 0 if they take more.
    pub(super) fn loss(&self) -> f64 {
        self.seconds - self.plain * self.tokens / self.texts as f64
    }
}
