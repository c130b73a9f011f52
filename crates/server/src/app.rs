//! What all requests share: models, limits, counters.

use crate::limits;
use crate::names::Names;
use crate::refusal::Refusal;
use pythia_model::Model;
use pythia_runtime::Tokenizer;
use pythia_runtime::draft::Drafting;
use pythia_runtime::engine::{Engine, Turn};
use pythia_task::Cancel;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;

/// A model that is served.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) name: String,
    pub(crate) engine: Engine,
    pub(crate) draft: Option<Drafting>,
    /// Tokens of the longest text so far.
    pub(crate) longest: AtomicUsize,
}

impl Served {
    pub(crate) fn model(&self) -> &Arc<Model> {
        self.engine.model()
    }

    /// Positions of a sequence.
    pub(crate) fn n_ctx(&self) -> usize {
        self.engine.options().n_ctx
    }
}

/// Everything that handlers need.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) models: Vec<Served>,
    /// That of all models.
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) names: Names,
    pub(crate) turn: Arc<Turn>,
    pub(crate) guard: crate::guard::Guard,
    pub(crate) timeout: Duration,
    pub(crate) started: SystemTime,
    pub(crate) has_metrics: bool,
    pub(crate) page: crate::page::Page,
    /// Completions that run or wait, and how many there may be.
    pub(crate) requests: AtomicUsize,
    pub(crate) max_requests: usize,
    /// Estimated bytes of all requests.
    memory: AtomicUsize,
    /// Limits the work that is done beside the engines.
    pub(crate) prepared: Arc<Semaphore>,
    /// Requests of `/v1/tokens`, and the right to run one.
    pub(crate) token_requests: AtomicUsize,
    pub(crate) tokens: Arc<Semaphore>,
    /// Raised when the last requests are cut off.
    pub(crate) cut: Cancel,
    /// Responses by status.
    pub(crate) responses: Mutex<BTreeMap<u16, u64>>,
    pub(crate) connections: AtomicUsize,
    next_id: AtomicU64,
}

impl App {
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn new(
        models: Vec<Served>,
        tokenizer: Arc<Tokenizer>,
        turn: Arc<Turn>,
        guard: crate::guard::Guard,
        timeout: Duration,
        has_metrics: bool,
        max_requests: usize,
    ) -> Self {
        Self {
            models,
            names: Names::new(Arc::clone(&tokenizer)),
            tokenizer,
            turn,
            guard,
            timeout,
            started: SystemTime::now(),
            has_metrics,
            page: crate::page::Page::new(),
            requests: AtomicUsize::new(0),
            max_requests,
            memory: AtomicUsize::new(0),
            prepared: Arc::new(Semaphore::new(limits::PREPARED)),
            token_requests: AtomicUsize::new(0),
            tokens: Arc::new(Semaphore::new(1)),
            cut: Cancel::new(),
            responses: Mutex::default(),
            connections: AtomicUsize::new(0),
            next_id: AtomicU64::new(0),
        }
    }

    /// The index of the model that a request names; the first if it names none. Where there is one model, every name
    /// means that one: clients send the name of what the file was made from.
    pub(crate) fn model(&self, name: Option<&str>) -> Result<usize, Refusal> {
        match name {
            Some(name) if self.models.len() > 1 => self.named(name),
            _ => Ok(0),
        }
    }

    /// The index of the model of exactly this name.
    pub(crate) fn named(&self, name: &str) -> Result<usize, Refusal> {
        self.models.iter().position(|model| model.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.models.iter().map(|model| model.name.as_str()).collect();
            let name = pythia_text::quoted(name, '\'', 100);
            Refusal::new(
                axum::http::StatusCode::NOT_FOUND,
                format_args!("model: found {name}, wanted one of {}", names.join(", ")),
            )
        })
    }

    /// An id for a reply, and the time.
    pub(crate) fn stamp(&self, kind: &str) -> (String, u64) {
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let n = self.next_id.fetch_add(1, Ordering::Relaxed);
        (format!("{kind}-{:x}-{n}", seconds(self.started).as_nanos()), seconds(SystemTime::now()).as_secs())
    }

    /// Does `work` on a thread that may take its time. Few of these run at once.
    pub(crate) async fn prepare<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&App) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let permit = Arc::clone(&self.prepared).acquire_owned().await.map_err(|_| Refusal::stopping())?;
        let app = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            // The work goes on if the client leaves.
            let _permit = permit;
            work(&app)
        });
        let done = done.await;
        done.map_err(|_| Refusal::internal("the request could not be prepared"))
    }

    pub(crate) fn count_response(&self, status: u16) {
        *self.responses.lock().unwrap_or_else(PoisonError::into_inner).entry(status).or_default() += 1;
    }

    /// Waits until no completion and no request of `/v1/tokens` runs or waits, at most until `deadline`.
    pub(crate) async fn idle(&self, deadline: Instant) -> bool {
        let busy = || self.requests.load(Ordering::Relaxed) + self.token_requests.load(Ordering::Relaxed) > 0;
        while busy() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        !busy()
    }
}

/// A part of the memory that all requests share.
#[derive(Debug)]
pub(crate) struct Reserved {
    app: Arc<App>,
    bytes: usize,
}

impl Reserved {
    /// Nothing yet.
    pub(crate) fn none(app: &Arc<App>) -> Self {
        Self { app: Arc::clone(app), bytes: 0 }
    }

    /// So many bytes more.
    ///
    /// # Errors
    /// If that is too much for one request, or for now.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        if bytes > limits::REQUEST_MEMORY - self.bytes {
            return Err(Refusal::invalid(format_args!(
                "the request and its answer take more than {} MB; ask for less at once, such as fewer prompts or logprobs",
                limits::REQUEST_MEMORY >> 20
            )));
        }
        let before = self.app.memory.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        match before.saturating_add(bytes) > limits::MEMORY {
            true => Err(Refusal::busy("many large requests are served already, try again later")),
            false => Ok(()),
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.app.memory.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A place among a limited number of requests, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    app: Arc<App>,
    of: fn(&App) -> &AtomicUsize,
}

impl Place {
    /// # Errors
    /// If there are `most` already.
    pub(crate) fn take(app: &Arc<App>, of: fn(&App) -> &AtomicUsize, most: usize) -> Result<Self, Refusal> {
        let before = of(app).fetch_add(1, Ordering::Relaxed);
        let place = Self { app: Arc::clone(app), of };
        match before >= most {
            true => {
                Err(Refusal::busy(format_args!("{before} requests are running or waiting already, try again later")))
            }
            false => Ok(place),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        (self.of)(&self.app).fetch_sub(1, Ordering::Relaxed);
    }
}

/// Raises a cancel when the request that it belongs to is gone, answered or not.
#[derive(Debug)]
pub(crate) struct CancelOnDrop(pub(crate) Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.raise();
    }
}
