//! `pythia-run serve` over real sockets.

mod client;
mod contract;
mod endpoints;
mod failures;
mod hostile;
mod load;

use crate::common::{PYTHIA_RUN, gguf};
use client::{Answer, Client};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::ops::Deref;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How long a test waits for a state that is sure to come. Nothing is measured with it: a busy machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server of the shipped model, until it is dropped.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Serves these arguments with the Q8_0 file, which has the name `m`.
    fn with(args: &[&str]) -> Self {
        let file = gguf("Q8_0");
        Self::of(&[&["-m", &format!("m={}", file.display())], args].concat())
    }

    fn of(args: &[&str]) -> Self {
        let mut child = Command::new(PYTHIA_RUN)
            .args(["serve", "--port", "0", "-t", "2"])
            .args(args)
            .env_remove("PYTHIA_API_KEY")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening at http://").and_then(|address| address.parse().ok());
        let Some(address) = address else {
            let mut stderr = String::new();
            child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
            panic!("no address in {line:?}; {stderr}");
        };
        Self { child, address }
    }

    fn client(&self) -> Client {
        Client::connect(self.address)
    }

    fn get(&self, path: &str) -> Answer {
        self.client().get(path)
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.client().post(path, body.to_string().as_bytes())
    }

    /// The reply to a completion, which must be there.
    fn complete(&self, body: &Value) -> Value {
        let answer = self.post("/v1/completions", body);
        assert_eq!(answer.status, 200, "{body:.200}: {}", answer.text());
        answer.json()
    }

    /// Sends a signal.
    #[cfg(unix)]
    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Waits for its end. Returns the exit code and stderr.
    #[cfg(unix)]
    fn wait(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (code, stderr)
    }

    /// Waits until requests are refused, and asks for a token then. Asked for before, the token would wait for the requests
    /// that run, and there would be nobody left to refuse the next.
    fn until_refused(&self) -> Answer {
        self.until("requests are refused", || self.get("/health").status != 200);
        self.post("/v1/completions", &json!({"prompt": "a", "max_tokens": 1}))
    }

    /// Slots that work.
    fn busy(&self) -> usize {
        let slots = self.get("/slots").json();
        slots.as_array().unwrap().iter().filter(|slot| slot["is_processing"] == json!(true)).count()
    }

    /// Waits until so many requests for completions run or wait.
    fn has_requests(&self, n: usize) {
        self.until("the requests have come", || metric(self, "completions") == n as f64);
    }

    /// Waits until a slot works.
    fn becomes_busy(&self) {
        self.until("a slot works", || self.busy() > 0);
    }

    /// Waits until nothing runs or waits.
    fn becomes_idle(&self) {
        self.until("nothing runs or waits", || self.busy() == 0 && metric(self, "requests_deferred") == 0.0);
    }

    /// Waits for a state.
    fn until(&self, state: &str, mut reached: impl FnMut() -> bool) {
        let start = Instant::now();
        while !reached() {
            assert!(start.elapsed() < PATIENCE, "never: {state}; {}", self.get("/slots").text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server of the tests that only ask.
struct Shared {
    /// A test is alone with it.
    _alone: MutexGuard<'static, ()>,
    server: Arc<Server>,
}

impl Deref for Shared {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// One server for all tests that only ask: a test holds it to be alone with it. It ends with the last test that wants it,
/// because what is in a static is never dropped.
fn shared() -> Shared {
    static SERVER: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    static ALONE: Mutex<()> = Mutex::new(());
    let start = || {
        let (f16, q4) = (gguf("F16"), gguf("Q4_0"));
        let q8 = gguf("Q8_0");
        let named = |name: &str, path: &std::path::Path| format!("{name}={}", path.display());
        let (a, b, c) = (named("m", &q8), named("F16", &f16), named("Q4_0", &q4));
        Arc::new(Server::of(&["-m", &a, "-m", &b, "-m", &c, "--timeout", "2", "--parallel", "8"]))
    };
    let server = {
        let mut running = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
        let server = running.upgrade().unwrap_or_else(start);
        *running = Arc::downgrade(&server);
        server
    };
    Shared { _alone: ALONE.lock().unwrap_or_else(PoisonError::into_inner), server }
}

/// The first value of a family of metrics.
fn metric(server: &Server, name: &str) -> f64 {
    let text = server.get("/metrics").text();
    let line = text.lines().find(|line| line.starts_with(&format!("pythia:{name}")));
    line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse().ok()).expect(name)
}
