//! The jobs of a request, and what comes of each.

use super::request::Request;
use crate::app::{App, Served};
use crate::logprobs::{Entry, Offsets};
use crate::refusal::Refusal;
use pythia_runtime::Finish;
use pythia_runtime::draft::Drafting;
use pythia_runtime::engine::{Event, Job, Outcome};
use pythia_task::Cancel;
use serde::Serialize;

/// What will be computed: a job per prompt and candidate.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) request: Request,
    /// Index of the model.
    pub(crate) model: usize,
    /// Token ids of each prompt.
    pub(crate) prompts: Vec<Vec<u32>>,
    pub(crate) cancel: Cancel,
    draft: Option<Drafting>,
}

impl Plan {
    /// Tokenizes and checks the prompts and the settings.
    pub(crate) fn new(app: &App, request: Request) -> Result<Self, Refusal> {
        let model = app.model(request.model.as_deref())?;
        let served = &app.models[model];
        let (n_vocab, n_ctx) = (served.model().hparams().n_vocab, served.n_ctx());
        let encode = |prompt: &crate::prompt::Prompt| prompt.encode(&app.tokenizer, n_vocab, n_ctx);
        let prompts = request.prompts.iter().map(encode).collect::<Result<_, _>>()?;
        let plan = Self { request, model, prompts, cancel: Cancel::new(), draft: served.draft.clone() };
        // Prompts were checked as they were encoded; the settings are those of all jobs.
        served.engine.check(&plan.job(0))?;
        Ok(plan)
    }

    /// Number of jobs. Those of one prompt follow each other.
    pub(crate) fn n_jobs(&self) -> usize {
        self.prompts.len() * self.request.best_of
    }

    /// A job. Its seed depends on its place among the candidates of its prompt, and not on other prompts.
    pub(crate) fn job(&self, job: usize) -> Job {
        let Request { echo, logprobs, best_of, n, .. } = self.request;
        let mut options = self.request.options.clone();
        options.sampling.seed = options.sampling.seed.wrapping_add((job % best_of) as u64);
        options.draft.clone_from(&self.draft);
        Job {
            prompt: self.prompts[job / best_of].clone(),
            score_prompt: echo && logprobs.is_some(),
            // The best candidates are found by their log-likelihoods.
            logprobs: logprobs.or((best_of > n).then_some(0)),
            options,
            cancel: self.cancel.clone(),
        }
    }

    /// An upper bound of the memory that answers take, in bytes.
    pub(crate) fn memory(&self, served: &Served) -> usize {
        /// Of a token with its log-likelihood, in both shapes of the reply and before.
        const ENTRY: usize = 200;
        let Request { echo, logprobs, best_of, .. } = self.request;
        let new = self.request.options.max_new_tokens.unwrap_or(usize::MAX);
        let of_token = logprobs.map_or(16, |top| ENTRY * (top + 2));
        let tokens = self.prompts.iter().map(|prompt| {
            let new = new.min(served.n_ctx() + 1 - prompt.len());
            new + if echo { prompt.len() } else { 0 }
        });
        (tokens.sum::<usize>() * best_of).saturating_mul(of_token)
    }
}

/// What a job has said so far.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Prompt, if it is echoed, and tokens that were chosen; none if log-likelihoods were not asked for.
    pub(crate) entries: Vec<Entry>,
    offsets: Offsets,
    /// The prompt, if it is echoed, and the text after it.
    pub(crate) text: String,
    pub(crate) finish_reason: Option<&'static str>,
    n_generated: usize,
    /// Sum over the tokens that were chosen.
    log_likelihood: f64,
    reused_tokens: usize,
    wants_entries: bool,
}

