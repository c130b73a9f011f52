//! The listener: connections within limits, and the end of the server.

use crate::app::{App, Place, Served};
use crate::connection::Connection;
use crate::error::Error;
use crate::guard::Guard;
use crate::{completion, limits, routes};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use pythia_model::Model;
use pythia_runtime::Tokenizer;
use pythia_runtime::draft::Drafting;
use pythia_runtime::engine::{Engine, EngineOptions, Turn};
use pythia_task::Cancel;
use pythia_tokenizer::Vocab;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, watch};

/// A model and the name by which requests ask for it.
#[derive(Debug)]
pub struct NamedModel {
    /// The name.
    pub name: String,
    /// The model.
    pub model: Arc<Model>,
}

/// How a server is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// A name or an address of this machine.
    pub host: String,
    /// 0 for any that is free.
    pub port: u16,
    /// What requests must present, if anything.
    pub api_key: Option<String>,
    /// Positions per sequence: prompt and continuation. 0 for one more than the model was trained for, so that a text
    /// of that length can be scored as a whole.
    pub n_ctx: usize,
    /// Texts that each model runs at the same time.
    pub parallel: usize,
    /// Requests that may wait.
    pub max_queue: usize,
    /// Time for running requests to end after the server was told to stop.
    pub grace: Duration,
    /// Time for a client to send a request, and to take a piece of the answer.
    pub timeout: Duration,
    /// More names of this host.
    pub allow_hosts: Vec<String>,
    /// Origins of pages that may use the server; `*` for all.
    pub allow_origins: Vec<String>,
    /// Whether there is `/metrics`.
    pub metrics: bool,
    /// Drafts for the texts of all models, for the tokenizer that they share. They are used while few texts are written.
    pub draft: Option<Drafting>,
}

/// A server that listens and does not answer yet.
#[derive(Debug)]
pub struct Server {
    app: Arc<App>,
    listener: TcpListener,
    address: SocketAddr,
    grace: Duration,
    runtime: Runtime,
}

impl Server {
    /// Starts an engine per model and listens.
    ///
    /// # Errors
    /// If the models do not share a tokenizer, a setting is out of range, or the address cannot be listened at.
    pub fn start(models: Vec<NamedModel>, options: Options) -> Result<Self, Error> {
        let tokenizer = check(&models, &options)?;
        let listener = listen(&options)?;
        let listening = |e| Error::Listen { address: format!("{}:{}", options.host, options.port), source: e };
        let address = listener.local_addr().map_err(listening)?;
        listener.set_nonblocking(true).map_err(listening)?;
        raise_file_limit();
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            // Preparations, one request of `/v1/tokens`, and the wait for the engines at the end. Each thread keeps memory
            // that it has used.
            .max_blocking_threads(limits::PREPARED + 2)
            .thread_name("pythia-http")
            .enable_all()
            .build()
            .map_err(Error::Threads)?;
        let turn = Arc::new(Turn::new());
        let served = models.into_iter().map(|model| engine(model, &tokenizer, &options, &turn));
        let served = served.collect::<Result<Vec<_>, _>>()?;
        let running = options.parallel * served.len();
        if let Some(drafting) = &options.draft {
            let n_ctx = served.iter().map(|served| served.engine.status().n_ctx).max().unwrap_or(0);
            drafting.check_memory(running, n_ctx).map_err(Error::Draft)?;
        }
        let guard = Guard::new(&options.host, address, &options.allow_hosts, &options.allow_origins, options.api_key);
        let app = App::new(
            served,
            tokenizer,
            turn,
            guard,
            options.timeout,
            options.metrics,
            running.saturating_add(options.max_queue),
        );
        Ok(Self { app: Arc::new(app), listener, address, grace: options.grace, runtime })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether anybody on the network can use it: it listens at another address than loopback, and wants no key.
    pub fn is_open(&self) -> bool {
        self.app.guard.is_open && self.app.guard.key.is_none()
    }

    /// Answers requests until `stop` is raised. Then new requests are refused, and those in work have the time of
    /// [`Options::grace`] to end. Returns whether all of them did.
    ///
    /// # Errors
    /// If the listener fails.
    pub fn run(self, stop: &Cancel) -> Result<bool, Error> {
        let Self { app, listener, address, grace, runtime } = self;
        let failed = |source| Error::Listen { address: address.to_string(), source };
        let ended = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
            Ok(serve(&app, listener, stop, grace).await)
        });
        runtime.shutdown_timeout(Duration::from_millis(200));
        ended
    }
}

