//! Requests that no good client sends. Each ends in an answer or a closed connection, and the server goes on.

use super::client::Client;
use super::{Server, shared};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const COMPLETIONS: &str = "/v1/completions";

/// Asserts that a completion with one field of this value is refused.
fn refused(server: &Server, field: &str, value: Value) {
    let mut body = json!({"prompt": "a", "max_tokens": 1});
    body[field] = value;
    let message = server.post(COMPLETIONS, &body).refuses(400);
    assert!(message.starts_with(field), "{message}");
}

/// Cases 1 to 10 of the list: what a field can hold.
#[test]
fn fields_out_of_range_are_refused() {
    let server = shared();
    // V1 and V2: token ids and prompts.
    for prompt in [
        json!([-1]),
        json!([4096]),
        json!([4294967296u64]),
        json!([]),
        json!([[]]),
        json!([[[5]]]),
        json!(vec![5; 514]),
        json!("word ".repeat(2000)),
        json!(null),
        json!(1),
    ] {
        refused(&server, "prompt", prompt);
    }
    // V3: max_tokens.
    for n in [json!(-1), json!(9223372036854775808u64), json!(1e30), json!(0.5), json!("5")] {
        refused(&server, "max_tokens", n);
    }
    // V4: counts of a billion.
    for field in ["n", "logprobs", "best_of"] {
        refused(&server, field, json!(1_000_000_000));
        refused(&server, field, json!(-1));
    }
    // V5: sampling.
    for (field, value) in [
        ("temperature", json!(-1)),
        ("temperature", json!(1e308)),
        ("top_p", json!(-1)),
        ("repetition_penalty", json!(0)),
        ("presence_penalty", json!(1e9)),
    ] {
        refused(&server, field, value);
    }
    let nan = server.client().post(COMPLETIONS, br#"{"prompt": "a", "temperature": NaN}"#);
    nan.refuses(400);
    // V6 and V7: stop strings and biases.
    refused(&server, "stop", json!(""));
    refused(&server, "stop", json!(vec!["x"; 100_000]));
    refused(&server, "logit_bias", json!({"-1": 1}));
    refused(&server, "logit_bias", json!([["a", 1]]));
    let beyond = server.post(COMPLETIONS, &json!({"prompt": "a", "logit_bias": {"4096": 1}})).refuses(400);
    assert!(beyond.contains("4096"), "{beyond}");
    refused(&server, "suffix", json!("end"));
    // The largest values that are allowed.
    let body = json!({
        "prompt": "a", "max_tokens": 1 << 20, "temperature": 100, "top_k": 4294967295u64, "logprobs": 20, "stop": ["a", " "],
        "presence_penalty": 2, "repetition_penalty": 100, "seed": u64::MAX, "n": 3,
    });
    server.complete(&body);
}

/// V8 to V12: what is not JSON.
#[test]
fn bodies_that_are_no_request_are_refused() {
    let server = shared();
    let deep = format!("{{\"prompt\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for body in [
        deep.as_bytes(),
        b"{\"prompt\": \"\xff\"}",
        br#"{"prompt": "a", "prompt": "b"}"#,
        br#"{"prompt": "a", "x": {"y": 1, "y": 2}}"#,
        b"",
        b"null",
        b"{\"prompt\": \"a\"",
        b"{\"prompt\": \"\\ud800\"}",
    ] {
        server.client().post(COMPLETIONS, body).refuses(400);
    }
    assert_eq!(server.get("/health").status, 200);
}

/// V2: 100 MB. The answer says why, although the client sends everything first.
#[test]
fn a_body_of_100_megabytes_is_not_kept() {
    let server = Server::with(&[]);
    let before = peak_memory(&server);
    let mut client = server.client();
    let length = 100 << 20;
    client
        .send(format!("POST {COMPLETIONS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n").as_bytes());
    let piece = vec![b'x'; 1 << 20];
    assert!((0..100).all(|_| client.send(&piece)));
    client.answer().unwrap().refuses(413);
    // The same without a length.
    let mut client = server.client();
    client.send(
        format!("POST {COMPLETIONS} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes(),
    );
    for _ in 0..100 {
        client.send(format!("{:x}\r\n", piece.len()).as_bytes());
        client.send(&piece);
        client.send(b"\r\n");
    }
    client.send(b"0\r\n\r\n");
    client.answer().unwrap().refuses(413);
    let grown = peak_memory(&server).saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");
}

/// Bytes of memory that the process has had at most; 0 where the system does not say.
fn peak_memory(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).map_or(0, |kib| kib << 10)
}

/// V13 to V16: bodies and headers that do not come, or never end. The timeout of this server is two seconds.
#[test]
fn slow_and_endless_requests_end() {
    let server = shared();
    let start = Instant::now();
    let head = |rest: &str| format!("POST {COMPLETIONS} HTTP/1.1\r\nHost: localhost\r\n{rest}\r\n\r\n");
    // A body shorter than its length.
    let mut short = server.client();
    short.send(format!("{}{{\"prompt\"", head("Content-Length: 100")).as_bytes());
    // A chunked body that does not end.
    let mut endless = server.client();
    endless.send(format!("{}4\r\n    \r\n", head("Transfer-Encoding: chunked")).as_bytes());
    // Headers that come byte by byte, and none at all.
    let mut slow = server.client();
    slow.send(b"GET /health HTTP/1.1\r\nX: ");
    let mut silent = server.client();
    // A kept connection that is not used.
    let mut idle = server.client();
    assert_eq!(idle.get("/health").status, 200);
    short.answer().unwrap().refuses(408);
    endless.answer().unwrap().refuses(408);
    for client in [&mut slow, &mut silent, &mut idle] {
        assert!(client.is_closed());
    }
    assert!((1..60).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    // A length that is too short: what follows is no request.
    let mut more = server.client();
    more.send(format!("{}{{\"prompt\": \"a\"}}", head("Content-Length: 2")).as_bytes());
    more.answer().unwrap().refuses(400);
    assert_eq!(more.answer().map(|answer| answer.status), Some(400));
    assert_eq!(server.get("/health").status, 200);
}

/// V14: headers that are too long, too many, or no headers.
#[test]
fn malformed_heads_are_refused() {
    let server = shared();
    let status = |head: &[u8]| {
        let mut client = server.client();
        client.send(head);
        client.answer().map(|answer| answer.status)
    };
    let megabyte = format!("GET /health HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    // The connection may be gone before all of it was sent.
    assert!(matches!(status(megabyte.as_bytes()), None | Some(431)));
    let just_too_long = format!("GET /health HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(17 << 10));
    assert!(matches!(status(just_too_long.as_bytes()), None | Some(431)));
    let many = format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(200));
    assert_eq!(status(many.as_bytes()), Some(431));
    let long_path = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(100 << 10));
    assert!(matches!(status(long_path.as_bytes()), None | Some(414 | 431)));
    for head in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..],
        b"GET /health\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nHost: localhost\r\n\r\n",
    ] {
        let status = status(head);
        assert!(matches!(status, None | Some(400 | 505)), "{status:?} {}", String::from_utf8_lossy(head));
    }
    let fine = format!("GET /health HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(12 << 10));
    assert_eq!(status(fine.as_bytes()), Some(200));
}

fn with_headers(server: &Server, method: &str, path: &str, headers: &str) -> super::Answer {
    let mut client = server.client();
    client.send(format!("{method} {path} HTTP/1.1\r\n{headers}\r\n\r\n").as_bytes());
    client.answer().unwrap()
}

/// V17 and V18: a foreign name of this host, and pages of other origins.
#[test]
fn other_hosts_and_origins_are_refused() {
    let server = Server::with(&["--allow-host", "ai.example", "--allow-origin", "https://lab.example"]);
    let get = |headers: &str| with_headers(&server, "GET", "/v1/models", headers);
    get("Host: evil.example").refuses(403);
    get(&format!("Host: localhost.evil.example:{}", server.address.port())).refuses(403);
    assert_eq!(get("Host: ai.example").status, 200);
    assert_eq!(get(&format!("Host: {}", server.address)).status, 200);
    get("Host: localhost\r\nOrigin: http://evil.example").refuses(403);
    get("Host: localhost\r\nOrigin: null").refuses(403);
    let own = format!("Host: localhost:{0}\r\nOrigin: http://localhost:{0}", server.address.port());
    let own = get(&own);
    assert!(own.status == 200 && own.header("access-control-allow-origin").is_none());
    let allowed = get("Host: localhost\r\nOrigin: https://lab.example");
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://lab.example"));
    let preflight = "Host: localhost\r\nOrigin: https://lab.example\r\nAccess-Control-Request-Method: POST";
    let preflight = with_headers(&server, "OPTIONS", COMPLETIONS, preflight);
    assert_eq!((preflight.status, preflight.header("access-control-allow-methods")), (204, Some("GET, POST")));
    let foreign = "Host: localhost\r\nOrigin: https://evil.example\r\nAccess-Control-Request-Method: POST";
    with_headers(&server, "OPTIONS", COMPLETIONS, foreign).refuses(403);
}

#[test]
fn a_key_is_wanted_if_there_is_one() {
    let server = Server::with(&["--api-key", "s3cret"]);
    for wrong in ["", "\r\nAuthorization: Bearer ", "\r\nAuthorization: Bearer s3cre", "\r\nAuthorization: s3cret"] {
        let answer = with_headers(&server, "GET", "/v1/models", &format!("Host: localhost{wrong}"));
        answer.refuses(401);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    let right = with_headers(&server, "GET", "/v1/models", "Host: localhost\r\nAuthorization: Bearer s3cret");
    assert_eq!(right.status, 200);
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.get("/").status, 200);
}

/// V19: a client that leaves frees its slot, in the middle of a stream, of a request, and of the queue.
#[test]
fn a_client_that_leaves_stops_its_work() {
    let server = Server::with(&["--parallel", "1"]);
    let long = json!({"prompt": "a", "max_tokens": 512, "ignore": 1, "logit_bias": {"0": -100}, "stream": true});
    for stream in [true, false] {
        let mut body = long.clone();
        body["stream"] = json!(stream);
        // More than a slot can do within the time of the test.
        body["n"] = json!(100);
        let mut first = server.client();
        first.start_post(COMPLETIONS, body.to_string().as_bytes());
        let mut queued = server.client();
        queued.start_post(COMPLETIONS, body.to_string().as_bytes());
        server.becomes_busy();
        if stream {
            assert_eq!(first.head().unwrap().status, 200);
            assert!(first.chunk().unwrap().is_some());
        }
        drop(queued);
        drop(first);
        server.becomes_idle();
    }
    let cancelled = super::metric(&server, "jobs_cancelled_total");
    assert!(cancelled >= 2.0, "{cancelled}");
    server.complete(&json!({"prompt": "a", "max_tokens": 2}));
}

/// A client that does not read its stream: the work ends, the connection too.
#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let server = Server::with(&["--timeout", "1", "--parallel", "8"]);
    let body = json!({
        "prompt": "a", "max_tokens": 512, "logit_bias": {"0": -100}, "logprobs": 20, "n": 64, "stream": true,
    });
    let mut client = Client::connect(server.address);
    client.start_post(COMPLETIONS, body.to_string().as_bytes());
    server.becomes_busy();
    let start = Instant::now();
    while server.busy() > 0 || super::metric(&server, "connections") > 1.0 {
        assert!(start.elapsed() < super::PATIENCE, "{}", server.get("/slots").text());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(super::metric(&server, "jobs_cancelled_total") > 0.0);
    // The stream has no end: the client can tell.
    let mut whole = true;
    if client.head().is_some() {
        loop {
            match client.chunk() {
                Some(Some(_)) => {}
                Some(None) => break,
                None => {
                    whole = false;
                    break;
                }
            }
        }
    }
    assert!(!whole);
}