impl Answer {
    /// Before the job has said anything.
    pub(crate) fn new(app: &App, plan: &Plan, job: usize) -> Self {
        let prompt = &plan.prompts[job / plan.request.best_of];
        let mut answer = Self {
            entries: Vec::new(),
            offsets: Offsets::default(),
            text: String::new(),
            finish_reason: None,
            n_generated: 0,
            log_likelihood: 0.0,
            reused_tokens: 0,
            wants_entries: plan.request.logprobs.is_some(),
        };
        if plan.request.echo {
            answer.text = app.tokenizer.decode(prompt, false);
            if answer.wants_entries {
                answer.entries.push(Entry::first(prompt[0], &app.names, &mut answer.offsets));
            }
        } else if answer.wants_entries {
            // Offsets count from the start of the prompt, which the client has.
            for &id in prompt {
                answer.offsets.next(app.names.bytes(id));
            }
        }
        answer
    }

    /// Takes over an event; true after the last one.
    ///
    /// # Errors
    /// If the job failed, or was cut off.
    pub(crate) fn take(&mut self, app: &App, served: &Served, event: Event) -> Result<bool, Refusal> {
        match event {
            Event::Prompt(scores) => {
                let scored = scores.into_iter().map(|score| Entry::scored(score, &app.names, &mut self.offsets));
                self.entries.extend(scored);
            }
            Event::Token { score, text, .. } => {
                self.n_generated += 1;
                self.text.push_str(&text);
                if let Some(score) = score {
                    self.log_likelihood += score.log_likelihood;
                    if self.wants_entries {
                        self.entries.push(Entry::scored(score, &app.names, &mut self.offsets));
                    }
                }
            }
            Event::Done(outcome) => return self.done(served, &outcome).map(|()| true),
            Event::Failed(error) => return Err(error.into()),
        }
        Ok(false)
    }

    fn done(&mut self, served: &Served, outcome: &Outcome) -> Result<(), Refusal> {
        self.text.push_str(&outcome.text);
        self.reused_tokens = outcome.reused_tokens;
        let tokens = outcome.timings.prompt_tokens + self.n_generated;
        served.longest.fetch_max(tokens, std::sync::atomic::Ordering::Relaxed);
        self.finish_reason = Some(match outcome.finish {
            Finish::EndOfText | Finish::Stop(_) => "stop",
            Finish::Length | Finish::ContextFull => "length",
            Finish::Interrupted => return Err(Refusal::stopping()),
            Finish::NotFinite { position } => {
                return Err(Refusal::internal(format_args!(
                    "no logit after {position} tokens is finite: the weights are damaged or overflow"
                )));
            }
        });
        Ok(())
    }

    /// Tokens that were chosen.
    pub(crate) fn n_generated(&self) -> usize {
        self.n_generated
    }

    /// Forgets text and entries that were sent.
    pub(crate) fn forget(&mut self) {
        self.entries.clear();
        self.text.clear();
    }

    /// Mean log-likelihood of the tokens that were chosen; the best candidate has the highest.
    pub(crate) fn quality(&self) -> f64 {
        match self.n_generated {
            0 => 0.0,
            n => self.log_likelihood / n as f64,
        }
    }
}

/// The field `usage`.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Usage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
    prompt_tokens_details: Details,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Details {
    cached_tokens: usize,
}

impl Usage {
    /// Of all answers, in the order of the jobs. A prompt counts once, whatever the number of candidates.
    pub(crate) fn of<'a>(plan: &Plan, answers: impl Iterator<Item = &'a Answer>) -> Self {
        let mut usage = Self::default();
        for (job, answer) in answers.enumerate() {
            if job % plan.request.best_of == 0 {
                usage.prompt_tokens += plan.prompts[job / plan.request.best_of].len();
                usage.prompt_tokens_details.cached_tokens += answer.reused_tokens;
            }
            usage.completion_tokens += answer.n_generated;
        }
        usage.total_tokens = usage.prompt_tokens + usage.completion_tokens;
        usage
    }
}

/// Jobs of one request that are submitted at the same time. The next follows when one ends, so that requests with many
/// prompts leave sequences to others.
pub(crate) fn window(served: &Served) -> usize {
    WINDOW * served.engine.options().n_seq
}

/// How many jobs per sequence that is: the next is at hand when one ends.
pub(crate) const WINDOW: usize = 2;
