//! Servers that mean ill: they send the token back, send what a terminal obeys, send a byte now and then, or lists without
//! end. And a cache that somebody else has laid links in.

use super::server::{FakeHub, Fault, Repo, TOKEN};
use super::{Client, ID, files, hub_with, tiny};
use pythia_task::ErrorKind;
use std::fs;
use std::time::{Duration, Instant};

/// What a server may say: a token, then commands to a terminal, a line break, another order, nothing to be seen. A header
/// holds only some of these.
const IN_HEADER: &str = "hf_aSecretOfTheTests\u{9b}31m\u{85}\u{202e}\u{200b}\u{e0041}";
const IN_BODY: &str = "hf_aSecretOfTheTests\u{1b}[2J\nFORGED\t\u{7f}\u{9b}31m\u{2028}\u{202e}\u{200b}\u{e0041}";

fn header(name: &'static str, value: String) -> Fault {
    Fault::Header(name, Box::leak(value.into_boxed_str()))
}

fn status(status: u16, name: &'static str, value: String) -> Fault {
    let value: &'static str = Box::leak(value.into_boxed_str());
    Fault::Status(status, Box::leak(Box::new([(name, value)])))
}

fn body(value: &serde_json::Value) -> Fault {
    Fault::Body(value.to_string().into_bytes())
}

