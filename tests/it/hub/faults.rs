//! Downloads that go wrong: broken connections, wrong contents, refusals, servers that mean ill.

use super::server::{Fault, Request, sha256};
use super::{Client, ID, WEIGHTS_BYTES, files, hub_with, noise, tiny};
use pythia_task::{Cancel, ErrorKind};
use std::fs;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

/// What the content network was asked: where from, and how much it sent.
fn transfers(requests: &[Request]) -> Vec<(&str, usize)> {
    let transfers = requests.iter().filter(|request| request.is_cdn);
    transfers.map(|request| (request.header("range").unwrap_or_default(), request.sent)).collect()
}

#[test]
fn a_broken_download_goes_on_where_it_stopped() {
    let hub = hub_with(tiny());
    hub.fault("/blob/", 1, Fault::Drop(300_000));
    let client = Client::new(&hub);
    client.fetch(ID).unwrap();
    client.check_cache();
    let requests = hub.take_requests();
    assert_eq!(transfers(&requests), [("", 300_000), ("bytes=300000-", WEIGHTS_BYTES - 300_000)]);
    let notes = client.log.notes();
    assert!(notes.contains("model.safetensors: ") && notes.contains("after 300000 of 1000000 bytes"), "{notes}");
}

#[test]
fn a_server_that_always_breaks_off_is_given_up_and_resumed_later() {
    let hub = hub_with(tiny());
    hub.fault("/blob/", usize::MAX, Fault::Drop(100_000));
    let client = Client::new(&hub);
    let message = client.fails(ID, ErrorKind::Io);
    assert!(message.contains("after 500000 of 1000000 bytes (given up after 5 tries)"), "{message}");
    assert_eq!(transfers(&hub.take_requests()).len(), 5);
    let left = client.incomplete();
    assert!(left.len() == 1 && left[0].starts_with(&sha256(&tiny()["model.safetensors"])), "{left:?}");
    assert!(!client.repo().join("snapshots").exists() && !client.repo().join("refs").exists());
    hub.heal();
    client.fetch(ID).unwrap();
    assert_eq!(transfers(&hub.take_requests()), [("bytes=500000-", 500_000)]);
    assert_eq!(client.incomplete(), [""; 0]);
    client.check_cache();
}

#[test]
fn a_server_that_lets_a_download_start_over_and_over_is_given_up() {
    const STEP: usize = 8 << 20;
    let mut files = tiny();
    files.insert("model.safetensors".to_owned(), noise(1, STEP + 1).into());
    let hub = hub_with(files);
    for _ in 0..4 {
        hub.fault("/blob/", 1, Fault::Drop(STEP));
        hub.fault("/blob/", 1, Fault::Status(416, &[]));
    }
    let client = Client::new(&hub);
    let message = client.fails(ID, ErrorKind::Io);
    assert!(message.contains("(given up after 5 tries)"), "{message}");
    // Getting on once makes the next failure the first.
    let from: Vec<_> = hub.take_requests().iter().filter(|r| r.is_cdn).map(|r| r.header("range").is_some()).collect();
    assert_eq!(from, [false, true, false, true, false]);
}

#[test]
fn wrong_content_is_thrown_away() {
    for name in ["model.safetensors", "config.json"] {
        let hub = hub_with(tiny());
        let part = if name == "config.json" { "/config.json" } else { "/blob/" };
        hub.fault(part, 1, Fault::Corrupt);
        let client = Client::new(&hub);
        let message = client.fails(ID, ErrorKind::Data);
        assert!(message.starts_with(&format!("someone/tiny: {name}: the download has ")), "{message}");
        let left = client.incomplete();
        let start = sha256(&tiny()["model.safetensors"]);
        assert!(left.iter().all(|left| name == "config.json" && left.starts_with(&start)), "{left:?}");
        client.fetch(ID).unwrap();
        client.check_cache();
    }
}

