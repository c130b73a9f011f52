//! Many prompts at once: each is continued or scored as if it were alone.
//!
//! An [`Engine`] owns a context of the model and a thread that runs it. Anybody may [submit](Engine::submit) a [`Job`];
//! what comes of it goes to the job's sink as [`Event`]s. Jobs wait in the order in which they came until a sequence is
//! free. Each pass of the model takes one token of every job that generates, and prompts share the rest of the batch.
//!
//! The tokens of a job that ended stay in their sequence until another needs it. A job whose prompt begins alike takes
//! over what is there, and jobs that come together compute what they share once. No bit of any answer depends on that,
//! or on the other jobs.

mod choice;
mod events;
mod running;
mod score;
mod status;
mod turn;
mod worker;

pub use events::{Event, Outcome};
pub use score::{TokenScore, largest};
pub use status::{Counters, SlotState, SlotStatus, Status};
pub use turn::{Mine, Turn};

use crate::{Error, GenerateOptions, Tokenizer};
use pythia_model::{BATCH_TOKENS, ContextShape, Model};
use pythia_task::Cancel;
use std::collections::VecDeque;
use std::fmt;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The most likeliest tokens that a job may ask for at every position.
pub const MAX_LOGPROBS: usize = 100;

/// Sizes of an engine.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Jobs that run at the same time, each in a sequence of its own.
    pub n_seq: usize,
    /// Positions of a sequence, at most one more than the model was trained for: a prompt of that length can be scored
    /// as a whole and a token chosen after it.
    pub n_ctx: usize,
    /// Jobs that may wait while all sequences are taken.
    pub max_queue: usize,
    /// Shared by engines of several models on one machine, so that they run one at a time.
    pub turn: Option<Arc<Turn>>,
}

/// What is asked of an engine.
#[derive(Clone, Debug)]
pub struct Job {
    /// Token ids, at least one.
    pub prompt: Vec<u32>,
    /// Whether every token of the prompt but the first is scored.
    pub score_prompt: bool,
    /// Whether tokens that are chosen are scored, and how many of the likeliest tokens are told beside each scored
    /// token, at most [`MAX_LOGPROBS`].
    pub logprobs: Option<usize>,
    /// How the prompt is continued. With at most 0 new tokens it is only scored.
    pub options: GenerateOptions,
    /// Ends the job before the next pass once it is raised, also while the job waits.
    pub cancel: Cancel,
}

/// Names a job of an engine: jobs that were submitted later have larger numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// Receives the events of a job, on the engine's thread: it must not block. `Break` cancels the job; no event follows.
pub type Sink = Box<dyn FnMut(Event) -> ControlFlow<()> + Send>;

/// Why a job was not taken.
#[derive(Debug)]
pub enum Refused {
    /// The job cannot be done.
    Invalid(Error),
    /// All sequences are taken and the queue is full.
    Busy {
        /// Jobs that wait.
        queued: usize,
    },
    /// The engine takes no new jobs.
    Stopping,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(error) => write!(f, "{error}"),
            Self::Busy { queued } => write!(f, "{queued} requests are waiting already, try again later"),
            Self::Stopping => f.write_str("no new requests are taken, the engine is stopping"),
        }
    }
}

impl std::error::Error for Refused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Invalid(error) => Some(error),
            Self::Busy { .. } | Self::Stopping => None,
        }
    }
}

/// A handle to a running engine; clones are handles to the same. When the last is dropped, all jobs end.
#[derive(Clone, Debug)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    model: Arc<Model>,
    tokenizer: Arc<Tokenizer>,
    options: EngineOptions,
    thread: Option<JoinHandle<()>>,
}

/// What callers and the engine's thread share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Work has come, or the engine must end.
    wake: Condvar,
    /// The last job has ended.
    idle: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Jobs that the engine's thread has not seen yet.
    inbox: VecDeque<Submitted>,
    /// Jobs that wait or run: they take a place.
    jobs: usize,
    /// Jobs that have not had their last event.
    open: usize,
    next_id: u64,
    /// No new jobs.
    stopping: bool,
    /// All jobs end before the next pass.
    interrupted: bool,
    /// The thread ends.
    closed: bool,
    status: Status,
}

/// A job on its way.
struct Submitted {
    id: JobId,
    job: Job,
    sink: Sink,
    at: Instant,
}

impl fmt::Debug for Submitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submitted").field("id", &self.id).field("job", &self.job).finish_non_exhaustive()
    }
}

impl Shared {
    /// No caller leaves the state half changed, so a panic elsewhere is no reason to refuse it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread ends: no job is taken, and none is left.
    fn close(&self) {
        let mut state = self.state();
        (state.stopping, state.jobs, state.open) = (true, 0, 0);
        let inbox = std::mem::take(&mut state.inbox);
        self.idle.notify_all();
        drop(state);
        drop(inbox); // sinks are foreign code
    }

    /// A job leaves: who hears of its end may submit the next one at once.
    fn leaves(&self) {
        self.state().jobs -= 1;
    }

    /// A job has had its last event.
    fn ended(&self) {
        let mut state = self.state();
        state.open -= 1;
        if state.open == 0 {
            self.idle.notify_all();
        }
    }
}

