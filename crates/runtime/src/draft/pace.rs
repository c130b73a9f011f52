//! How long the next draft is.
//!
//! A draft of `k` tokens, each accepted with probability `a` if those before it were, adds `a + a^2 + .. + a^k` tokens to
//! a pass (Leviathan et al., section 3.1). Its cost is the time to draft, and what the pass takes longer with `k` more
//! rows; both are measured while texts are written. The length with the most tokens per second is chosen. Where plain
//! passes have more, it is still tried now and then, as often as the time that drafts have lost allows.

use super::DraftLength;
use super::experience::{Acceptance, Experience};
use super::load::Load;

/// The draft of a text must promise so much of its share of a plain pass: less is noise.
const GAIN: f64 = 0.02;
/// What a checked token leaves of the counts before it: some 16 tokens count, because a text changes quickly between
/// parts that are easy to guess and others.
const KEEP: f64 = 0.94;

/// What is known about the drafts of a text.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    length: DraftLength,
    /// Until tokens of this text were checked, those of others count.
    acceptance: Acceptance,
}

/// A draft that is worth making.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    /// Its tokens; 0 for none.
    pub(super) length: usize,
    /// Whether it promises nothing.
    pub(super) is_probe: bool,
}

/// Where a text is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Tokens that a draft may have.
    pub(crate) room: usize,
    /// Tokens until the text ends, at most.
    pub(crate) left: usize,
}

impl Pace {
    pub(super) fn new(length: DraftLength) -> Self {
        Self { length, acceptance: Acceptance::new(KEEP) }
    }

    /// Tokens to draft in any case, at most `room`.
    pub(super) fn least(&self, room: usize) -> usize {
        self.length.least().min(room)
    }

    /// The draft for the next pass, if that is otherwise this `load`. It has to read `unread` tokens before.
    pub(super) fn choose(&self, load: &Load, experience: &Experience, place: Place, unread: usize) -> Choice {
        let (least, most) = (self.least(place.room), self.length.most().min(place.room));
        // Nobody knows what a draft takes before the first.
        let most = if experience.drafting.median().is_some() { most } else { most.min(1) };
        let in_any_case = Choice { length: least, is_probe: false };
        if !load.is_known() {
            return in_any_case;
        }
        let rate = |k: usize| self.with(load, experience, k).rate();
        let Some(best) = (1..=most).max_by(|&a, &b| rate(a).total_cmp(&rate(b)).then(b.cmp(&a))) else {
            return in_any_case;
        };
        let planned = self.with(load, experience, best);
        let is_promising = planned.rate() > (1.0 + GAIN / load.texts as f64) * load.rate();
        let passes = place.left as f64 / (1.0 + planned.tokens - load.tokens);
        let gain = passes * (load.loss() - planned.loss());
        let budget = &experience.budget;
        let may_read = unread == 0 || budget.allows_reading(experience.to_read(unread), gain, load.plain);
        let may_lose = if is_promising {
            budget.allows(planned.loss(), load.plain)
        } else {
            budget.allows_probe(planned.loss() - load.loss(), load.plain)
        };
        if may_read && may_lose { Choice { length: best.max(least), is_probe: !is_promising } } else { in_any_case }
    }

    /// The same pass with a draft of `k` tokens more.
    pub(super) fn with(&self, load: &Load, experience: &Experience, k: usize) -> Load {
        let a = self.acceptance.chance(experience.acceptance.chance(0.5));
        let gain: f64 = std::iter::successors(Some(a), |chance| Some(chance * a)).take(k).sum();
        let time = |rows| experience.times.of(rows).unwrap_or(0.0);
        let longer = (time(load.rows + k) - time(load.rows)).max(0.0);
        let drafting = experience.drafting.median().unwrap_or(0.0) * k as f64;
        Load { rows: load.rows + k, tokens: load.tokens + gain, seconds: load.seconds + longer + drafting, ..*load }
    }