#[test]
fn a_length_that_the_list_does_not_have_is_refused() {
    let hub = hub_with(tiny());
    hub.fault("/blob/", 1, Fault::Body(noise(1, WEIGHTS_BYTES - 1)));
    let client = Client::new(&hub);
    let message = client.fails(ID, ErrorKind::Data);
    assert!(message.contains("the server sends 999999 bytes, wanted 1000000"), "{message}");
    assert_eq!(client.incomplete(), [""; 0]);
}

#[test]
fn a_damaged_beginning_costs_a_second_download_only() {
    let hub = hub_with(tiny());
    hub.fault("/blob/", usize::MAX, Fault::Drop(100_000));
    let client = Client::new(&hub);
    client.fails(ID, ErrorKind::Io);
    let path = client.repo().join("blobs").join(&client.incomplete()[0]);
    let mut bytes = fs::read(&path).unwrap();
    bytes[7] ^= 1;
    fs::write(&path, bytes).unwrap();
    hub.heal();
    hub.take_requests();
    client.fetch(ID).unwrap();
    assert_eq!(transfers(&hub.take_requests()), [("bytes=500000-", 500_000), ("", WEIGHTS_BYTES)]);
    assert!(client.log.notes().contains("the part from an earlier run was damaged"));
    client.check_cache();
}

#[test]
fn a_server_that_cannot_resume_sends_all() {
    let hub = hub_with(tiny());
    hub.fault("/blob/", 1, Fault::Drop(300_000));
    hub.fault("/blob/", 1, Fault::IgnoreRange);
    let client = Client::new(&hub);
    client.fetch(ID).unwrap();
    assert_eq!(transfers(&hub.take_requests()), [("", 300_000), ("bytes=300000-", WEIGHTS_BYTES)]);
    client.check_cache();
}

#[test]
fn a_part_that_was_not_asked_for_is_refused() {
    let hub = hub_with(tiny());
    hub.fault("/blob/", 1, Fault::Drop(300_000));
    hub.fault("/blob/", 1, Fault::Header("Content-Range", "bytes 299999-999998/1000000"));
    let client = Client::new(&hub);
    let message = client.fails(ID, ErrorKind::Data);
    assert!(
        message.contains("sends \"bytes 299999-999998/1000000\", wanted \"bytes 300000-999999/1000000\""),
        "{message}"
    );
    assert_eq!(transfers(&hub.take_requests())[1].0, "bytes=300000-");
    assert_eq!(client.incomplete(), [""; 0]);
    let hub = hub_with(tiny());
    hub.fault("/blob/", 1, Fault::Status(206, &[("Content-Range", "bytes 1-9/10")]));
    let message = Client::new(&hub).fails(ID, ErrorKind::Data);
    assert!(message.contains("\"bytes 1-9/10\""), "{message}");
}

#[test]
fn other_content_between_two_tries_is_noticed() {
    let hub = hub_with(tiny());
    hub.fault("/blob/", 1, Fault::Drop(300_000));
    hub.fault("model.safetensors", 1, Fault::Header("X-Padding", "1"));
    let other: &'static str = Box::leak(format!("\"{}\"", "a".repeat(64)).into_boxed_str());
    hub.fault("model.safetensors", 1, Fault::Header("X-Linked-ETag", other));
    let client = Client::new(&hub);
    let message = client.fails(ID, ErrorKind::Data);
    assert!(message.contains("the server now has SHA-256 aaaa"), "{message}");
    assert_eq!(client.incomplete(), [""; 0], "it would not be resumed");
}

#[test]
fn what_is_left_of_a_branch_that_moved_on_is_removed() {
    let hub = hub_with(tiny());
    hub.fault("/blob/", usize::MAX, Fault::Drop(100_000));
    let client = Client::new(&hub);
    client.fails(ID, ErrorKind::Io);
    assert_eq!(client.incomplete().len(), 1);
    let mut changed = tiny();
    changed.insert("model.safetensors".to_owned(), noise(2, 1000).into());
    hub.push(ID, "main", changed);
    hub.heal();
    client.fetch(ID).unwrap();
    assert_eq!(client.incomplete(), [""; 0]);
}

