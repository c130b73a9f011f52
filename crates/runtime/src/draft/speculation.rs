//! The drafts of one generator, from pass to pass.

use super::pace::Pace;
use super::times::PassTimes;
use super::{Draft, DraftLength, DraftStats};
use crate::{Error, Sampler};
use std::time::Instant;

/// A pass that is being planned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Tokens that the model sees in it.
    pub(crate) rows: usize,
    /// Tokens that the texts are expected to get from it.
    pub(crate) tokens: f64,
    /// Seconds that it is expected to take, with the drafts for it.
    pub(crate) seconds: f64,
}

impl Load {
    /// A pass over one token each of `n` texts.
    pub(crate) fn plain(n: usize, times: &PassTimes) -> Self {
        Self { rows: n, tokens: n as f64, seconds: times.of(n).unwrap_or(0.0) }
    }

    /// Whether such passes were timed.
    pub(super) fn is_known(&self) -> bool {
        self.seconds > 0.0
    }

    /// Tokens per second.
    pub(super) fn rate(&self) -> f64 {
        self.tokens / self.seconds
    }

    /// Seconds per token.
    pub(super) fn per_token(&self) -> f64 {
        self.seconds / self.tokens
    }
}

/// A draft, and what is known about it.
#[derive(Debug)]
pub(crate) struct Speculation {
    draft: Box<dyn Draft>,
    pace: Pace,
    stats: DraftStats,
    /// Whether the draft knows the beginning of the text.
    has_begun: bool,
    round: Round,
}

/// What came of the last pass so far.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    /// Seconds that the draft took, but not for the beginning of the text.
    seconds: f64,
    checked: usize,
    accepted: usize,
}

impl Speculation {
    pub(crate) fn new(draft: Box<dyn Draft>, length: DraftLength) -> Self {
        let (stats, round) = (DraftStats::default(), Round::default());
        Self { draft, pace: Pace::new(length), stats, has_begun: false, round }
    }

    pub(crate) fn stats(&self) -> DraftStats {
        self.stats
    }

    /// Tokens that may come after `text`, at most `room`, for a pass that is otherwise `load`; they are added to it.
    /// If `is_due`, it is time for a pass without drafts, which keeps the time of such passes known.
    pub(crate) fn propose(
        &mut self,
        (text, sampler): (&[u32], &Sampler),
        load: &mut Load,
        times: &PassTimes,
        room: usize,
        is_due: bool,
    ) -> Result<Vec<u32>, Error> {
        let length = if is_due { self.pace.least(room) } else { self.pace.choose(load, times, room) };
        if length == 0 {
            return Ok(Vec::new());
        }
        let start = Instant::now();
        self.draft.follow(text)?;
        let followed = start.elapsed();
        let mut proposed = self.draft.propose(text, sampler, length)?;
        proposed.truncate(length);
        let all = start.elapsed();
        self.stats.time += all;
        self.pace.drafted(proposed.len(), (all - followed).as_secs_f64());
        // The beginning is read once, whether drafts pay or not.
        let counts = if std::mem::replace(&mut self.has_begun, true) { all } else { all - followed };
        self.round.seconds = counts.as_secs_f64();
        *load = self.pace.with(load, times, proposed.len());
        Ok(proposed)
    }

    /// So many drafted tokens were in a pass.
    pub(crate) fn checked(&mut self, tokens: usize) {
        self.round.checked = tokens;
        self.stats.passes += usize::from(tokens > 0);
        self.stats.drafted += tokens;
    }

    /// The text has the next drafted token.
    pub(crate) fn accepted(&mut self) {
        self.round.accepted += 1;
        self.stats.accepted += 1;
    }

    /// Whether a draft is in the last pass.
    pub(crate) fn is_checked(&self) -> bool {
        self.round.checked > 0
    }

    /// Ends a round: plain passes take `per_token` seconds for each token, and the last pass took `longer` than a plain
    /// one on account of this draft. Without times if nobody knows them.
    pub(crate) fn settle(&mut self, times: Option<(f64, f64)>) {
        let Round { seconds, checked, accepted } = std::mem::take(&mut self.round);
        self.pace.checked(checked, accepted);
        if let Some((per_token, longer)) = times {
            let longer = if checked > 0 { longer } else { 0.0 };
            self.pace.settle(1 + accepted, per_token, longer + seconds);
        }
    }
}
