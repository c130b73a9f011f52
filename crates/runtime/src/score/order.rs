//! The order in which asks run: sorted by their tokens. No ask then shares a longer start with any earlier one than with
//! the one before it, so each token of a shared start belongs to the first ask that has it.

use super::Ask;
use std::ops::Range;

/// Asks as steps, each of which runs the tokens that it does not share with the step before it.
pub(super) struct Order<'a> {
    asks: &'a [Ask],
    /// By step, its ask.
    order: Vec<usize>,
    /// By step, how many tokens the model runs for it that it also runs for the step before.
    shared: Vec<usize>,
    /// By step, tokens that are run for the steps before it; then the sum of all.
    before: Vec<u64>,
}

/// A prediction that an ask waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Want {
    /// Position of the token after which it is made.
    pub(super) position: usize,
    /// The token whose likelihood is wanted.
    pub(super) target: u32,
    /// The ask.
    pub(super) ask: usize,
}

impl<'a> Order<'a> {
    /// Of those asks that score anything.
    pub(super) fn new(asks: &'a [Ask]) -> Self {
        let mut order: Vec<usize> = (0..asks.len()).filter(|&ask| asks[ask].scored() > 0).collect();
        order.sort_by(|&a, &b| asks[a].tokens.cmp(&asks[b].tokens));
        let (mut shared, mut before, mut sum) = (Vec::with_capacity(order.len()), vec![0], 0);
        let mut last: &[u32] = &[];
        for &ask in &order {
            let run = asks[ask].run();
            shared.push(common(last, run));
            sum += (run.len() - shared[shared.len() - 1]) as u64;
            before.push(sum);
            last = run;
        }
        Self { asks, order, shared, before }
    }

    /// Number of steps.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// The tokens that the model runs for a step, those that it shares included.
    pub(super) fn run(&self, step: usize) -> &'a [u32] {
        self.asks[self.order[step]].run()
    }

    /// How many of a step's first tokens belong to steps before it, which see to the predictions after them.
    pub(super) fn shared(&self, step: usize) -> usize {
        self.shared[step]
    }

    /// Tokens that belong to these steps.
    pub(super) fn work(&self, steps: Range<usize>) -> u64 {
        self.before[steps.end] - self.before[steps.start]
    }

    /// The most tokens that are run for a step.
    pub(super) fn longest(&self) -> usize {
        self.order.iter().map(|&ask| self.asks[ask].run().len()).max().unwrap_or(0)
    }

    /// Where to cut these steps in two: near the middle of the work, where little is shared across the cut.
    pub(super) fn cut(&self, steps: Range<usize>) -> usize {
        let (start, work) = (self.before[steps.start], self.work(steps.clone()));
        let step_after = |work: u64| {
            let of_steps = &self.before[steps.start..steps.end];
            (steps.start + of_steps.partition_point(|&before| before < start + work)).min(steps.end - 1)
        };
        let (first, middle, last) = (step_after(work / 4), step_after(work / 2), step_after(work - work / 4));
        (first..=last).min_by_key(|&step| (self.shared[step], step.abs_diff(middle))).unwrap_or(middle)
    }

    /// What is wanted of the predictions after these positions of a step, which belong to it: by position and target.
    pub(super) fn wants(&self, step: usize, positions: Range<usize>, wants: &mut Vec<Want>) {
        wants.clear();
        let mut common = self.run(step).len();
        for later in step..self.len() {
            if later > step {
                common = common.min(self.shared[later]);
            }
            if common <= positions.start {
                break;
            }
            let ask = self.order[later];
            let Ask { tokens, first } = &self.asks[ask];
            let scored = positions.start.max(first - 1)..positions.end.min(common);
            wants.extend(scored.map(|position| Want { position, target: tokens[position + 1], ask }));
        }
        wants.sort_unstable();
    }
}

/// Length of the common start.
pub(super) fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(tokens: &[u32], first: usize) -> Ask {
        Ask { tokens: tokens.to_vec(), first }
    }

    #[test]
    fn every_token_belongs_to_the_first_that_has_it() {
        let asks = [
            ask(&[5, 6, 7, 1], 3),
            ask(&[5, 6, 7, 2, 3], 3),
            ask(&[9], 1), // scores nothing
            ask(&[1, 1, 1, 1], 1),
            ask(&[5, 6, 7, 1], 2),
            ask(&[5, 6], 1),
        ];
        let order = Order::new(&asks);
        assert_eq!(order.order, [3, 5, 0, 4, 1]);
        assert_eq!(order.shared, [0, 0, 1, 3, 3]);
        assert_eq!((order.work(0..5), order.work(1..3), order.longest()), (3 + 1 + 2 + 1, 3, 4));
        let wants = |step, positions| {
            let mut wants = Vec::new();
            order.wants(step, positions, &mut wants);
            wants.iter().map(|want| (want.position, want.target, want.ask)).collect::<Vec<_>>()
        };
        assert_eq!(wants(0, 0..3), [(0, 1, 3), (1, 1, 3), (2, 1, 3)]);
        assert_eq!(wants(1, 0..1), [(0, 6, 5)]);
        // The prediction after 5 6 7 serves three asks, two of them with the same target.
        assert_eq!(wants(2, 1..3), [(1, 7, 4), (2, 1, 0), (2, 1, 4), (2, 2, 1)]);
        assert_eq!(wants(2, 1..2), [(1, 7, 4)]);
        assert_eq!(wants(4, 3..4), [(3, 3, 1)]);
    }

    #[test]
    fn cuts_are_in_the_middle_of_the_work_where_little_is_shared() {
        // Ten contexts of eight tokens with four continuations of two each.
        let asks: Vec<Ask> = (0..40)
            .map(|i| {
                let mut tokens = vec![3, i / 4];
                tokens.extend([7; 6]);
                tokens.extend([i % 4, 1, 2]);
                Ask { tokens, first: 8 }
            })
            .collect();
        let order = Order::new(&asks);
        assert_eq!(order.cut(0..40), 20);
        assert_eq!(order.cut(1..40), 20);
        for steps in [0..4, 1..4, 2..4, 39..40, 38..40, 3..37] {
            assert!(steps.contains(&order.cut(steps.clone())), "{steps:?}");
        }
    }
}
