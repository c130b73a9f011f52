//! What an engine does, in numbers.

use super::JobId;
use std::time::Duration;

/// What an engine does at some moment.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Its sequences.
    pub slots: Vec<SlotStatus>,
    /// Positions of each.
    pub n_ctx: usize,
    /// Jobs that wait.
    pub queued: usize,
    /// What it did since it was started.
    pub counters: Counters,
}

/// What a sequence is used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlotState {
    /// No job runs in it. It may hold tokens of earlier jobs.
    #[default]
    Idle,
    /// A job processes its prompt.
    Prompt,
    /// A job generates.
    Generating,
}

impl SlotState {
    /// One word: `idle`, `prompt` or `generating`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Prompt => "prompt",
            Self::Generating => "generating",
        }
    }
}

/// A sequence of an engine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SlotStatus {
    /// What it is used for.
    pub state: SlotState,
    /// The job that runs in it.
    pub job: Option<JobId>,
    /// Tokens whose keys and values it holds.
    pub cached_tokens: usize,
    /// Tokens of the job's prompt.
    pub prompt_tokens: usize,
    /// Tokens that the job has generated.
    pub generated_tokens: usize,
}

/// Totals since an engine was started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Tokens that went through the model.
    pub tokens_run: u64,
    /// Tokens of prompts that did not have to.
    pub tokens_reused: u64,
    /// Tokens of prompts, of jobs that were started.
    pub tokens_prompt: u64,
    /// Tokens that were chosen.
    pub tokens_generated: u64,
    /// Tokens that were drafted and checked, of jobs that have ended.
    pub tokens_drafted: u64,
    /// Those of them that the texts have.
    pub tokens_accepted: u64,
    /// Jobs that ended by themselves.
    pub jobs_done: u64,
    /// Jobs that were cancelled or interrupted.
    pub jobs_cancelled: u64,
    /// Jobs that failed.
    pub jobs_failed: u64,
    /// Passes of the model.
    pub passes: u64,
    /// Time in passes and in the choices after them.
    pub busy: Duration,
}

impl Status {
    pub(super) fn new(n_seq: usize, n_ctx: usize) -> Self {
        Self { slots: vec![SlotStatus::default(); n_seq], n_ctx, ..Self::default() }
    }
}
