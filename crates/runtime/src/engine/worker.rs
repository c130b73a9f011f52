//! The engine's thread: which jobs run, one pass after another.

use super::choice::{Choice, Seen, choose};
use super::running::{Cached, Outlet, Running, wanted};
use super::score;
use super::{Counters, Event, Outcome, Shared, SlotStatus, State, Submitted, Turn};
use crate::{Error, Finish, Generator, Scheduler, Timings, Tokenizer};
use pythia_model::{Context, ContextShape};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

/// Tokens of prompts in a pass while other jobs generate, so that these need not wait long for their next token.
const PROMPT_TOKENS_BESIDE: usize = 128;

/// Runs jobs.
pub(super) struct Worker {
    shared: Arc<Shared>,
    context: Context,
    shape: ContextShape,
    tokenizer: Arc<Tokenizer>,
    turn: Option<Arc<Turn>>,
    scheduler: Scheduler,
    slots: Vec<Slot>,
    waiting: VecDeque<Submitted>,
    tile: Vec<f32>,
    counters: Counters,
    /// Nobody knows what the context holds: there was a panic.
    is_broken: bool,
    /// How many jobs have ended: the clock of [`Slot::used`].
    ended: u64,
}

/// A sequence of the context.
struct Slot {
    held: Held,
    used: u64,
}

enum Held {
    Cached(Cached),
    Running(Box<Running>),
    /// While it changes, and after the device failed.
    Nothing,
}

impl Slot {
    fn running(&mut self) -> Option<&mut Running> {
        match &mut self.held {
            Held::Running(running) => Some(running),
            _ => None,
        }
    }

