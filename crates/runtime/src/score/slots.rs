//! Sequences that work through the steps side by side, so that each pass has a full batch.

use super::order::{Order, common};
use crate::Error;
use pythia_model::{Context, Sequence, Span};
use std::ops::Range;

/// Tokens that a sequence rather runs again than waits for until another has run them.
pub(super) const FEW_TOKENS: usize = 16;

/// Tokens that are copied in the time that one is run, at least.
const COPIED_PER_RUN: usize = 8;

/// Whether to copy so many tokens of another sequence, where this one has `own` of them.
pub(super) fn pays_to_copy(copy: usize, own: usize) -> bool {
    copy.saturating_sub(own) * COPIED_PER_RUN > copy
}

/// A sequence, and the steps that it has taken on.
struct Slot {
    sequence: Sequence,
    /// The step whose first tokens the sequence holds.
    held: usize,
    /// The step that runs, and those after it; empty if the slot is idle.
    steps: Range<usize>,
}

impl Slot {
    /// What the sequence holds.
    fn tokens<'a>(&self, order: &Order<'a>) -> &'a [u32] {
        &order.run(self.held)[..self.sequence.len()]
    }

    /// Tokens that its step still has to run.
    fn pending<'a>(&self, order: &Order<'a>) -> &'a [u32] {
        if self.steps.is_empty() { &[] } else { &order.run(self.steps.start)[self.sequence.len()..] }
    }

    /// Keeps what the step that is next shares with what is there.
    fn begin(&mut self, order: &Order<'_>) {
        let step = self.steps.start;
        // What belongs to this step must run: predictions after it are wanted.
        self.sequence.truncate(common(self.tokens(order), order.run(step)).min(order.shared(step)));
        self.held = step;
    }
}

/// A part of a step in a pass.
pub(super) struct Part {
    pub(super) step: usize,
    /// Positions of its tokens.
    pub(super) positions: Range<usize>,
}

/// All slots of a context.
pub(super) struct Slots<'o, 'a> {
    order: &'o Order<'a>,
    slots: Vec<Slot>,
    /// The first slot that gets tokens in the next pass.
    first: usize,
    /// Tokens that were copied from one slot to another.
    pub(super) copied: u64,
}

impl<'o, 'a> Slots<'o, 'a> {
    /// `n` slots; if there are several, the context has room for one sequence more. The first has all steps.
    pub(super) fn new(context: &Context, order: &'o Order<'a>, n: usize) -> Result<Self, Error> {
        let slot =
            |i| Ok(Slot { sequence: context.sequence()?, held: 0, steps: if i == 0 { 0..order.len() } else { 0..0 } });
        Ok(Self { order, slots: (0..n).map(slot).collect::<Result<_, Error>>()?, first: 0, copied: 0 })
    }

    /// Runs a pass, of which these are the parts, in the order of the batch. None if all is done.
    pub(super) fn pass(&mut self, context: &mut Context) -> Result<Vec<Part>, Error> {
        for idle in 0..self.slots.len() {
            if self.slots[idle].steps.is_empty() {
                self.take_over(context, idle)?;
            }
        }
        let shares = self.shares(context.n_batch());
        let (mut spans, mut parts) = (Vec::new(), Vec::new());
        for (slot, share) in self.slots.iter_mut().zip(shares).filter(|&(_, share)| share > 0) {
            let (start, step) = (slot.sequence.len(), slot.steps.start);
            parts.push(Part { step, positions: start..start + share });
            let tokens = &slot.pending(self.order)[..share];
            spans.push(Span { sequence: &mut slot.sequence, tokens });
        }
        if !spans.is_empty() {
            context.forward(&mut spans)?;
        }
        self.slots.iter_mut().for_each(|slot| advance(slot, self.order));
        Ok(parts)
    }

    /// How many tokens of each slot are in the next pass.
    fn shares(&mut self, mut left: usize) -> Vec<usize> {
        let n = self.slots.len();
        let mut shares = vec![0; n];
        for i in (self.first..self.first + n).map(|i| i % n) {
            shares[i] = self.slots[i].pending(self.order).len().min(left);
            left -= shares[i];
            if left == 0 {
                // The step that was cut goes on first.
                self.first = i;
                break;
            }
        }
        shares
    }

    /// Gives an idle slot the second half of what another has before it, if that does not mean to run a long start
    /// again that another slot is about to have.
    fn take_over(&mut self, context: &mut Context, idle: usize) -> Result<(), Error> {
        let order = self.order;
        let rest = |slot: &Slot| (slot.steps.start + 1).min(slot.steps.end)..slot.steps.end;
        let mut busy: Vec<usize> = (0..self.slots.len()).filter(|&i| order.work(rest(&self.slots[i])) > 0).collect();
        busy.sort_by_key(|&i| std::cmp::Reverse(order.work(rest(&self.slots[i]))));
        for from in busy {
            let cut = order.cut(rest(&self.slots[from]));
            let (run, shared) = (order.run(cut), order.shared(cut));
            let start_in = |tokens: &[u32]| common(tokens, run).min(shared);
            let held = |slot: &Slot| start_in(slot.tokens(order));
            let donor = (0..self.slots.len()).max_by_key(|&i| held(&self.slots[i])).unwrap_or(idle);
            let (own, copy) = (held(&self.slots[idle]), held(&self.slots[donor]));
            let soon = self.slots.iter().filter(|slot| !slot.steps.is_empty());
            let soon = soon.map(|slot| start_in(order.run(slot.steps.start))).max().unwrap_or(0);
            if soon > copy + FEW_TOKENS {
                continue;
            }
            if pays_to_copy(copy, own) {
                self.slots[idle].sequence = context.fork(&self.slots[donor].sequence, copy)?;
                self.slots[idle].held = self.slots[donor].held;
                self.copied += copy as u64;
            }
            self.slots[idle].steps = cut..self.slots[from].steps.end;
            self.slots[from].steps.end = cut;
            self.slots[idle].begin(order);
            break;
        }
        Ok(())
    }
}

/// Goes on to the next step that has anything to run.
fn advance(slot: &mut Slot, order: &Order<'_>) {
    while !slot.steps.is_empty() && slot.pending(order).is_empty() {
        slot.steps.start += 1;
        if !slot.steps.is_empty() {
            slot.begin(order);
        }
    }
}
