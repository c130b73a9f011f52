//! Many clients at once, and the end of the server.

use super::client::Client;
use super::{PATIENCE, Server};
use serde_json::{Value, json};
use std::time::Instant;

const COMPLETIONS: &str = "/v1/completions";

/// Requests of every kind, by number.
fn request(i: u64) -> Value {
    let text = ["The borrow checker", "A trait", "In this chapter", "Memory"][i as usize % 4];
    let repeated = text.repeat(1 + i as usize % 9);
    match i % 4 {
        0 => json!({"prompt": repeated, "max_tokens": 1, "temperature": 0, "logprobs": 1, "echo": true}),
        1 => json!({"prompt": repeated, "max_tokens": 12, "seed": i, "logprobs": 2}),
        2 => json!({"prompt": [repeated, text], "max_tokens": 8, "temperature": 0.7, "top_p": 0.9, "seed": i, "n": 2}),
        _ => json!({"prompt": repeated, "max_tokens": 10, "seed": i, "presence_penalty": 0.5, "logit_bias": {"5": 3}}),
    }
}

/// What does not depend on the moment.
fn choices(reply: &Value) -> (&Value, &Value) {
    (&reply["choices"], &reply["usage"]["completion_tokens"])
}

#[test]
fn answers_under_load_are_the_answers_alone() {
    const CLIENTS: u64 = 32;
    let server = Server::with(&["--parallel", "6"]);
    let alone: Vec<Value> = (0..CLIENTS).map(|i| server.complete(&request(i))).collect();
    // Another server, so that nothing is known from before.
    let server = Server::with(&["--parallel", "6"]);
    std::thread::scope(|scope| {
        for (i, alone) in (0..CLIENTS).zip(&alone) {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.client();
                for _ in 0..2 {
                    let answer = client.post(COMPLETIONS, request(i).to_string().as_bytes());
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    assert_eq!(choices(&answer.json()), choices(alone), "client {i}");
                }
            });
        }
    });
    server.becomes_idle();
}

/// V20.
#[test]
fn a_thousand_connections_are_answered() {
    let server = Server::with(&["--parallel", "8", "--max-queue", "2000"]);
    let body = json!({"prompt": [5, 6, 7], "max_tokens": 1, "temperature": 0}).to_string();
    let mut clients: Vec<Client> = (0..1000).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| client.start_post(COMPLETIONS, body.as_bytes()));
    let mut texts: Vec<Value> = Vec::new();
    for client in &mut clients {
        let answer = client.answer().expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        texts.push(answer.json()["choices"].clone());
    }
    texts.dedup();
    assert_eq!(texts.len(), 1);
}

#[test]
fn a_full_queue_refuses_and_says_when_to_come_back() {
    let server = Server::with(&["--parallel", "1", "--max-queue", "1"]);
    let long = json!({"prompt": "a", "max_tokens": 500, "logit_bias": {"0": -100}, "n": 20}).to_string();
    let mut held = [server.client(), server.client()];
    held.iter_mut().for_each(|client| client.start_post(COMPLETIONS, long.as_bytes()));
    server.has_requests(2);
    let refused = server.post(COMPLETIONS, &json!({"prompt": "a", "max_tokens": 1}));
    refused.refuses(429);
    assert_eq!(refused.header("retry-after"), Some("1"));
    drop(held);
    server.becomes_idle();
    server.complete(&json!({"prompt": "a", "max_tokens": 1}));
}

#[cfg(unix)]
mod end {
    use super::*;

    fn slow(n: usize) -> Vec<u8> {
        json!({"prompt": "a", "max_tokens": 400, "logit_bias": {"0": -100}, "seed": 1, "n": n}).to_string().into_bytes()
    }

    #[test]
    fn sigterm_lets_running_requests_end_and_refuses_others() {
        let server = Server::with(&["--parallel", "2", "--grace", "30"]);
        let mut kept = server.client();
        assert_eq!(kept.get("/health").status, 200);
        let mut running = server.client();
        // More choices than are in the engine at the same time.
        running.start_post(COMPLETIONS, &slow(24));
        server.becomes_busy();
        server.signal("-TERM");
        assert!(server.until_refused().refuses(503).contains("stopping"));
        // The request may come later than the connection.
        let mut late = server.client();
        std::thread::sleep(std::time::Duration::from_millis(100));
        late.post(COMPLETIONS, br#"{"prompt": "a", "max_tokens": 1}"#).refuses(503);
        let answer = running.answer().expect("it was running");
        assert_eq!((answer.status, answer.json()["choices"].as_array().unwrap().len()), (200, 24));
        assert!(kept.is_closed());
        let (code, stderr) = server.wait();
        assert_eq!(code, Some(130), "{stderr}");
        assert!(stderr.contains("all requests were answered"), "{stderr}");
    }

    #[test]
    fn after_the_grace_requests_are_cut_off() {
        let server = Server::with(&["--parallel", "1", "--grace", "0"]);
        let mut running = server.client();
        running.start_post(COMPLETIONS, &slow(100));
        let mut streaming = server.client();
        let mut stream: Value = serde_json::from_slice(&slow(100)).unwrap();
        stream["stream"] = json!(true);
        streaming.start_post(COMPLETIONS, stream.to_string().as_bytes());
        server.has_requests(2);
        let start = Instant::now();
        server.signal("-INT");
        running.answer().expect("an answer").refuses(503);
        let (code, stderr) = server.wait();
        assert_eq!(code, Some(130));
        assert!(stderr.contains("cut off") && start.elapsed() < PATIENCE, "{stderr}");
    }

    #[test]
    fn a_second_signal_ends_the_server_at_once() {
        let server = Server::with(&["--parallel", "1", "--grace", "600"]);
        let mut running = server.client();
        running.start_post(COMPLETIONS, &slow(100));
        server.becomes_busy();
        let start = Instant::now();
        server.signal("-TERM");
        std::thread::sleep(std::time::Duration::from_millis(1500));
        server.signal("-TERM");
        let (code, stderr) = server.wait();
        assert_eq!(code, Some(130));
        assert!(!stderr.contains("all requests were answered"), "{stderr}");
        assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    }

    #[test]
    fn an_idle_server_ends_at_once() {
        let server = Server::with(&["--grace", "600"]);
        let _kept = server.client();
        let start = Instant::now();
        server.signal("-TERM");
        let (code, stderr) = server.wait();
        assert_eq!(code, Some(130));
        assert!(start.elapsed() < PATIENCE, "{stderr}");
    }
}

#[test]
fn wrong_command_lines_are_explained() {
    use crate::common::{gguf, run_model};
    let file = gguf("Q8_0");
    let file = file.to_str().unwrap();
    let fails = |args: &[&str], parts: &[&str]| {
        let args = [&["serve", "--port", "0"][..], args].concat();
        run_model(std::path::Path::new("."), args).fails("pythia-run", 2, parts);
    };
    fails(&[], &["--model"]);
    fails(&["-m", file, "-m", file], &["named", "NAME=FILE"]);
    fails(&["-m", file, "-c", "514"], &["context size", "513"]);
    fails(&["-m", file, "--parallel", "0"], &["--parallel"]);
    fails(&["-m", file, "--api-key", ""], &["--api-key"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let outcome = run_model(std::path::Path::new("."), ["serve", "-m", file, "--port", &port]);
    outcome.fails("pythia-run", 74, &["cannot listen at 127.0.0.1:"]);
}