impl Engine {
    /// Allocates a context and starts the thread.
    ///
    /// # Errors
    /// If a size is 0 or too large for the model or the memory, or the system refuses a thread.
    pub fn start(model: Arc<Model>, tokenizer: Arc<Tokenizer>, options: EngineOptions) -> Result<Self, Error> {
        let most = model.hparams().n_ctx + 1;
        if options.n_ctx > most {
            let problem = format!("found {}, wanted at most {most}", options.n_ctx);
            return Err(Error::Setting { name: "context size", problem });
        }
        let EngineOptions { n_seq, n_ctx, .. } = options;
        let n_batch = BATCH_TOKENS.min(n_seq.saturating_mul(n_ctx));
        let shape = ContextShape { n_seq, n_ctx, n_batch };
        let context = model.context(shape)?;
        let status = Status::new(n_seq, n_ctx);
        let state = Mutex::new(State { status, ..State::default() });
        let shared = Arc::new(Shared { state, wake: Condvar::new(), idle: Condvar::new() });
        let worker =
            worker::Worker::new(Arc::clone(&shared), context, shape, Arc::clone(&tokenizer), options.turn.clone());
        let builder = thread::Builder::new().name("pythia-engine".to_owned());
        let of_thread = Arc::clone(&shared);
        let run = move || {
            // Jobs are shielded from each other's panics inside. Should one get here, nobody may wait for ever.
            let _ = catch_unwind(AssertUnwindSafe(|| worker.run()));
            of_thread.close();
        };
        let thread = builder.spawn(run).map_err(|e| Error::Engine(format!("no thread: {e}")))?;
        Ok(Self(Arc::new(Inner { shared, model, tokenizer, options, thread: Some(thread) })))
    }

    /// Takes a job. Its events go to `sink`, from the engine's thread; the last is [`Event::Done`] or
    /// [`Event::Failed`], unless the sink broke off before.
    ///
    /// # Errors
    /// If the job cannot be done, the queue is full, or the engine is stopping.
    pub fn submit(&self, job: Job, sink: Sink) -> Result<JobId, Refused> {
        self.check(&job).map_err(Refused::Invalid)?;
        let EngineOptions { n_seq, max_queue, .. } = self.0.options;
        let mut state = self.0.shared.state();
        if state.stopping {
            return Err(Refused::Stopping);
        }
        if state.jobs >= n_seq.saturating_add(max_queue) {
            return Err(Refused::Busy { queued: state.jobs - n_seq });
        }
        let id = JobId(state.next_id);
        state.next_id += 1;
        state.jobs += 1;
        state.open += 1;
        state.inbox.push_back(Submitted { id, job, sink, at: Instant::now() });
        self.0.shared.wake.notify_one();
        Ok(id)
    }

    /// Whether a job can be done, as [`submit`](Self::submit) decides.
    ///
    /// # Errors
    /// If it cannot: the prompt is empty, does not fit the context or has a token that the model does not have, or a
    /// setting is out of range.
    pub fn check(&self, job: &Job) -> Result<(), Error> {
        let Inner { model, tokenizer, options, .. } = &*self.0;
        job.options.check(&job.prompt, options.n_ctx, model.hparams().n_vocab, tokenizer.n_tokens())?;
        let most = MAX_LOGPROBS.min(model.hparams().n_vocab);
        match job.logprobs {
            Some(k) if k > most => {
                Err(Error::Setting { name: "logprobs", problem: format!("found {k}, wanted at most {most}") })
            }
            _ => Ok(()),
        }
    }

    /// What the engine does now, as of the last pass.
    pub fn status(&self) -> Status {
        let state = self.0.shared.state();
        let mut status = state.status.clone();
        status.queued += state.inbox.len();
        status
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.0.model
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.0.tokenizer
    }

    /// The sizes that it was started with.
    pub fn options(&self) -> &EngineOptions {
        &self.0.options
    }

    /// From now on no job is taken. Those that were taken go on.
    pub fn stop(&self) {
        self.0.shared.state().stopping = true;
    }

    /// Waits until there are no jobs. If there are some after `timeout`, [stops](Self::stop), ends them with
    /// [`Finish::Interrupted`](crate::Finish::Interrupted) and waits for that: at most for the pass that runs. Returns
    /// whether all jobs ended by themselves. Not to be called by a sink.
    pub fn wait_idle(&self, timeout: Duration) -> bool {
        let shared = &*self.0.shared;
        let busy = |state: &mut State| state.open > 0;
        let waited = shared.idle.wait_timeout_while(shared.state(), timeout, busy);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.open == 0 {
            return true;
        }
        (state.stopping, state.interrupted) = (true, true);
        shared.wake.notify_one();
        drop(shared.idle.wait_while(state, busy).unwrap_or_else(PoisonError::into_inner));
        false
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        {
            let mut state = self.shared.state();
            (state.stopping, state.interrupted, state.closed) = (true, true, true);
        }
        self.shared.wake.notify_one();
        // A sink may hold the last handle: then this is the thread itself, which ends when it returns.
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != thread::current().id()) {
            // Panics of jobs are caught there, so that there is nothing to report here.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
