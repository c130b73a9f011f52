//! The time that drafts may lose, over all texts that share passes.

/// The share of the time that drafts may lose while they promise a gain. It is a check on the promise.
const MAX_LOSS: f64 = 0.02;
/// The share of the time that they may lose while they promise none, and that texts may take to be read meanwhile.
const MAX_PROBES: f64 = 0.01;
/// What a pass leaves of the sums before it, for each token that it brings to a text: some 200 tokens count.
const KEEP: f64 = 0.995;

/// Accounts of seconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Budget {
    /// What plain passes would have taken for the last tokens.
    plain: f64,
    /// What drafts have taken beyond that, since they last saved more than they took.
    lost: f64,
    /// What drafts that promised nothing were expected to lose. Nothing that others save pays for it.
    probed: f64,
    /// What drafts have saved since they last took more, without what they read meanwhile.
    saved: f64,
    /// What plain passes would have taken for the tokens since a draft last read; `None` before the first.
    since_reading: Option<f64>,
}

impl Budget {
    /// Whether a pass may have drafts that are expected to lose so much together, or less than nothing. `plain` is the time
    /// of such a pass without them: so much may be lost in any case, or nothing would ever be tried.
    pub(super) fn allows(&self, expected_loss: f64, plain: f64) -> bool {
        self.lost + expected_loss.max(0.0) <= MAX_LOSS * self.plain + plain
    }

    /// Whether a draft that promises nothing may be tried, which is expected to lose so much by itself.
    pub(super) fn allows_probe(&self, expected_loss: f64, plain: f64) -> bool {
        self.lost.max(self.probed) + expected_loss.max(0.0) <= MAX_PROBES * self.plain + plain
    }

    /// Such a draft was made.
    pub(super) fn probe(&mut self, expected_loss: f64) {
        self.probed += expected_loss.max(0.0);
    }

    /// Whether a draft may read what it has not seen of a text, which takes so long, to save `gain` in the rest of it. The
    /// first may: whoever asks for drafts wants to know whether they pay. Others live on what drafts have saved, and now and
    /// then one may in any case, since texts differ.
    pub(super) fn allows_reading(&self, seconds: f64, gain: f64, plain: f64) -> bool {
        let Some(since) = self.since_reading else { return true };
        seconds < gain.min(self.saved) || seconds <= MAX_PROBES * (since + plain)
    }

    /// A draft read, which took so long.
    pub(super) fn read(&mut self, seconds: f64) {
        if self.since_reading.replace(0.0).is_some() {
            self.saved = (self.saved - seconds).max(0.0);
        }
    }

    /// A pass brought `tokens` to `texts` and took so long with its drafts, where a plain one takes `plain` and brings one to
    /// each.
    pub(super) fn settle(&mut self, (texts, tokens): (usize, usize), plain: f64, seconds: f64) {
        let per_text = tokens as f64 / texts as f64;
        let (keep, without) = (KEEP.powf(per_text), per_text * plain);
        self.plain = self.plain * keep + without;
        self.lost = (self.lost * keep + seconds - without).max(0.0);
        self.probed *= keep;
        self.saved = (self.saved + without - seconds).max(0.0);
        self.since_reading.iter_mut().for_each(|since| *since += without);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plain pass over two texts takes 10 s.
    fn passes(budget: &mut Budget, n: usize, tokens: usize, seconds: f64) {
        (0..n).for_each(|_| budget.settle((2, tokens), 10.0, seconds));
    }

    #[test]
    fn a_pass_and_a_share_of_the_time_may_be_lost() {
        let mut budget = Budget::default();
        assert!(budget.allows(10.0, 10.0) && !budget.allows(10.1, 10.0));
        passes(&mut budget, 1, 2, 19.9);
        assert!(budget.allows(0.0, 10.0) && !budget.allows(0.5, 10.0));
        assert!(budget.allows_probe(0.0, 10.0) && !budget.allows_probe(0.3, 10.0));
        passes(&mut budget, 1, 2, 12.0);
        assert!(!budget.allows(0.0, 10.0), "11.9 lost, 10 and 2 % of 20 allowed");
        assert!(!budget.allows(-5.0, 10.0), "what a pass promises pays for nothing");
        passes(&mut budget, 30, 2, 10.0);
        assert!(budget.allows(0.0, 10.0));
        // Six tokens in the time of two.
        passes(&mut budget, 1, 6, 10.0);
        assert!(budget.allows(10.0, 10.0), "nothing is lost");
    }

    #[test]
    fn savings_do_not_pay_for_drafts_that_promise_nothing() {
        let mut budget = Budget::default();
        assert!(budget.allows_probe(10.0, 10.0) && !budget.allows_probe(10.1, 10.0));
        budget.probe(9.0);
        budget.probe(-5.0);
        passes(&mut budget, 1, 6, 10.0);
        // Three tokens have taken 1.5 % of the 9; 1 % of 30 more may be lost.
        assert!(budget.allows_probe(1.3, 10.0) && !budget.allows_probe(1.5, 10.0));
        passes(&mut budget, 1000, 2, 10.0);
        assert!(budget.allows_probe(10.0, 10.0), "forgotten in time");
    }

    #[test]
    fn what_drafts_save_pays_for_reading() {
        let mut budget = Budget::default();
        assert!(budget.allows_reading(1000.0, 0.0, 10.0), "the first is free");
        budget.read(1000.0);
        assert!(!budget.allows_reading(1.0, 100.0, 10.0));
        passes(&mut budget, 1, 6, 25.0);
        // 30 s for 6 tokens without drafts.
        assert!(budget.allows_reading(4.9, 100.0, 10.0) && !budget.allows_reading(5.1, 100.0, 10.0));
        assert!(!budget.allows_reading(4.9, 4.8, 10.0), "the text ends too soon");
        budget.read(4.0);
        assert!(budget.allows_reading(0.9, 100.0, 10.0) && !budget.allows_reading(1.1, 100.0, 10.0));
        // Without a gain, one hundredth of the time since the last.
        passes(&mut budget, 9, 2, 10.0);
        assert!(budget.allows_reading(1.0, 0.0, 10.0) && !budget.allows_reading(1.1, 0.0, 10.0));
    }
}