#[test]
fn what_a_server_says_is_shown_without_the_token_and_without_hazards() {
    use serde_json::json;
    let long = |before: usize| format!("{}{IN_BODY}", "x".repeat(before));
    let cases = [
        ("/revision/", status(403, "X-Error-Message", format!("no: {IN_HEADER}"))),
        // Cut in the middle of it.
        ("/revision/", status(403, "X-Error-Message", format!("{}{TOKEN}", "x".repeat(90)))),
        ("/revision/", status(418, "X-Error-Message", TOKEN.to_owned())),
        ("/revision/", status(418, "X-Error-Message", IN_HEADER.to_owned())),
        ("/revision/", status(302, "Location", format!("ftp://{TOKEN}@example.org/{TOKEN}"))),
        ("/revision/", status(302, "Location", format!("/{TOKEN}/x"))),
        ("/revision/", body(&json!({ "sha": IN_BODY }))),
        ("/revision/", body(&json!({ "sha": long(90) }))),
        ("/revision/", Fault::Body(long(0).into_bytes())),
        ("/revision/", body(&json!({ IN_BODY: 1 }))),
        ("/revision/", body(&json!([IN_BODY]))),
        ("/tree/", body(&json!([{ "type": IN_BODY, "path": IN_BODY }]))),
        ("/tree/", body(&json!([{ "type": "file", "path": TOKEN, "size": IN_BODY }]))),
        ("/tree/", body(&json!({ IN_BODY: IN_BODY }))),
        ("/tree/", header("Link", format!("<http://127.0.0.1:9/{TOKEN}>; rel=\"next\""))),
        ("/tree/", header("Link", format!("<{IN_HEADER}>; rel=\"next\""))),
        ("/config.json", header("ETag", format!("\"{TOKEN}\""))),
        ("/config.json", header("Content-Length", TOKEN.to_owned())),
        ("/blob/", status(206, "Content-Range", IN_HEADER.to_owned())),
        ("/blob/", status(500, "Retry-After", TOKEN.to_owned())),
        ("/refs", body(&json!({ "branches": [{ "name": IN_BODY }] }))),
    ];
    for (part, fault) in cases {
        let hub = hub_with(tiny());
        let shown = format!("{fault:?}");
        hub.fault(part, 9, fault);
        let client = Client::new(&hub).with("HF_TOKEN", TOKEN);
        let id = if part == "/refs" { format!("{ID}@none") } else { ID.to_owned() };
        let message = client.fetch(&id).map_or_else(|e| e.to_string(), |_| String::new());
        let said = format!("{message}{}", client.log.notes().replace('\n', ""));
        assert!(!said.contains("Secret") && !said.contains("hf_a"), "{shown}: {said}");
        assert!(!said.chars().any(|c| pythia_text::hazard(c).is_some()), "{shown}: {said:?}");
    }
    // A file that is checked, and right, and names what is none.
    let index = json!({ "weight_map": { "a": IN_BODY } }).to_string();
    let hub = hub_with(files([("config.json", b"{}"), ("model.safetensors.index.json", index.as_bytes())]));
    let message = Client::new(&hub).with("HF_TOKEN", TOKEN).fails(ID, ErrorKind::Data);
    assert!(message.contains(r#""[token]\u{1b}[2J\nFORGED"#), "{message}");
    // A name that would be one, and would stand in the cache and in every message about the file.
    let shard = format!("{TOKEN}.safetensors");
    let index = json!({ "weight_map": { "a": shard } }).to_string();
    let index = index.as_bytes();
    let hub = hub_with(files([("config.json", b"{}"), ("model.safetensors.index.json", index), (&shard, b"weights")]));
    let message = Client::new(&hub).with("HF_TOKEN", TOKEN).fails(ID, ErrorKind::Data);
    assert!(message.contains(r#""[token].safetensors" is not the name"#), "{message}");
}

#[test]
fn a_server_that_sends_a_byte_now_and_then_is_given_up() {
    let hub = hub_with(tiny());
    hub.set_rate(400);
    let client = Client::new(&hub).with("PYTHIA_HUB_MIN_RATE", "100000").with("HF_HUB_DOWNLOAD_TIMEOUT", "1");
    let start = Instant::now();
    let message = client.fails(ID, ErrorKind::Io);
    let slow = ["model.safetensors: too slow, ", "wanted 100000 per second after ", "(given up after 5 tries)"];
    assert!(slow.iter().all(|part| message.contains(part)), "{message}");
    assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
    let kept = fs::metadata(client.repo().join("blobs").join(&client.incomplete()[0])).unwrap().len();
    assert!(kept > 2000, "each try goes on where the one before was: {kept}");
}

#[test]
fn a_list_of_files_is_no_more_than_its_pages_should_hold() {
    let hub = hub_with(tiny());
    let entries = |n: usize| {
        let entry = |i: usize| format!(r#"{{"type":"file","path":"f{i}","size":1,"oid":"{i:040x}"}}"#);
        format!("[{}]", (0..n).map(entry).collect::<Vec<_>>().join(",")).into_bytes()
    };
    hub.fault("/tree/", 1, Fault::Body(entries(20_001)));
    let message = Client::new(&hub).fails(ID, ErrorKind::Data);
    assert!(message.contains("it has more than 20000 entries"), "{message}");
    hub.fault("/tree/", 1, Fault::Body(entries(19_999)));
    assert!(Client::new(&hub).fails(ID, ErrorKind::Io).contains("no config.json"));
}

#[cfg(unix)]
#[test]
fn nothing_is_written_through_a_link_in_the_cache() {
    let hub = hub_with(tiny());
    hub.fault("/blob/", usize::MAX, Fault::Drop(100_000));
    let client = Client::new(&hub);
    client.fails(ID, ErrorKind::Io);
    let partial = client.repo().join("blobs").join(&client.incomplete()[0]);
    let theirs = client.dir.path().join("theirs");
    fs::write(&theirs, "not ours").unwrap();
    fs::remove_file(&partial).unwrap();
    std::os::unix::fs::symlink(&theirs, &partial).unwrap();
    hub.heal();
    client.fetch(ID).unwrap();
    assert_eq!(fs::read(&theirs).unwrap(), b"not ours");
    client.check_cache();
}

#[cfg(unix)]
#[test]
fn files_of_the_cache_have_the_rights_that_umask_leaves() {
    use std::os::unix::fs::PermissionsExt;
    let hub = hub_with(tiny());
    let client = Client::new(&hub);
    client.fetch(ID).unwrap();
    // What any file made here has.
    let plain = client.dir.path().join("plain");
    fs::write(&plain, "").unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let reference = client.repo().join("refs/main");
    let blobs = client.blobs().into_iter().map(|name| client.repo().join("blobs").join(name));
    for path in blobs.chain([reference]) {
        assert_eq!(mode(&path), mode(&plain), "{}", path.display());
    }
}

/// The program itself says it, too.
#[test]
fn the_program_shows_neither_token_nor_hazards() {
    let dir = tempfile::tempdir().unwrap();
    let hub = FakeHub::start(vec![Repo::new("EleutherAI/pythia-70m", tiny())]);
    hub.fault("/revision/", 1, status(403, "X-Error-Message", format!("{TOKEN} is not enough")));
    let outcome = super::cli::run_with_token(&hub, dir.path(), TOKEN);
    assert!(outcome.stderr.contains("forbids it: \"[token] is not"), "{outcome:?}");
    assert!(!outcome.stderr.trim_end().chars().any(|c| pythia_text::hazard(c).is_some()), "{outcome:?}");
}