/// Checks the settings and that the models can be served side by side. Returns their tokenizer.
fn check(models: &[NamedModel], options: &Options) -> Result<Arc<Tokenizer>, Error> {
    let setting = |name, problem: &str| Err(Error::Setting { name, problem: problem.to_owned() });
    let Some(first) = models.first() else { return setting("--model", "found none, wanted at least one") };
    if options.parallel == 0 || options.parallel > 1024 {
        return setting("--parallel", "wanted 1 to 1024");
    }
    if options.timeout.is_zero() {
        return setting("--timeout", "wanted more than 0 seconds");
    }
    let vocab = |named: &NamedModel| {
        let vocab = Vocab::from_metadata(&named.model.gguf().metadata);
        let mut vocab = vocab.map_err(|e| Error::of_model(&named.name, e))?;
        // One file may embed what another leaves out; the tokens are the same.
        vocab.huggingface_json = None;
        Ok::<_, Error>(vocab)
    };
    let wanted = vocab(first)?;
    for (i, other) in models.iter().enumerate().skip(1) {
        if models[..i].iter().any(|earlier| earlier.name == other.name) {
            return Err(Error::SameName(other.name.clone()));
        }
        if vocab(other)? != wanted {
            return Err(Error::OtherTokenizer { first: first.name.clone(), other: other.name.clone() });
        }
    }
    let tokenizer = Tokenizer::from_gguf(&first.model.gguf().metadata);
    tokenizer.map(Arc::new).map_err(|e| Error::of_model(&first.name, e))
}

fn listen(options: &Options) -> Result<TcpListener, Error> {
    let host = options.host.trim_matches(['[', ']']);
    TcpListener::bind((host, options.port))
        .map_err(|source| Error::Listen { address: format!("{host}:{}", options.port), source })
}

fn engine(named: NamedModel, tokenizer: &Arc<Tokenizer>, options: &Options, turn: &Arc<Turn>) -> Result<Served, Error> {
    let NamedModel { name, model } = named;
    let n_ctx = if options.n_ctx == 0 { model.hparams().n_ctx + 1 } else { options.n_ctx };
    let requests = options.parallel.saturating_add(options.max_queue);
    let engine_options = EngineOptions {
        n_seq: options.parallel,
        n_ctx,
        // The queue is limited by requests, each of which has at most so many jobs here.
        max_queue: requests.saturating_mul(completion::WINDOW * options.parallel),
        turn: Some(Arc::clone(turn)),
    };
    match Engine::start(model, Arc::clone(tokenizer), engine_options) {
        Ok(engine) => Ok(Served { name, engine, draft: options.draft.clone(), longest: AtomicUsize::new(0) }),
        Err(source) => Err(Error::of_model(&name, source)),
    }
}

/// Each connection is a file.
fn raise_file_limit() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        const WANTED: u64 = limits::CONNECTIONS as u64 + 256;
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        if let Some(now) = current.filter(|&now| now < WANTED) {
            let raised = maximum.map_or(WANTED, |most| most.min(WANTED)).max(now);
            // With fewer files, connections wait.
            let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum });
        }
    }
}

async fn serve(app: &Arc<App>, listener: tokio::net::TcpListener, stop: &Cancel, grace: Duration) -> bool {
    // Once it is true, new requests are refused, those in work go on, and connections end after them.
    let (draining, _) = watch::channel(false);
    let router = routes::router(Arc::clone(app), draining.subscribe());
    let places = Arc::new(Semaphore::new(limits::CONNECTIONS));
    let accept = accept(app, &listener, &router, &places, &draining);
    let end = async {
        while !stop.is_raised() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        draining.send_replace(true);
        // The engines go on: a request in work may have jobs that are not submitted yet.
        let all_ended = app.idle(Instant::now() + grace).await;
        if !all_ended {
            app.cut.raise();
            let cut = Arc::clone(app);
            // It waits for the pass that runs.
            let _ = tokio::task::spawn_blocking(move || {
                for served in &cut.models {
                    served.engine.wait_idle(Duration::ZERO);
                }
            })
            .await;
            app.idle(Instant::now() + limits::FAREWELL).await;
        }
        all_ended
    };
    // New connections are answered to the end: with a refusal.
    let all_ended = tokio::select! {
        () = accept => false,
        all_ended = end => all_ended,
    };
    let _ = tokio::time::timeout(limits::FAREWELL, places.acquire_many(limits::CONNECTIONS as u32)).await;
    all_ended
}

async fn accept(
    app: &Arc<App>,
    listener: &tokio::net::TcpListener,
    router: &Router,
    places: &Arc<Semaphore>,
    draining: &watch::Sender<bool>,
) {
    loop {
        // Without a place, connections wait in the system's queue.
        let Ok(place) = Arc::clone(places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                // With few places left, nobody keeps one after an answer.
                let keeps = places.available_permits() > limits::CONNECTIONS / 4;
                let connection = connection(Arc::clone(app), stream, router.clone(), keeps, draining.subscribe());
                tokio::spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            // Too many files, or a client that left at once.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn connection(
    app: Arc<App>,
    stream: TcpStream,
    router: Router,
    keeps: bool,
    mut draining: watch::Receiver<bool>,
) {
    let Ok(_counted) = Place::take(&app, |app| &app.connections, usize::MAX) else { return };
    // Its request may come a moment later, and a connection without one would end at once.
    let is_late = *draining.borrow();
    // Small pieces of streams go out at once.
    let _ = stream.set_nodelay(true);
    let io = TokioIo::new(Connection::new(stream, app.timeout));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // From the first byte, and for a connection that is kept, from the answer before.
        .header_read_timeout(app.timeout)
        .max_header_size(limits::HEADER_BYTES)
        .keep_alive(keeps && !is_late)
        .serve_connection(io, TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        // Errors are the client's: it left, was too slow, or spoke no HTTP.
        _ = connection.as_mut() => return,
        _ = draining.wait_for(|draining| *draining), if !is_late => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}
