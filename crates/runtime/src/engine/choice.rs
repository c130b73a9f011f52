//! Which sequence a job gets, and what it finds there.

use super::{JobId, TokenScore};

/// Fewer shared tokens than this are computed again: copying or waiting for them would save little.
pub(super) const WORTH: usize = 16;

/// A prompt that wants a sequence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) id: JobId,
    pub(super) prompt: &'a [u32],
    /// Scores of the prompt, with so many of the likeliest tokens.
    pub(super) scored: Option<usize>,
}

/// A sequence of the context.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    /// Tokens that it holds.
    pub(super) tokens: &'a [u32],
    /// By row, that is by position, the score of the token after it, where it is known.
    pub(super) scores: &'a [Option<TokenScore>],
    /// The job that runs there.
    pub(super) runs: Option<Wanted<'a>>,
    /// When a job last ended there.
    pub(super) used: u64,
}

/// What a job should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Take over a sequence without a job, with its first tokens.
    Take { slot: usize, keep: usize },
    /// Copy the first tokens of one sequence into another that has no job.
    Fork { from: usize, to: usize, keep: usize },
    /// Wait: another job is computing what this one needs.
    Wait,
    /// Wait: every sequence has a job.
    Full,
}

/// Chooses for a job. It waits only for jobs that came earlier and have not yet computed what it shares with them, so
/// no two wait for each other, and each waits a finite time.
pub(super) fn choose(wanted: Wanted<'_>, slots: &[Seen<'_>]) -> Choice {
    let found = slots.iter().map(|slot| usable(wanted, slot.tokens, slot.scores)).collect::<Vec<_>>();
    let free = || (0..slots.len()).filter(|&i| slots[i].runs.is_none());
    let Some(oldest) = free().min_by_key(|&i| slots[i].used) else { return Choice::Full };
    let longest = |found: &[usize], i: usize| (found[i], std::cmp::Reverse(i));
    let best = free().max_by_key(|&i| longest(&found, i)).filter(|&i| found[i] >= WORTH).unwrap_or(oldest);
    let running = (0..slots.len()).filter(|&i| slots[i].runs.is_some()).max_by_key(|&i| longest(&found, i));
    let at_hand = running.map_or(0, |i| found[i]).max(found[best]);
    let promised = slots.iter().filter_map(|slot| {
        let of = slot.runs.filter(|of| of.id < wanted.id)?;
        Some(promise(wanted, of)).filter(|&promise| slot.tokens.len() < promise)
    });
    if promised.max().is_some_and(|promise| promise >= at_hand + WORTH) {
        return Choice::Wait;
    }
    match running {
        Some(from) if found[from] >= found[best] + WORTH => Choice::Fork { from, to: oldest, keep: found[from] },
        _ => Choice::Take { slot: best, keep: found[best] },
    }
}

/// How many tokens at the start of the prompt need not run. The last one runs in any case: its logits choose the first
/// new token.
fn usable(wanted: Wanted<'_>, tokens: &[u32], scores: &[Option<TokenScore>]) -> usize {
    let Wanted { prompt, scored, .. } = wanted;
    let common = common(tokens, prompt).min(prompt.len() - 1);
    let Some(top) = scored else { return common };
    let known = |(score, next): (&Option<TokenScore>, &u32)| {
        score.as_ref().is_some_and(|score| score.token == *next && score.top.len() >= top)
    };
    scores.iter().zip(&prompt[1..]).take(common).take_while(|&row| known(row)).count()
}

/// How many tokens will be [usable] once the other job has run its prompt.
fn promise(wanted: Wanted<'_>, other: Wanted<'_>) -> usize {
    let common = common(other.prompt, wanted.prompt);
    let most = common.min(wanted.prompt.len() - 1);
    match (wanted.scored, other.scored) {
        (None, _) => most,
        // The row of the last shared token is scored for a token that is not shared.
        (Some(top), Some(other)) if stored(other) >= top => most.min(common.saturating_sub(1)),
        _ => 0,
    }
}

/// How many of the likeliest tokens are kept with a score for which so many were asked: one costs nothing.
pub(super) fn stored(top: usize) -> usize {
    top.max(1)
}

fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn score(token: u32, top: usize) -> Option<TokenScore> {
        Some(TokenScore { token, log_likelihood: -1.0, top: vec![(0, -0.5); top] })
    }

    /// A job with its sequence: what it has run, scored if it is.
    #[derive(Clone, Debug)]
    struct Slot {
        prompt: Vec<u32>,
        scored: Option<usize>,
        run: usize,
        job: Option<u64>,
        used: u64,
        scores: Vec<Option<TokenScore>>,
    }

    impl Slot {
        fn new(prompt: Vec<u32>, scored: Option<usize>, run: usize, job: Option<u64>, used: u64) -> Self {
            let run = run.min(prompt.len());
            let scores = scored
                .map_or(Vec::new(), |top| prompt[1..].iter().take(run).map(|&next| score(next, stored(top))).collect());
            Self { prompt, scored, run, job, used, scores }
        }

        fn seen(&self) -> Seen<'_> {
            let runs = self.job.map(|id| Wanted { id: JobId(id), prompt: &self.prompt, scored: self.scored });
            Seen { tokens: &self.prompt[..self.run], scores: &self.scores, runs, used: self.used }
        }
    }

    fn choice(id: u64, prompt: &[u32], scored: Option<usize>, slots: &[Slot]) -> Choice {
        let slots: Vec<Seen<'_>> = slots.iter().map(Slot::seen).collect();
        choose(Wanted { id: JobId(id), prompt, scored }, &slots)
    }

    fn text(start: u32, len: usize) -> Vec<u32> {
        (start..).take(len).collect()
    }

    #[test]
    fn the_longest_prefix_wins_and_else_the_oldest() {
        let idle = |start, used| Slot::new(text(start, 40), None, 40, None, used);
        let slots = [idle(0, 5), idle(100, 3), idle(200, 4)];
        assert_eq!(choice(9, &text(900, 50), None, &slots), Choice::Take { slot: 1, keep: 0 });
        assert_eq!(choice(9, &text(200, 50), None, &slots), Choice::Take { slot: 2, keep: 40 });
        assert_eq!(choice(9, &text(200, 40), None, &slots), Choice::Take { slot: 2, keep: 39 }, "the last token runs");
        let short = [text(200, WORTH - 1), vec![7; 9]].concat();
        assert_eq!(choice(9, &short, None, &slots), Choice::Take { slot: 1, keep: 0 }, "not worth what is lost");
        assert_eq!(choice(9, &text(200, 50), Some(0), &slots), Choice::Take { slot: 1, keep: 0 }, "no scores there");
    }

    #[test]
    fn jobs_wait_for_what_earlier_ones_compute_and_copy_it() {
        let running = |run| [Slot::new(text(0, 90), Some(1), run, Some(4), 0), Slot::new(vec![5], None, 1, None, 1)];
        let parted = [text(0, 60), vec![7; 9]].concat();
        assert_eq!(choice(5, &parted, None, &running(20)), Choice::Wait);
        assert_eq!(choice(5, &parted, None, &running(60)), Choice::Fork { from: 0, to: 1, keep: 60 });
        assert_eq!(choice(5, &parted, Some(1), &running(59 - WORTH)), Choice::Wait);
        let nearly = 60 - WORTH;
        let copied = Choice::Fork { from: 0, to: 1, keep: nearly };
        assert_eq!(choice(5, &parted, Some(1), &running(nearly)), copied, "the rest is not worth waiting for");
        assert_eq!(choice(5, &parted, Some(1), &running(60)), Choice::Fork { from: 0, to: 1, keep: 59 });
        assert_eq!(
            choice(5, &parted, Some(2), &running(20)),
            Choice::Take { slot: 1, keep: 0 },
            "not enough is scored"
        );
        assert_eq!(choice(3, &parted, None, &running(20)), Choice::Fork { from: 0, to: 1, keep: 20 }, "came earlier");
        assert_eq!(choice(5, &parted, None, &running(20)[..1]), Choice::Full);
        let same = text(0, 90);
        assert_eq!(choice(5, &same, Some(0), &running(60)), Choice::Wait);
        assert_eq!(choice(5, &same, Some(0), &running(89)), Choice::Fork { from: 0, to: 1, keep: 89 });
    }

    fn slot() -> impl Strategy<Value = Slot> {
        let prompt = (prop::collection::vec(0u32..2, 1..6), 1usize..60);
        (prompt, prop::option::of(0usize..4), 0usize..80, prop::option::of(0u64..20), 0u64..9).prop_map(
            |((kind, len), scored, run, job, used)| {
                let prompt = kind.into_iter().cycle().take(len).collect();
                Slot::new(prompt, scored, run, job, used)
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_there(slots in prop::collection::vec(slot(), 1..6), own in slot(), id in 0u64..20) {
            let (prompt, scored) = (&own.prompt, own.scored);
            let holds = |slot: usize, keep: usize| {
                let Slot { prompt: tokens, run, scores, .. } = &slots[slot];
                keep < prompt.len() && keep <= *run && tokens[..keep] == prompt[..keep]
                    && scored.is_none_or(|top| (0..keep).all(|row| {
                        let score = scores.get(row).and_then(Option::as_ref);
                        score.is_some_and(|score| score.token == prompt[row + 1] && score.top.len() >= top)
                    }))
            };
            let free = |slot: usize| slots[slot].job.is_none();
            match choice(id, prompt, scored, &slots) {
                Choice::Full => prop_assert!((0..slots.len()).all(|slot| !free(slot))),
                Choice::Wait => {
                    prop_assert!((0..slots.len()).any(free));
                    // Once that job has run its prompt, there is something to take.
                    let later: Vec<Slot> = slots.iter().map(|slot| match slot.job {
                        Some(_) => Slot::new(slot.prompt.clone(), slot.scored, usize::MAX, slot.job, slot.used),
                        None => slot.clone(),
                    }).collect();
                    let forks = matches!(choice(id, prompt, scored, &later), Choice::Fork { keep, .. } if keep >= WORTH);
                    prop_assert!(forks);
                }
                Choice::Take { slot, keep } => {
                    prop_assert!(free(slot) && holds(slot, keep));
                    // No free one is much better.
                    prop_assert!((0..slots.len()).all(|other| !free(other) || !holds(other, keep + WORTH)));
                }
                Choice::Fork { from, to, keep } => {
                    prop_assert!(!free(from) && free(to) && holds(from, keep) && keep >= WORTH);
                    prop_assert!((0..slots.len()).all(|other| !holds(other, keep + 1)));
                }
            }
        }
    }
}
