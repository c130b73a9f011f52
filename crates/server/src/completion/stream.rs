//! Completions as they appear, as server-sent events.

use super::Choice;
use super::jobs::{Answer, Plan, Usage, window};
use crate::app::{App, CancelOnDrop, Place, Reserved};
use crate::limits;
use crate::logprobs::Logprobs;
use crate::refusal::Refusal;
use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Response};
use http_body::Frame;
use pythia_runtime::engine::Event;
use pythia_task::Cancel;
use serde::Serialize;
use serde_json::json;
use std::io;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Pieces that wait for the connection.
const PIECES: usize = 16;

/// A response whose body comes while the jobs run.
pub(super) fn response(app: Arc<App>, plan: Plan, place: Place, reserved: Reserved) -> Response<Body> {
    let (pieces, body) = mpsc::channel(PIECES);
    tokio::spawn(async move {
        let _held = (CancelOnDrop(plan.cancel.clone()), place, reserved);
        let gone = pieces.clone();
        tokio::select! {
            // The client has left, perhaps while everything waits in a queue.
            () = gone.closed() => {}
            () = Stream::new(app, plan, pieces).run() => {}
        }
    });
    let mut response = Response::new(Body::new(Pieces(body)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // For nginx, which would collect the events otherwise.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// A piece of the body; `None` after the last one.
type Piece = Option<Bytes>;

/// The body. If its pieces end without the last one, the connection is cut, so that the client knows.
struct Pieces(mpsc::Receiver<Piece>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(cx).map(|piece| match piece {
            Some(Some(bytes)) => Some(Ok(Frame::data(bytes))),
            Some(None) => None,
            None => Some(Err(io::Error::other("the stream was cut off"))),
        })
    }
}

/// The client has left.
struct Gone;

/// A stream in the making.
struct Stream {
    app: Arc<App>,
    plan: Plan,
    pieces: mpsc::Sender<Piece>,
    id: String,
    created: u64,
    /// By job, once it was submitted. Entries and text that were sent are not in them any more.
    answers: Vec<Answer>,
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Choice<'a>>,
    /// Absent unless it was asked for; then `null` but in the last chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

impl Stream {
    fn new(app: Arc<App>, plan: Plan, pieces: mpsc::Sender<Piece>) -> Self {
        let (id, created) = app.stamp("cmpl");
        Self { app, plan, pieces, id, created, answers: Vec::new() }
    }

    /// Sends everything.
    async fn run(mut self) {
        let Ok(ended) = self.events().await else { return };
        let is_whole = ended.is_ok();
        let sent = match ended {
            Ok(()) if self.plan.request.include_usage => {
                let usage = Usage::of(&self.plan, self.answers.iter());
                self.data(&self.chunk(Vec::new(), Some(usage))).await
            }
            Ok(()) => Ok(()),
            Err(refusal) => self.data(&refusal.body().to_string()).await,
        };
        let sent = if is_whole && sent.is_ok() { self.data("[DONE]").await } else { sent };
        if sent.is_ok() {
            let _ = self.pieces.send(None).await;
        }
    }

    /// Runs all jobs and sends what they say.
    async fn events(&mut self) -> Result<Result<(), Refusal>, Gone> {
        let (sender, mut events) = mpsc::channel(limits::UNREAD_EVENTS);
        let (n, window) = (self.plan.n_jobs(), window(&self.app.models[self.plan.model]));
        let mut done = 0;
        while done < n {
            while self.answers.len() < n && self.answers.len() - done < window {
                if let Err(refusal) = self.submit(&sender) {
                    return Ok(Err(refusal));
                }
                self.flush(self.answers.len() - 1, false).await?;
            }
            // A job that was given up ends the stream without its last piece.
            if self.plan.cancel.is_raised() {
                return Err(Gone);
            }
            let Ok(event) = timeout(limits::PING, events.recv()).await else {
                self.piece(Bytes::from_static(b": ping\n\n")).await?;
                continue;
            };
            // There is a sender here, so that it does not end.
            let Some((job, event)) = event else { continue };
            let served = &self.app.models[self.plan.model];
            match self.answers[job].take(&self.app, served, event) {
                Ok(is_last) => {
                    done += usize::from(is_last);
                    self.flush(job, is_last).await?;
                }
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
        Ok(Ok(()))
    }

    fn submit(&mut self, sender: &mpsc::Sender<(usize, Event)>) -> Result<(), Refusal> {
        let job = self.answers.len();
        let mut sink = Sink { job, sender: sender.clone(), cancel: self.plan.cancel.clone(), is_over: false };
        let engine = &self.app.models[self.plan.model].engine;
        engine.submit(self.plan.job(job), Box::new(move |event| sink.take(event)))?;
        self.answers.push(Answer::new(&self.app, &self.plan, job));
        Ok(())
    }

    /// Sends what a job has said and was not sent. A token alone is sent if log-likelihoods were asked for; otherwise
    /// text is.
    async fn flush(&mut self, job: usize, is_last: bool) -> Result<(), Gone> {
        let answer = &self.answers[job];
        let is_scored = self.plan.request.logprobs.is_some();
        // The echo goes out with the log-likelihoods of its tokens.
        let is_prompt_incomplete = is_scored && self.plan.request.echo && answer.n_generated() == 0 && !is_last;
        if is_prompt_incomplete || !(is_last || !answer.text.is_empty() || !answer.entries.is_empty()) {
            return Ok(());
        }
        let entries = &answer.entries;
        let logprobs = is_scored.then_some(Logprobs { entries, names: &self.app.names });
        let finish_reason = answer.finish_reason.filter(|_| is_last);
        let choice = Choice { index: job, text: &answer.text, logprobs, finish_reason };
        let json = self.chunk(vec![choice], None);
        self.data(&json).await?;
        self.answers[job].forget();
        Ok(())
    }

    fn chunk(&self, choices: Vec<Choice<'_>>, usage: Option<Usage>) -> String {
        let model = self.app.models[self.plan.model].name.as_str();
        let usage = self.plan.request.include_usage.then_some(usage);
        let chunk = Chunk { id: &self.id, object: "text_completion", created: self.created, model, choices, usage };
        serde_json::to_string(&chunk).unwrap_or_else(|_| json!({}).to_string())
    }

    async fn data(&self, data: &str) -> Result<(), Gone> {
        self.piece(Bytes::from(format!("data: {data}\n\n"))).await
    }

    async fn piece(&self, bytes: Bytes) -> Result<(), Gone> {
        self.pieces.send(Some(bytes)).await.map_err(|_| Gone)
    }
}

/// Passes events on from the engine's thread, which does not wait: if the client reads too slowly, the request ends.
struct Sink {
    job: usize,
    sender: mpsc::Sender<(usize, Event)>,
    cancel: Cancel,
    is_over: bool,
}

impl Sink {
    fn take(&mut self, event: Event) -> ControlFlow<()> {
        self.is_over = matches!(event, Event::Done(_) | Event::Failed(_));
        match self.sender.try_send((self.job, event)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => {
                self.is_over = false;
                ControlFlow::Break(())
            }
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if !self.is_over {
            self.cancel.raise();
        }
    }
}