    /// Of a draft of `k` tokens that was checked, `accepted` were accepted.
    pub(super) fn checked(&mut self, k: usize, accepted: usize, experience: &mut Experience) {
        self.acceptance.checked(k, accepted);
        experience.acceptance.checked(k, accepted);
    }
}

#[cfg(test)]
mod tests {
    use super::super::speculation::Round;
    use super::*;
    use crate::Rng;

    /// A machine where a row more takes `row` of a plain pass over one token, a drafted token `draft`, and a token
    /// that the draft reads `read`.
    struct Machine {
        row: f64,
        draft: f64,
        read: f64,
    }

    /// A text of a simulation.
    struct Text {
        pace: Pace,
        written: usize,
        /// Tokens that the draft knows.
        known: usize,
    }

    /// What came of a simulation.
    struct Outcome {
        /// The time of plain passes over that with drafts.
        speed: f64,
        /// Texts whose beginnings were read.
        begun: usize,
    }

    /// Tokens of the beginning of a text.
    const PROMPT: usize = 32;

    impl Machine {
        fn cheap() -> Self {
            Self { row: 0.05, draft: 0.05, read: 0.005 }
        }

        fn pass(&self, rows: usize) -> f64 {
            1.0 + self.row * (rows - 1) as f64
        }

        /// Writes texts of `n` tokens, `parallel` of them at a time. A drafted token is accepted with a probability that
        /// depends on the text and the position.
        fn write(&self, texts: usize, parallel: usize, n: usize, accepted: impl Fn(usize, usize) -> f64) -> Outcome {
            let (mut experience, mut rng) = (Experience::default(), Rng::new(3));
            let (mut seconds, mut plain_seconds, mut begun) = (0.0, 0.0, 0);
            let length = DraftLength::new(0, 16).unwrap();
            let start = || Text { pace: Pace::new(length), written: 0, known: 0 };
            let mut running: Vec<(usize, Text)> = Vec::new();
            let mut waiting = (0..texts).map(|text| (text, start()));
            loop {
                running.retain(|(_, text)| text.written < n);
                running.extend(waiting.by_ref().take(parallel - running.len()));
                let texts = running.len();
                if texts == 0 {
                    return Outcome { speed: plain_seconds / seconds, begun };
                }
                let mut load = Load::plain(texts, &experience.times);
                let mut rounds = Vec::new();
                for (index, text) in &mut running {
                    let left = n - text.written;
                    let place = Place { room: (left - 1).min(32usize.saturating_sub(load.rows)), left };
                    let unread = (PROMPT + text.written).saturating_sub(text.known);
                    let unread = if unread > 2 { unread } else { 0 };
                    let Choice { length: k, is_probe } = text.pace.choose(&load, &experience, place, unread);
                    let drafting = self.draft * k as f64;
                    if k > 0 {
                        experience.drafted(k, drafting);
                        let planned = text.pace.with(&load, &experience, k);
                        if is_probe {
                            experience.budget.probe(planned.loss() - load.loss());
                        }
                        load = planned;
                        begun += usize::from(text.known == 0);
                        text.known = PROMPT + text.written + k;
                    }
                    if k > 0 && unread > 0 {
                        let reading = self.draft + self.read * unread as f64;
                        experience.read(unread, reading);
                        seconds += reading;
                    }
                    let right = |i: &usize| rng.next_f64() < accepted(*index, text.written + i);
                    let right = (0..k).take_while(right).count();
                    text.known = text.known.saturating_sub(k - right);
                    rounds.push(Round { seconds: drafting, checked: k, accepted: right });
                    seconds += drafting;
                }
                // Times vary, as on any machine.
                let noise = 1.0 + 0.1 * rng.next_f64();
                let pass = self.pass(load.rows) * noise;
                seconds += pass;
                experience.times.record(load.rows, pass);
                experience.settle(texts, pass, &rounds);
                for ((_, text), round) in running.iter_mut().zip(&rounds) {
                    text.pace.checked(round.checked, round.accepted, &mut experience);
                    text.written += 1 + round.accepted;
                    // What a token takes among as many others.
                    plain_seconds += (1 + round.accepted) as f64 * 1.05 * self.pass(texts) / texts as f64;
                }
            }
        }