#[test]
fn busy_servers_are_asked_again_when_they_say() {
    let hub = hub_with(tiny());
    hub.fault("/revision/", 1, Fault::Status(429, &[("Retry-After", "1")]));
    hub.fault("/tree/", 1, Fault::Status(500, &[]));
    hub.fault("/blob/", 1, Fault::Status(503, &[]));
    let client = Client::new(&hub);
    let start = Instant::now();
    client.fetch(ID).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    let notes = client.log.notes();
    for part in ["answered 429 Too Many Requests; again in 1.0 s (2 of 5)", "answered 500", "answered 503"] {
        assert!(notes.contains(part), "{part}: {notes}");
    }
    assert!(!notes.contains("signature"), "{notes}");
    hub.fault("/revision/", 1, Fault::Status(429, &[("Retry-After", "3600")]));
    let message = Client::new(&hub).fails(ID, ErrorKind::Io);
    assert!(message.contains("the server wants a pause of 3600 s"), "{message}");
}

#[test]
fn a_download_that_stands_still_is_tried_again() {
    let hub = hub_with(tiny());
    hub.fault("/blob/", 1, Fault::Stall(200_000, Duration::from_secs(20)));
    let client = Client::new(&hub);
    let start = Instant::now();
    client.fetch(ID).unwrap();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(transfers(&hub.take_requests())[1].0, "bytes=200000-");
}

#[test]
fn refusals_are_explained_and_not_tried_again() {
    let hub = hub_with(tiny());
    for step in ["step1", "step2", "other", "a", "b", "c", "d"] {
        hub.push(ID, step, tiny());
    }
    let client = Client::new(&hub);
    let message = client.fails("someone/nothing", ErrorKind::Io);
    assert!(message.contains("no such repository at http://") && message.contains("HF_TOKEN"), "{message}");
    assert_eq!(hub.take_requests().len(), 1);
    let message = client.fails(&format!("{ID}@step3"), ErrorKind::Io);
    assert_eq!(message, "someone/tiny: no revision \"step3\"; there are step1, step2, a, b, c, d and 2 more");
    hub.fault("/tokenizer.json", 1, Fault::Status(404, &[("X-Error-Code", "EntryNotFound")]));
    let message = client.fails(ID, ErrorKind::Io);
    assert!(message.contains("tokenizer.json: the server has no such file"), "{message}");
    hub.fault("/revision/", 1, Fault::Status(403, &[("X-Error-Message", "Access is disabled")]));
    assert!(client.fails(ID, ErrorKind::Io).contains("forbids it: \"Access is disabled\""));
    hub.fault(
        "/revision/",
        1,
        Fault::Status(401, &[("X-Error-Message", "Invalid credentials in Authorization header")]),
    );
    let message = client.with("HF_TOKEN", "hf_old").fails(ID, ErrorKind::Io);
    assert!(message.contains("does not accept the token"), "{message}");
}

