//! The server on a device that fails: requests end with one line, and the next ones work.

use super::PATIENCE;
use super::client::{Answer, Client};
use crate::common::toy::{self, Fault, Step};
use pythia_server::{NamedModel, Options, Server};
use pythia_task::Cancel;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A server within this process, until it is dropped.
struct Inside {
    address: SocketAddr,
    stop: Cancel,
    thread: Option<JoinHandle<()>>,
}

impl Inside {
    fn start(name: &str, model: std::sync::Arc<pythia_model::Model>) -> Self {
        let options = Options {
            host: "127.0.0.1".to_owned(),
            port: 0,
            api_key: None,
            n_ctx: 0,
            parallel: 2,
            max_queue: 8,
            grace: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
            allow_hosts: Vec::new(),
            allow_origins: Vec::new(),
            metrics: true,
            draft: None,
        };
        let server = Server::start(vec![NamedModel { name: name.to_owned(), model }], options).unwrap();
        let (address, stop) = (server.address(), Cancel::new());
        let until = stop.clone();
        let thread = std::thread::spawn(move || assert!(server.run(&until).unwrap(), "all requests were answered"));
        Self { address, stop, thread: Some(thread) }
    }

    fn get(&self, path: &str) -> Answer {
        Client::connect(self.address).get(path)
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        Client::connect(self.address).post(path, body.to_string().as_bytes())
    }

    /// Waits until every slot is idle, and returns how many texts have failed.
    fn failed(&self) -> f64 {
        let start = Instant::now();
        while self.get("/slots").json().as_array().unwrap().iter().any(|slot| slot["is_processing"] != json!(false)) {
            assert!(start.elapsed() < PATIENCE, "{}", self.get("/slots").text());
            std::thread::sleep(Duration::from_millis(5));
        }
        let metrics = self.get("/metrics").text();
        let line = metrics.lines().find(|line| line.starts_with("pythia:jobs_failed_total")).expect("a counter");
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.stop.raise();
        if let Some(ended) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            ended.expect("the server ends well");
        }
    }
}

#[test]
fn after_a_failure_of_the_device_the_next_request_works() {
    let (model, faults) = toy::model();
    let server = Inside::start("m", model);
    let body = json!({"prompt": [300], "max_tokens": 5, "temperature": 0, "logprobs": 0});
    let ids = |answer: Answer| {
        assert_eq!(answer.status, 200, "{}", answer.text());
        let content = answer.json()["choices"][0]["logprobs"]["content"].clone();
        content.as_array().unwrap().iter().map(|token| token["id"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(ids(server.post("/v1/completions", &body)), [301, 302, 303, 304, 305]);
    let broken = "the engine failed: a cable is loose";
    let panicked = "the engine failed: a pass of the model panicked";
    let cases = [
        (Step::Pass, Fault::Error, broken),
        (Step::Head, Fault::Error, broken),
        (Step::Pass, Fault::Panic, panicked),
        (Step::Head, Fault::Panic, panicked),
    ];
    for (i, (step, fault, wanted)) in cases.into_iter().enumerate() {
        faults.add(step, fault);
        assert_eq!(server.post("/v1/completions", &body).refuses(500), wanted, "{step:?} {fault:?}");
        assert_eq!(server.failed(), i as f64 + 1.0);
        assert_eq!(ids(server.post("/v1/completions", &body)), [301, 302, 303, 304, 305]);
    }
}

#[test]
fn a_stream_ends_with_the_error_of_the_device() {
    let (model, faults) = toy::model();
    let server = Inside::start("m", model);
    let body = json!({"prompt": [300], "max_tokens": 5, "temperature": 0, "stream": true});
    faults.add(Step::Pass, Fault::Error);
    let answer = server.post("/v1/completions", &body);
    let events = answer.events();
    let error: Value = serde_json::from_str(&events[0]).unwrap();
    assert_eq!(error["error"]["code"], 500);
    assert_eq!(error["error"]["message"], "the engine failed: a cable is loose");
    assert_eq!(events.len(), 1, "no [DONE] after an error");
    assert_eq!(server.failed(), 1.0);
    assert_eq!(server.post("/v1/completions", &body).events().last().unwrap(), "[DONE]");
}

#[test]
fn side_by_side_predictions_fail_alone() {
    let (model, faults) = toy::model();
    let server = Inside::start("m", model);
    let body = json!({"prompt": [300, 301, 400], "top": 1});
    let ranks = |answer: Answer| {
        assert_eq!(answer.status, 200, "{}", answer.text());
        let tokens = answer.json()["tokens"].clone();
        tokens.as_array().unwrap().iter().map(|token| token["models"][0]["rank"].as_u64()).collect::<Vec<_>>()
    };
    // After 301 all but 302 tie, and the lower ids come first.
    let good = ranks(server.post("/v1/tokens", &body));
    assert_eq!(good, [None, Some(1), Some(401)]);
    for (step, fault, message) in [
        (Step::Context, Fault::Error, "a cable is loose"),
        (Step::Pass, Fault::Error, "a cable is loose"),
        (Step::Head, Fault::Panic, "the request failed"),
    ] {
        faults.add(step, fault);
        assert_eq!(server.post("/v1/tokens", &body).refuses(500), message);
        assert_eq!(ranks(server.post("/v1/tokens", &body)), good);
    }
    assert_eq!(server.failed(), 0.0, "the engine had no part in it");
}
