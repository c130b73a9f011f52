//! How long the next draft is.
//!
//! A draft of `k` tokens, each accepted with probability `a` if those before it were, adds `a + a^2 + .. + a^k` tokens to
//! a pass (Leviathan et al., section 3.1). Its cost is the time to draft, and what the pass takes longer with `k` more
//! rows; both are measured while texts are written. The length with the most tokens per second is chosen. Where plain
//! passes have more, it is still tried now and then, as often as the time that drafts have lost allows.

use super::DraftLength;
use super::speculation::Load;
use super::times::{PassTimes, Recent};

/// Drafts must promise this much more than plain passes: less is noise.
const GAIN: f64 = 1.02;
/// The share of the time that drafts may lose while they promise a gain. It is a check on the promise.
const MAX_LOSS: f64 = 0.02;
/// The share of the time that they may lose while they promise none.
const MAX_PROBES: f64 = 0.01;
/// What a token of the text leaves of the sums of times before it: some 200 tokens count.
const KEEP_TIMES: f64 = 0.995;
/// What a checked token leaves of the counts before it: some 16 tokens count, because a text changes quickly between
/// parts that are easy to guess and others.
const KEEP_COUNTS: f64 = 0.94;

/// What is known about the drafts of a text.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    length: DraftLength,
    /// Checked tokens: those after an accepted one, whatever became of them. Of late, and two that are assumed.
    checked: f64,
    accepted: f64,
    /// Seconds to draft a token.
    per_token: Recent,
    /// Seconds that plain passes would have taken for the last tokens of the text.
    plain: f64,
    /// Seconds that drafts have taken beyond that.
    lost: f64,
}

impl Pace {
    pub(super) fn new(length: DraftLength) -> Self {
        Self { length, checked: 2.0, accepted: 1.0, per_token: Recent::default(), plain: 0.0, lost: 0.0 }
    }

    /// Tokens to draft in any case, at most `room`.
    pub(super) fn least(&self, room: usize) -> usize {
        self.length.least().min(room)
    }

    /// Tokens to draft for the next pass, at most `room`, if the pass is otherwise this `load`.
    pub(super) fn choose(&self, load: &Load, times: &PassTimes, room: usize) -> usize {
        let (least, most) = (self.least(room), self.length.most().min(room));
        if !load.is_known() {
            return least;
        }
        let rate = |k: usize| self.with(load, times, k).rate();
        let Some(best) = (1..=most).max_by(|&a, &b| rate(a).total_cmp(&rate(b)).then(b.cmp(&a))) else { return least };
        let share = if rate(best) > GAIN * load.rate() { MAX_LOSS } else { MAX_PROBES };
        let length = if self.lost <= share * self.plain + load.per_token() { best } else { 0 };
        length.max(least)
    }

    /// The same pass with a draft of `k` tokens more.
    pub(super) fn with(&self, load: &Load, times: &PassTimes, k: usize) -> Load {
        let a = self.accepted / self.checked;
        let gain: f64 = std::iter::successors(Some(a), |chance| Some(chance * a)).take(k).sum();
        let time = |rows| times.of(rows).unwrap_or(0.0);
        let longer = (time(load.rows + k) - time(load.rows)).max(0.0);
        let drafting = self.per_token.median().unwrap_or(0.0) * k as f64;
        Load { rows: load.rows + k, tokens: load.tokens + gain, seconds: load.seconds + longer + drafting }
    }

    /// A draft of `k` tokens took so long.
    pub(super) fn drafted(&mut self, k: usize, seconds: f64) {
        if k > 0 {
            self.per_token.push(seconds / k as f64);
        }
    }

    /// Of a draft of `k` tokens that was checked, `accepted` were accepted.
    pub(super) fn checked(&mut self, k: usize, accepted: usize) {
        for i in 0..k.min(accepted + 1) {
            self.checked = self.checked * KEEP_COUNTS + 1.0;
            self.accepted = self.accepted * KEEP_COUNTS + f64::from(u8::from(i < accepted));
        }
    }

    /// The last pass brought so many tokens. Plain passes take `per_token` seconds for each, and this one took `longer`
    /// than a plain pass for its first.
    pub(super) fn settle(&mut self, tokens: usize, per_token: f64, longer: f64) {
        let saved = (tokens.saturating_sub(1)) as f64 * per_token;
        let keep = KEEP_TIMES.powi(tokens as i32);
        self.plain = self.plain * keep + tokens as f64 * per_token;
        self.lost = (self.lost * keep + longer - saved).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    /// A machine where a row more takes `row` of a plain pass, and a drafted token `draft`.
    struct Machine {
        row: f64,
        draft: f64,
    }

    impl Machine {
        /// Tokens per plain pass's time over `tokens` of a text. Drafted tokens are accepted with a probability that
        /// depends on the position.
        fn speed(&self, tokens: usize, most: usize, accepted: impl Fn(usize) -> f64) -> f64 {
            let (mut pace, mut times, mut rng) =
                (Pace::new(DraftLength::new(0, most).unwrap()), PassTimes::default(), Rng::new(3));
            let (mut seconds, mut written) = (0.0, 0);
            while written < tokens {
                // Times vary, as on any machine.
                let noise = 1.0 + 0.1 * rng.next_f64();
                let k = pace.choose(&Load::plain(1, &times), &times, 31);
                let drafting = self.draft * k as f64;
                let pass = (1.0 + self.row * k as f64) * noise;
                let right = (0..k).take_while(|i| rng.next_f64() < accepted(written + i)).count();
                pace.drafted(k, drafting);
                pace.checked(k, right);
                times.record(1 + k, pass);
                let plain = times.of(1).unwrap();
                pace.settle(1 + right, plain, drafting + if k > 0 { pass - plain } else { 0.0 });
                seconds += pass + drafting;
                written += 1 + right;
            }
            written as f64 * 1.05 / seconds
        }
    }

    #[test]
    fn good_drafts_pay_and_bad_ones_cost_next_to_nothing() {
        let cheap = Machine { row: 0.05, draft: 0.05 };
        // With all of 16 accepted it would be 17 / 2.6 = 6.5 times; with 9 of 10, the best is some 3.3 times.
        assert!(cheap.speed(500, 16, |_| 1.0) > 5.5);
        assert!(cheap.speed(500, 16, |_| 0.9) > 2.8);
        assert!(cheap.speed(500, 16, |_| 0.5) > 1.25);
        for machine in [cheap, Machine { row: 0.5, draft: 0.0 }, Machine { row: 0.3, draft: 1.0 }] {
            assert!(machine.speed(128, 16, |_| 0.0) > 0.96);
            assert!(machine.speed(500, 16, |_| 0.0) > 0.97);
            assert!(machine.speed(2000, 16, |_| 0.05) > 0.97);
        }
    }

    #[test]
    fn drafts_begin_when_a_text_becomes_easy_and_end_when_it_becomes_hard() {
        let machine = Machine { row: 0.05, draft: 0.0 };
        let speed = machine.speed(1000, 16, |at| if at < 500 { 0.0 } else { 1.0 });
        assert!(speed > 1.6, "{speed}: half of the text can be free");
        let speed = machine.speed(1000, 16, |at| if at < 500 { 1.0 } else { 0.0 });
        assert!(speed > 1.6, "{speed}");
    }
}