#[test]
fn servers_cannot_choose_paths() {
    let hub = hub_with(tiny());
    let client = Client::new(&hub);
    let tree = |entry: &str| {
        let config =
            r#"{"type": "file", "path": "config.json", "size": 2, "oid": "9e26dfeeb6e641a33dae4961196235bdb965b21b"}"#;
        Fault::Body(format!("[{config}, {entry}]").into_bytes())
    };
    let hex = "a".repeat(64);
    for (entry, part) in [
        (r#"{"type": "file", "path": "model.safetensors", "size": 1, "oid": "../../../../x"}"#.to_owned(), "no digest"),
        (
            r#"{"type": "file", "path": "model.safetensors", "size": 1, "oid": "", "lfs": {"oid": "/tmp/x", "size": 1}}"#
                .to_owned(),
            "no digest",
        ),
        (
            format!(r#"{{"type": "file", "path": "../model.safetensors", "lfs": {{"oid": "{hex}", "size": 1}}}}"#),
            "has no weights",
        ),
        (
            format!(
                r#"{{"type": "file", "path": "model.safetensors", "lfs": {{"oid": "{hex}", "size": 9000000000000000000}}}}"#
            ),
            "bytes to download",
        ),
        ("{".to_owned(), "not the JSON expected"),
        (r#"{"type": "file", "path": "x", "size": -1}"#.to_owned(), "not the JSON expected"),
    ] {
        hub.fault("/tree/", 1, tree(&entry));
        let message = client.fetch(ID).unwrap_err().to_string();
        assert!(message.contains(part), "{entry}: {message}");
    }
    hub.fault("/revision/", 1, Fault::Body(br#"{"sha": "../../x"}"#.to_vec()));
    assert!(client.fails(ID, ErrorKind::Data).contains("the server names the commit"));
    hub.fault("/revision/", 1, Fault::Body(vec![b' '; (8 << 20) + 1]));
    assert!(client.fails(ID, ErrorKind::Data).contains("more than 8388608 bytes"));

    let index = br#"{"weight_map": {"a": "../../../x.safetensors"}}"#;
    hub.push(ID, "index", files([("config.json", b"{}"), ("model.safetensors.index.json", index)]));
    let message = client.fails(&format!("{ID}@index"), ErrorKind::Data);
    assert!(message.contains(r#"index.json: "../../../x.safetensors" is not the name"#), "{message}");
    let found: Vec<String> = crate::common::names(client.dir.path());
    assert_eq!(found, ["hub"], "nothing outside");
}

#[test]
fn redirects_lead_somewhere_or_end() {
    let hub = hub_with(tiny());
    for (location, part) in [
        ("/api/models/someone/tiny/revision/main", "more than 5 redirects"),
        ("file:///etc/passwd", "to \"file:///etc/passwd\", which is not followed"),
        ("", "to \"\", which is not followed"),
    ] {
        let headers = Box::leak(Box::new([("Location", location)]));
        hub.fault("/revision/", 6, Fault::Status(302, headers));
        let message = Client::new(&hub).fails(ID, ErrorKind::Data);
        assert!(message.contains(part), "{message}");
        hub.heal();
    }
    hub.fault("/tree/", 1, Fault::Header("Link", "<http://127.0.0.1:9/api?secret>; rel=\"next\""));
    let message = Client::new(&hub).fails(ID, ErrorKind::Data);
    assert!(message.contains("another server"), "{message}");
}

#[test]
fn cancelling_ends_it_in_time_and_keeps_what_is_there() {
    let hub = hub_with(tiny());
    hub.fault("/blob/", 1, Fault::Stall(200_000, Duration::from_secs(20)));
    let mut client = Client::new(&hub).with("HF_HUB_DOWNLOAD_TIMEOUT", "30");
    let error = thread::scope(|scope| {
        let fetch = scope.spawn(|| client.fetch(ID).unwrap_err());
        // Only when the bytes have arrived is there something to keep.
        while client.log.done.load(Ordering::Relaxed) < 200_000 {
            thread::sleep(Duration::from_millis(5));
        }
        client.cancel.raise();
        let start = Instant::now();
        let error = fetch.join().unwrap();
        // A second is promised; the rest is for a machine that runs all tests at once.
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        error
    });
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    client.cancel = Cancel::new();
    hub.take_requests();
    let start = Instant::now();
    client.fetch(ID).unwrap();
    assert!(start.elapsed() < Duration::from_secs(10), "the cancelled download still holds its lock");
    assert_eq!(transfers(&hub.take_requests()), [("bytes=200000-", WEIGHTS_BYTES - 200_000)]);
    client.check_cache();
}
