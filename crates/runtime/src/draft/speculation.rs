//! The drafts of one generator, from pass to pass.

use super::experience::Experience;
use super::load::Load;
use super::pace::{Choice, Pace, Place};
use super::{Draft, DraftLength, DraftStats};
use crate::{Error, Sampler};
use std::time::Instant;

/// A draft, and what is known about it.
#[derive(Debug)]
pub(crate) struct Speculation {
    draft: Box<dyn Draft>,
    pace: Pace,
    stats: DraftStats,
    /// Tokens of the text that the draft knows, with those that it proposed last.
    known: usize,
    round: Round,
}

/// So many tokens that the draft does not know are normal: the last one of the text, and that of a pass without drafts.
const NORMAL_LAG: usize = 2;

/// What came of the last pass.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Round {
    /// Seconds that the draft took, but not to read the text.
    pub(crate) seconds: f64,
    /// Drafted tokens that were in the pass.
    pub(crate) checked: usize,
    /// Those that the text has.
    pub(crate) accepted: usize,
}

impl Speculation {
    pub(crate) fn new(draft: Box<dyn Draft>, length: DraftLength) -> Self {
        let (stats, round) = (DraftStats::default(), Round::default());
        Self { draft, pace: Pace::new(length), stats, known: 0, round }
    }

    pub(crate) fn stats(&self) -> DraftStats {
        self.stats
    }

    /// Tokens that may come after `text` for a pass that is otherwise `load`; they are added to it. If `is_due`, it is time
    /// for a pass without drafts, which keeps the time of such passes known.
    pub(crate) fn propose(
        &mut self,
        (text, sampler): (&[u32], &Sampler),
        load: &mut Load,
        experience: &mut Experience,
        place: Place,
        is_due: bool,
    ) -> Result<Vec<u32>, Error> {
        let unread = text.len().saturating_sub(self.known);
        let unread = if unread > NORMAL_LAG { unread } else { 0 };
        let Choice { length, is_probe } = match is_due {
            true => Choice { length: self.pace.least(place.room), is_probe: false },
            false => self.pace.choose(load, experience, place, unread),
        };
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
        self.known = text.len() + proposed.len();
        if unread > 0 {
            experience.read(unread, followed.as_secs_f64());
        }
        let seconds = (all - followed).as_secs_f64();
        experience.drafted(proposed.len(), seconds);
        self.round.seconds = seconds;
        let planned = self.pace.with(load, experience, proposed.len());
        if is_probe {
            experience.budget.probe(planned.loss() - load.loss());
        }
        *load = planned;
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

    /// Ends a round, and tells what came of it.
    pub(crate) fn settle(&mut self, experience: &mut Experience) -> Round {
        let round = std::mem::take(&mut self.round);
        self.known = self.known.saturating_sub(round.checked - round.accepted);
        self.pace.checked(round.checked, round.accepted, experience);
        round
    }
}