    fn seen(&self) -> Seen<'_> {
        let used = self.used;
        match &self.held {
            Held::Cached(cached) => Seen { tokens: &cached.tokens, scores: &cached.scores, runs: None, used },
            Held::Running(running) => {
                let (tokens, scores) = (running.generator.seen(), running.scores());
                Seen { tokens, scores, runs: Some(running.wanted()), used }
            }
            Held::Nothing => Seen { tokens: &[], scores: &[], runs: None, used },
        }
    }
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        context: Context,
        shape: ContextShape,
        tokenizer: Arc<Tokenizer>,
        turn: Option<Arc<Turn>>,
    ) -> Self {
        let slots = (0..shape.n_seq).map(|_| Slot { held: Held::Nothing, used: 0 }).collect();
        Self {
            shared,
            context,
            shape,
            tokenizer,
            turn,
            scheduler: Scheduler::new(),
            slots,
            waiting: VecDeque::new(),
            tile: Vec::new(),
            counters: Counters::default(),
            is_broken: false,
            ended: 0,
        }
    }

    pub(super) fn run(mut self) {
        while let Some(interrupted) = self.receive() {
            self.sweep(interrupted);
            if self.is_broken && !self.waiting.is_empty() {
                self.renew();
            }
            self.admit();
            self.publish();
            if self.slots.iter_mut().any(|slot| slot.running().is_some()) {
                let start = Instant::now();
                let mine = self.turn.clone();
                let mine = mine.as_deref().map(Turn::take);
                match catch_unwind(AssertUnwindSafe(|| self.pass())) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => self.fail_all(&error.to_string(), false),
                    Err(_) => self.fail_all("a pass of the model panicked", true),
                }
                drop(mine);
                self.counters.busy += start.elapsed();
            }
        }
    }

    /// Takes what was submitted; sleeps while there is nothing to do. Returns whether all jobs must end, and `None` when
    /// the thread must.
    fn receive(&mut self) -> Option<bool> {
        let has_work = !self.waiting.is_empty() || self.slots.iter_mut().any(|slot| slot.running().is_some());
        let nothing = |state: &mut State| !has_work && state.inbox.is_empty() && !state.closed;
        let state = self.shared.wake.wait_while(self.shared.state(), nothing);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        self.waiting.append(&mut state.inbox);
        let done = state.closed && !has_work && self.waiting.is_empty();
        (!done).then_some(state.interrupted)
    }

    /// Lets jobs go that have ended, and those that nobody wants any more: all of them if `interrupted`.
    fn sweep(&mut self, interrupted: bool) {
        for i in 0..self.slots.len() {
            let leaves = |running: &mut Running| interrupted || running.has_ended() || running.is_cancelled();
            if !self.slots[i].running().is_some_and(leaves) {
                continue;
            }
            let Held::Running(running) = std::mem::replace(&mut self.slots[i].held, Held::Nothing) else { continue };
            self.shared.leaves();
            let drafts = running.generator.draft_stats();
            self.counters.tokens_drafted += drafts.drafted as u64;
            self.counters.tokens_accepted += drafts.accepted as u64;
            let (cached, cut) = running.finish();
            self.ended += 1;
            self.slots[i] = Slot { held: Held::Cached(cached), used: self.ended };
            self.count_end(cut);
        }
        let (leave, stay) =
            std::mem::take(&mut self.waiting).into_iter().partition(|w| interrupted || w.job.cancel.is_raised());
        self.waiting = stay;
        let leave: VecDeque<Submitted> = leave;
        for Submitted { job, sink, at, .. } in leave {
            let timings = Timings { prompt_tokens: job.prompt.len(), ..Timings::default() };
            let (finish, text) = (Finish::Interrupted, String::new());
            self.shared.leaves();
            Outlet::new(sink).send(Event::Done(Outcome {
                finish,
                text,
                reused_tokens: 0,
                queued: at.elapsed(),
                timings,
            }));
            self.count_end(true);
        }
    }

    fn count_end(&mut self, cut: bool) {
        let count = if cut { &mut self.counters.jobs_cancelled } else { &mut self.counters.jobs_done };
        *count += 1;
        self.publish();
        self.shared.ended();
    }

    /// Gives sequences to jobs, in the order in which they came. One that waits for another to compute what both share
    /// has a right to a sequence: those behind it get one only if one more is free.
    fn admit(&mut self) {
        let mut free = self.slots.iter_mut().filter_map(|slot| slot.running().is_none().then_some(())).count();
        let mut kept = VecDeque::new();
        while let Some(submitted) = self.waiting.pop_front() {
            if free == 0 || self.is_broken {
                kept.push_back(submitted);
                break;
            }
            let slots: Vec<Seen<'_>> = self.slots.iter().map(Slot::seen).collect();
            let choice = choose(wanted(submitted.id, &submitted.job), &slots);
            free -= 1;
            match choice {
                Choice::Take { slot, keep } => free += usize::from(!self.start(submitted, slot, slot, keep)),
                Choice::Fork { from, to, keep } => free += usize::from(!self.start(submitted, from, to, keep)),
                Choice::Wait | Choice::Full => kept.push_back(submitted),
            }
        }
        kept.append(&mut self.waiting);
        self.waiting = kept;
    }

    /// Starts a job in slot `to` with the first `keep` tokens of slot `from`. Returns whether it runs.
    fn start(&mut self, submitted: Submitted, from: usize, to: usize, keep: usize) -> bool {
        let Submitted { id, job, sink, at } = submitted;
        let mut outlet = Outlet::new(sink);
        let generator = catch_unwind(AssertUnwindSafe(|| {
            let Cached { sequence, scores, .. } = self.cached(from, to, keep)?;
            Ok((Generator::start(&self.context, sequence, &self.tokenizer, &job.prompt, &job.options)?, scores))
        }));
        let has_panicked = generator.is_err();
        let problem = "the start of a text panicked";
        let (generator, scores) = match generator.unwrap_or_else(|_| Err(Error::Engine(problem.to_owned()))) {
            Ok(found) => found,
            Err(error) => {
                self.shared.leaves();
                outlet.send(Event::Failed(error));
                self.count_failure();
                if has_panicked {
                    self.fail_all(problem, true);
                }
                return false;
            }
        };
        self.counters.tokens_reused += keep as u64;
        self.counters.tokens_prompt += job.prompt.len() as u64;
        let running = Running::new(generator, scores, (id, job, outlet), at.elapsed());
        self.slots[to].held = Held::Running(Box::new(running));
        true
    }

    /// A sequence in the place of what slot `to` holds, with the first `keep` tokens of slot `from`.
    fn cached(&mut self, from: usize, to: usize, keep: usize) -> Result<Cached, Error> {
        let held = std::mem::replace(&mut self.slots[to].held, Held::Nothing);
        if from == to {
            let mut cached = match held {
                Held::Cached(cached) => cached,
                _ => Cached::new(self.context.sequence()?),
            };
            cached.truncate(keep);
            return Ok(cached);
        }
        // Its place in the cache is the one that the fork takes.
        drop(held);
        let Held::Running(other) = &self.slots[from].held else {
            return Err(Error::Engine("a fork of nothing".to_owned()));
        };
        let tokens = other.generator.seen()[..keep].to_vec();
        let scores = other.scores().iter().take(keep).cloned().collect();
        let sequence = self.context.fork(other.generator.sequence(), keep)?;
        Ok(Cached { sequence, tokens, scores })
    }

    /// One pass over all jobs, their scores, and the choices that are ready.
    fn pass(&mut self) -> Result<(), Error> {
        let Self { context, scheduler, slots, tile, counters, .. } = self;
        let mut running: Vec<&mut Running> = slots.iter_mut().filter_map(Slot::running).collect();
        let generating = running.iter().filter(|running| !running.generator.ids().is_empty()).count();
        let limit = if generating > 0 { generating + PROMPT_TOKENS_BESIDE } else { usize::MAX };
        let mut generators: Vec<&mut Generator> = running.iter_mut().map(|running| &mut running.generator).collect();
        scheduler.forward(context, &mut generators, limit)?;
        let shares = scheduler.shares().to_vec();
        counters.passes += 1;
        counters.tokens_run += shares.iter().sum::<usize>() as u64;

        let mut first = 0;
        let mut asked = Vec::new();
        let mut ends = Vec::new();
        for (running, &share) in running.iter().zip(&shares) {
            asked.extend(running.asked(first, share));
            ends.push(asked.len());
            first += share;
        }
        let mut scores = score::rows(context, &asked, tile)?.into_iter();
        let mut taken = 0;
        for ((running, &share), end) in running.iter_mut().zip(&shares).zip(ends) {
            running.pass_done();
            running.prompt_scored(share, scores.by_ref().take(end - taken).collect());
            taken = end;
        }

        let tops: Vec<Option<usize>> = running.iter().map(|running| running.top_of_choice()).collect();
        // One token each, and more for those that have a draft with the right ones.
        while scheduler.has_choices() {
            let before: Vec<usize> = running.iter().map(|running| running.generator.ids().len()).collect();
            let mut generators: Vec<&mut Generator> =
                running.iter_mut().map(|running| &mut running.generator).collect();
            let chosen = scheduler.choose_scored(context, &mut generators, |i| tops[i])?;
            let mut scores = vec![None; running.len()];
            chosen.into_iter().for_each(|(i, score)| scores[i] = Some(score));
            for ((running, before), score) in running.iter_mut().zip(before).zip(scores) {
                if running.generator.ids().len() > before {
                    running.chosen(score);
                    counters.tokens_generated += 1;
                }
            }
        }
        Ok(())
    }

    /// Ends all running jobs after a failure.
    fn fail_all(&mut self, problem: &str, panicked: bool) {
        for i in 0..self.slots.len() {
            if let Held::Running(running) = std::mem::replace(&mut self.slots[i].held, Held::Nothing) {
                self.shared.leaves();
                running.fail(problem);
                self.count_failure();
            }
        }
        self.is_broken |= panicked;
    }

    /// Makes a new context. If that fails, so do the jobs that wait; the next one tries again.
    fn renew(&mut self) {
        self.scheduler = Scheduler::new();
        let model = self.context.model().clone();
        // There may be no memory for two, so a small one takes the place of the old one first.
        let context = catch_unwind(AssertUnwindSafe(|| {
            self.context = model.context(ContextShape { n_seq: 1, n_ctx: 1, n_batch: 1 })?;
            model.context(self.shape)
        }));
        match context.unwrap_or_else(|_| Err(pythia_model::Error::Device("it panicked".to_owned()))) {
            Ok(context) => (self.context, self.is_broken) = (context, false),
            Err(error) => {
                let problem = format!("no new context after a panic: {error}");
                for Submitted { sink, .. } in std::mem::take(&mut self.waiting) {
                    self.shared.leaves();
                    Outlet::new(sink).send(Event::Failed(Error::Engine(problem.clone())));
                    self.count_failure();
                }
            }
        }
    }

    fn count_failure(&mut self) {
        self.counters.jobs_failed += 1;
        self.publish();
        self.shared.ended();
    }

    fn publish(&mut self) {
        let mut state = self.shared.state();
        let status = &mut state.status;
        (status.queued, status.counters) = (self.waiting.len(), self.counters);
        for (status, slot) in status.slots.iter_mut().zip(&self.slots) {
            *status = match &slot.held {
                Held::Running(running) => running.status(),
                Held::Cached(cached) => SlotStatus { cached_tokens: cached.tokens.len(), ..SlotStatus::default() },
                Held::Nothing => SlotStatus::default(),
            };
        }
    }
}