        /// How many times as fast one text of `n` tokens is.
        fn speed(&self, n: usize, accepted: impl Fn(usize) -> f64) -> f64 {
            self.write(1, 1, n, |_, at| accepted(at)).speed
        }
    }

    #[test]
    fn good_drafts_pay_and_bad_ones_cost_next_to_nothing() {
        let cheap = Machine::cheap();
        // With all of 16 accepted it would be 17 / 2.6 = 6.5 times; with 9 of 10, the best is some 3.3 times.
        assert!(cheap.speed(500, |_| 1.0) > 5.5);
        assert!(cheap.speed(500, |_| 0.9) > 2.8);
        assert!(cheap.speed(500, |_| 0.5) > 1.25);
        for machine in [cheap, Machine { row: 0.5, draft: 0.0, read: 0.0 }, Machine { row: 0.3, draft: 1.0, read: 0.0 }]
        {
            assert!(machine.speed(128, |_| 0.0) > 0.96);
            assert!(machine.speed(500, |_| 0.0) > 0.97);
            assert!(machine.speed(2000, |_| 0.05) > 0.97);
        }
    }

    #[test]
    fn drafts_begin_when_a_text_becomes_easy_and_end_when_it_becomes_hard() {
        let machine = Machine { row: 0.05, draft: 0.0, read: 0.0 };
        let speed = machine.speed(1000, |at| if at < 500 { 0.0 } else { 1.0 });
        assert!(speed > 1.6, "{speed}: half of the text can be free");
        let speed = machine.speed(1000, |at| if at < 500 { 1.0 } else { 0.0 });
        assert!(speed > 1.6, "{speed}");
    }

    /// Texts at a time, and their tokens: samples of a prompt, a file of prompts, a server with short texts.
    const RUNS: [(usize, usize, usize); 4] = [(8, 8, 128), (64, 64, 128), (40, 8, 64), (200, 4, 32)];

    #[test]
    fn many_texts_lose_no_more_than_one() {
        let slow = |draft, read| Machine { row: 0.1, draft, read };
        // The last draws what the model draws, and takes as long.
        let drafts = [(Machine::cheap(), 0.0), (slow(0.3, 0.05), 0.05), (slow(1.0, 0.1), 0.0), (slow(1.0, 0.1), 1.0)];
        for (machine, chance) in drafts {
            for (texts, parallel, n) in RUNS {
                let Outcome { speed, begun } = machine.write(texts, parallel, n, |_, _| chance);
                let what = format!("{texts} texts of {n}, {} per token: {speed}, {begun} begun", machine.draft);
                assert!(speed > 0.97, "{what}");
                // One to know, then one in a hundred times as long as it takes. Beside 32 texts there is no room for drafts.
                let few = if parallel < 32 { 1..=texts / 3 } else { 0..=0 };
                assert!(few.contains(&begun), "{what}");
            }
        }
    }

    #[test]
    fn many_texts_gain_where_drafts_pay() {
        let machine = Machine::cheap();
        for (texts, parallel, n) in RUNS {
            let Outcome { speed, begun } = machine.write(texts, parallel, n, |_, _| 0.9);
            if parallel < 32 {
                assert!(speed > 1.1 && begun == texts, "{texts} texts of {n}: {speed}, {begun} begun");
            }
        }
        // Every other text is easy. Those that are not cost little.
        let mixed = machine.write(40, 4, 128, |text, _| if text % 2 == 0 { 1.0 } else { 0.0 });
        let easy = machine.write(20, 4, 128, |_, _| 1.0);
        assert!(mixed.speed > 1.2, "{} where easy texts have {}", mixed.speed, easy.speed);
    }
}
