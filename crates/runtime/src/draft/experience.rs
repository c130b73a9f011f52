//! What the drafts of all texts that share passes have taught.

use super::budget::Budget;
use super::speculation::Round;
use super::times::{PassTimes, Recent};

/// What is known about drafts before the first of a text.
#[derive(Clone, Debug)]
pub(crate) struct Experience {
    pub(crate) times: PassTimes,
    /// Seconds to draft a token.
    pub(super) drafting: Recent,
    /// Seconds to read a token of a text, beside others.
    reading: Recent,
    pub(super) acceptance: Acceptance,
    pub(super) budget: Budget,
}

impl Default for Experience {
    fn default() -> Self {
        Self {
            times: PassTimes::default(),
            drafting: Recent::default(),
            reading: Recent::default(),
            acceptance: Acceptance::new(KEEP),
            budget: Budget::default(),
        }
    }
}

/// What a checked token leaves of the counts before it: some 200 tokens count.
const KEEP: f64 = 0.995;

impl Experience {
    /// A draft of `k` tokens took so long.
    pub(super) fn drafted(&mut self, k: usize, seconds: f64) {
        if k > 0 {
            self.drafting.push(seconds / k as f64);
        }
    }

    /// A draft read so many tokens of a text that it had not seen, which took so long.
    pub(super) fn read(&mut self, tokens: usize, seconds: f64) {
        self.reading.push((seconds - self.to_read(0)).max(0.0) / tokens as f64);
        self.budget.read(seconds);
    }

    /// A pass over one token each of `n` texts and the drafts of these `rounds` took so long.
    pub(crate) fn settle(&mut self, n: usize, seconds: f64, rounds: &[Round]) {
        let Some(plain) = self.times.of(n) else { return };
        let accepted: usize = rounds.iter().map(|round| round.accepted).sum();
        let drafting: f64 = rounds.iter().map(|round| round.seconds).sum();
        // What a pass without drafts takes more than others is not their doing.
        let pass = if rounds.iter().any(|round| round.checked > 0) { seconds } else { plain };
        self.budget.settle((n, n + accepted), plain, drafting + pass);
    }

    /// Seconds to read so many tokens: what one takes in any case, and more for each. 0 before any draft.
    pub(super) fn to_read(&self, tokens: usize) -> f64 {
        let seconds = |of: &Recent| of.median().unwrap_or(0.0);
        seconds(&self.drafting) + seconds(&self.reading) * tokens as f64
    }
}

/// The chance that a drafted token is accepted if those before it were.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acceptance {
    /// Tokens after an accepted one, whatever became of them. Of late.
    checked: f64,
    accepted: f64,
    /// Tokens that are assumed to have been checked before.
    assumed: f64,
    /// What a checked token leaves of these counts.
    keep: f64,
}

impl Acceptance {
    pub(super) fn new(keep: f64) -> Self {
        Self { checked: 0.0, accepted: 0.0, assumed: 2.0, keep }
    }

    /// Of a draft of `k` tokens that was checked, `accepted` were accepted.
    pub(super) fn checked(&mut self, k: usize, accepted: usize) {
        for i in 0..k.min(accepted + 1) {
            self.checked = self.checked * self.keep + 1.0;
            self.accepted = self.accepted * self.keep + f64::from(u8::from(i < accepted));
            self.assumed *= self.keep;
        }
    }

    /// The chance, if it was `before` for the assumed tokens.
    pub(super) fn chance(&self, before: f64) -> f64 {
        (self.accepted + before * self.assumed) / (self.checked + self.assumed)
    }
}
