//! `POST /v1/completions`.

mod jobs;
mod request;
mod stream;

use crate::app::{App, CancelOnDrop, Place};
use crate::body;
use crate::fields::Fields;
use crate::logprobs::Logprobs;
use crate::refusal::Refusal;
use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
pub(crate) use jobs::WINDOW;
use jobs::{Answer, Plan, Usage, window};
use request::Request;
use serde::Serialize;
use std::ops::ControlFlow;
use std::sync::Arc;
use tokio::sync::mpsc;

/// The handler.
pub(crate) async fn completions(State(app): State<Arc<App>>, body: Body) -> Result<Response<Body>, Refusal> {
    let (bytes, mut reserved) = body::read(&app, body).await?;
    let place = Place::take(&app, |app| &app.requests, app.max_requests)?;
    let plan = app.prepare(move |app| Plan::new(app, Request::read(&mut Fields::parse(&bytes)?)?)).await??;
    reserved.grow(plan.memory(&app.models[plan.model]))?;
    if plan.request.stream {
        return Ok(stream::response(app, plan, place, reserved));
    }
    let cancel = CancelOnDrop(plan.cancel.clone());
    let plan = Arc::new(plan);
    let answers = all(&app, &plan).await?;
    let json = app.prepare(move |app| reply(app, &plan, answers)).await??;
    drop((cancel, place));
    Ok(body::json(json, reserved))
}

/// Runs every job to its end.
async fn all(app: &Arc<App>, plan: &Arc<Plan>) -> Result<Vec<Answer>, Refusal> {
    let (sender, mut ended) = mpsc::unbounded_channel();
    let mut answers: Vec<Option<Answer>> = (0..plan.n_jobs()).map(|_| None).collect();
    let (window, mut submitted, mut done) = (window(&app.models[plan.model]), 0, 0);
    while done < answers.len() {
        while submitted < answers.len() && submitted - done < window {
            submit(app, plan, submitted, &sender)?;
            submitted += 1;
        }
        // Every job sends once, unless its sink is dropped without an end; then the channel stays open, because there is
        // a sender here. So a sink sends when it is dropped, too.
        let (job, answer) = ended.recv().await.ok_or_else(|| Refusal::internal("the engine has ended"))?;
        answers[job] = Some(answer?);
        done += 1;
    }
    answers.into_iter().map(|answer| answer.ok_or_else(|| Refusal::internal("an answer is missing"))).collect()
}

type Ended = (usize, Result<Answer, Refusal>);

/// Collects the events of a job on the engine's thread and sends the answer once.
struct Collector {
    app: Arc<App>,
    plan: Arc<Plan>,
    job: usize,
    answer: Option<Answer>,
    sender: mpsc::UnboundedSender<Ended>,
}

impl Collector {
    fn take(&mut self, event: pythia_runtime::engine::Event) -> ControlFlow<()> {
        let Some(answer) = &mut self.answer else { return ControlFlow::Break(()) };
        let end = match answer.take(&self.app, &self.app.models[self.plan.model], event) {
            Ok(false) if !self.sender.is_closed() => return ControlFlow::Continue(()),
            Ok(false) => Err(Refusal::stopping()),
            Ok(true) => Ok(()),
            Err(refusal) => Err(refusal),
        };
        let answer = self.answer.take();
        if let Some(answer) = answer {
            // If nobody waits, nobody needs it.
            let _ = self.sender.send((self.job, end.map(|()| answer)));
        }
        ControlFlow::Break(())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if self.answer.take().is_some() {
            let _ = self.sender.send((self.job, Err(Refusal::internal("the engine has given up the request"))));
        }
    }
}

fn submit(app: &Arc<App>, plan: &Arc<Plan>, job: usize, sender: &mpsc::UnboundedSender<Ended>) -> Result<(), Refusal> {
    let answer = Some(Answer::new(app, plan, job));
    let mut collector = Collector { app: Arc::clone(app), plan: Arc::clone(plan), job, answer, sender: sender.clone() };
    app.models[plan.model].engine.submit(plan.job(job), Box::new(move |event| collector.take(event)))?;
    Ok(())
}

/// The whole reply.
#[derive(Serialize)]
struct Reply<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Choice<'a>>,
    usage: Usage,
}

/// A choice, or the part of it that an event of a stream has.
#[derive(Serialize)]
struct Choice<'a> {
    index: usize,
    text: &'a str,
    logprobs: Option<Logprobs<'a>>,
    finish_reason: Option<&'static str>,
}

fn reply(app: &App, plan: &Plan, answers: Vec<Answer>) -> Result<String, Refusal> {
    let request = &plan.request;
    let mut choices = Vec::new();
    for of_prompt in answers.chunks(request.best_of) {
        for answer in best(of_prompt, request.n) {
            let logprobs = request.logprobs.map(|_| Logprobs { entries: &answer.entries, names: &app.names });
            let (index, finish_reason) = (choices.len(), answer.finish_reason);
            choices.push(Choice { index, text: &answer.text, logprobs, finish_reason });
        }
    }
    let (id, created) = app.stamp("cmpl");
    let model = app.models[plan.model].name.as_str();
    let usage = Usage::of(plan, answers.iter());
    let reply = Reply { id, object: "text_completion", created, model, choices, usage };
    serde_json::to_string(&reply).map_err(|e| Refusal::internal(format_args!("the reply cannot be written: {e}")))
}

/// The `n` best, best first; of equals the one that was drawn first. If all are wanted, in the order in which they were
/// drawn.
fn best(answers: &[Answer], n: usize) -> Vec<&Answer> {
    let mut best: Vec<&Answer> = answers.iter().collect();
    if n < best.len() {
        best.sort_by(|a, b| b.quality().total_cmp(&a.quality()));
        best.truncate(n);
    }
    best
}
