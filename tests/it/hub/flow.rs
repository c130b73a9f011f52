//! Downloads that go well: what is asked, what is stored, what is not asked again.

use super::server::{FakeHub, Files, Repo, TOKEN, commit, git_sha1, sha256};
use super::{Client, ID, WEIGHTS_BYTES, files, hub_with, noise, tiny};
use crate::common;
use pythia_checkpoint::Checkpoint;
use pythia_hub::Snapshot;
use pythia_task::ErrorKind;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[test]
fn what_is_downloaded_lies_where_every_tool_looks() {
    let hub = hub_with(tiny());
    let client = Client::new(&hub);
    let snapshot = client.fetch(ID).unwrap();
    assert_eq!(snapshot.commit, commit(&tiny()));
    assert_eq!(snapshot.path, client.repo().join("snapshots").join(&snapshot.commit));
    let wanted = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    assert_eq!(common::names(&snapshot.path), wanted, "nothing else is wanted");
    let mut blobs = Vec::new();
    for name in wanted {
        let bytes = &tiny()[name];
        assert_eq!(fs::read(snapshot.path.join(name)).unwrap(), **bytes);
        let blob = if name == "model.safetensors" { sha256(bytes) } else { git_sha1(bytes) };
        assert_eq!(fs::read_link(snapshot.path.join(name)).unwrap(), Path::new("../../blobs").join(&blob));
        blobs.push(blob);
    }
    blobs.sort();
    assert_eq!(client.blobs(), blobs);
    assert_eq!(fs::read_to_string(client.repo().join("refs/main")).unwrap(), snapshot.commit);
    let absent = client.repo().join(".no_exist").join(&snapshot.commit);
    assert_eq!(common::names(&absent), ["README.md"]);
    let tag = fs::read_to_string(client.dir.path().join("hub/CACHEDIR.TAG")).unwrap();
    assert!(tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55\n"));
    let lock = client.dir.path().join("hub/.locks/models--someone--tiny").join(format!("{}.lock", blobs[0]));
    assert!(lock.exists());
    assert_eq!(client.log.total.load(Ordering::Relaxed), client.log.done.load(Ordering::Relaxed));
    assert_eq!(client.log.notes(), "");
    // The revision, the list, four files, one of them by way of the content network.
    assert_eq!(hub.take_requests().len(), 2 + 4 + 1);
}

#[test]
fn what_is_there_is_not_asked_for_again() {
    let hub = hub_with(tiny());
    let client = Client::new(&hub);
    let first = client.fetch(ID).unwrap();
    assert!(first.downloaded);
    let first = Snapshot { downloaded: false, ..first };
    hub.take_requests();
    assert_eq!(client.fetch(ID).unwrap(), first);
    assert_eq!(hub.take_requests().len(), 1, "what main is now");
    assert_eq!(client.fetch(&format!("{ID}@{}", first.commit)).unwrap().path, first.path);
    let offline = client.with("HF_HUB_OFFLINE", "1");
    assert_eq!(offline.fetch(ID).unwrap(), first);
    assert_eq!(hub.take_requests().len(), 0, "a commit never changes, and offline is offline");
}

#[test]
fn offline_is_offline() {
    let hub = hub_with(tiny());
    let client = Client::new(&hub).with("TRANSFORMERS_OFFLINE", "1");
    let message = client.fails(ID, ErrorKind::Io);
    assert!(message.starts_with("someone/tiny: offline, and not in the cache "), "{message}");
    let client = Client { variables: client.variables.into_iter().skip(1).collect(), ..client };
    let snapshot = Snapshot { downloaded: false, ..client.fetch(ID).unwrap() };
    fs::remove_file(snapshot.path.join("tokenizer.json")).unwrap();
    let client = client.with("HF_HUB_OFFLINE", "1");
    assert_eq!(client.fetch(ID).unwrap(), snapshot, "enough of a checkpoint");
    fs::remove_file(snapshot.path.join("model.safetensors")).unwrap();
    hub.take_requests();
    let message = client.fails(ID, ErrorKind::Io);
    assert!(message.contains("offline, and ") && message.contains(" lacks the weights"), "{message}");
    assert_eq!(hub.take_requests().len(), 0);
}

#[test]
fn without_an_answer_the_cache_is_taken() {
    let hub = hub_with(tiny());
    let client = Client::new(&hub);
    let snapshot = Snapshot { downloaded: false, ..client.fetch(ID).unwrap() };
    // Nobody listens there.
    let client = client.with("HF_ENDPOINT", "http://127.0.0.1:9");
    assert_eq!(client.fetch(ID).unwrap(), snapshot);
    assert!(client.log.notes().contains(&format!("using commit {} from the cache", snapshot.commit)));
    let message = client.fails("someone/other", ErrorKind::Io);
    assert!(message.contains("http://127.0.0.1:9/") && message.contains("given up after 5 tries"), "{message}");
}

#[test]
fn only_what_changed_is_downloaded() {
    let hub = hub_with(tiny());
    let client = Client::new(&hub);
    let old = client.fetch(ID).unwrap();
    let mut changed = tiny();
    changed.extend(files([("config.json", b"{\"new\": 1}")]));
    hub.push(ID, "main", changed.clone());
    hub.take_requests();
    let new = client.fetch(ID).unwrap();
    assert!(!new.downloaded, "no weights");
    assert_eq!(new.commit, commit(&changed));
    let paths: Vec<String> = hub.take_requests().into_iter().map(|request| request.path).collect();
    assert!(paths.len() == 3 && paths[2].ends_with("/config.json"), "{paths:?}");
    assert_eq!(fs::read(old.path.join("config.json")).unwrap(), b"{}", "the old snapshot is as it was");
    assert_eq!(fs::read(new.path.join("config.json")).unwrap(), b"{\"new\": 1}");
    client.check_cache();
}

#[test]
fn other_ways_to_store_weights() {
    let index =
        |end: &str| format!(r#"{{"weight_map": {{"a": "w-1{end}", "b": "w-2{end}", "c": "w-2{end}"}}}}"#).into_bytes();
    let common = files([("config.json", b"{}")]);
    let with = |more: &[(&str, Vec<u8>)]| {
        let mut all = common.clone();
        all.extend(more.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone().into())));
        all
    };
    let sharded = with(&[
        ("model.safetensors.index.json", index(".safetensors")),
        ("w-1.safetensors", noise(1, 1000)),
        ("w-2.safetensors", noise(2, 1000)),
        ("pytorch_model.bin", noise(3, 1000)),
    ]);
    let pickle = with(&[("pytorch_model.bin", noise(3, 1000))]);
    let pickles =
        with(&[("pytorch_model.bin.index.json", index(".bin")), ("w-1.bin", noise(4, 10)), ("w-2.bin", noise(5, 10))]);
    let cases: [(&str, &Files, &[&str]); 3] = [
        ("sharded", &sharded, &["config.json", "model.safetensors.index.json", "w-1.safetensors", "w-2.safetensors"]),
        ("pickle", &pickle, &["config.json", "pytorch_model.bin"]),
        ("pickles", &pickles, &["config.json", "pytorch_model.bin.index.json", "w-1.bin", "w-2.bin"]),
    ];
    let hub = hub_with(tiny());
    let client = Client::new(&hub);
    for (branch, files, wanted) in cases {
        hub.push(ID, branch, files.clone());
        let id = format!("{ID}@{branch}");
        let snapshot = client.fetch(&id).unwrap();
        assert_eq!(common::names(&snapshot.path), wanted, "{branch}");
        hub.take_requests();
        assert_eq!(client.fetch(&format!("{ID}@{}", snapshot.commit)).unwrap().path, snapshot.path);
        assert_eq!(hub.take_requests().len(), 0, "{branch}: complete");
    }
    let mut incomplete = sharded.clone();
    incomplete.remove("w-2.safetensors");
    hub.push(ID, "incomplete", incomplete);
    let message = client.fails(&format!("{ID}@incomplete"), ErrorKind::Data);
    assert!(message.contains("the index names w-2.safetensors, which the repository does not have"), "{message}");
    for (branch, files, part) in [
        ("weightless", common, "has no weights at this revision"),
        ("foreign", files([("a.txt", b"")]), "has no config.json"),
    ] {
        hub.push(ID, branch, files);
        let message = client.fails(&format!("{ID}@{branch}"), ErrorKind::Io);
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn the_token_goes_to_the_hub_alone() {
    let mut repo = Repo::new(ID, tiny());
    repo.guard = Some("GatedRepo");
    let hub = FakeHub::start(vec![repo]);
    let message = Client::new(&hub).fails(ID, ErrorKind::Io);
    assert!(message.contains("gated: accept its conditions at http://"), "{message}");
    assert!(message.contains("HF_TOKEN"), "{message}");
    let message = Client::new(&hub).with("HF_TOKEN", "hf_another").fails(ID, ErrorKind::Io);
    assert!(message.contains("the token in use has no access") && !message.contains("hf_another"), "{message}");
    hub.take_requests();
    let client = Client::new(&hub).with("HF_TOKEN", TOKEN);
    client.fetch(ID).unwrap();
    let requests = hub.take_requests();
    let wanted = format!("Bearer {TOKEN}");
    for request in &requests {
        let wanted = (!request.is_cdn).then_some(&*wanted);
        assert_eq!(request.header("authorization"), wanted, "{}", request.path);
        assert_eq!(request.header("user-agent"), Some(concat!("pythia-hub/", env!("CARGO_PKG_VERSION"))));
    }
    assert!(requests.iter().any(|request| request.is_cdn));
}

#[test]
fn a_mirror_may_have_a_path() {
    let hub = hub_with(tiny());
    hub.set_prefix("/mirrors/hf");
    let client = Client::at(&format!("{}//", hub.endpoint()));
    assert_eq!(client.fetch(ID).unwrap().commit, commit(&tiny()));
    assert!(hub.take_requests().iter().all(|request| request.is_cdn || request.path.starts_with("/mirrors/hf/")));
}

#[test]
fn revisions_with_slashes_are_one_part_of_an_address() {
    let hub = hub_with(tiny());
    hub.push(ID, "refs/pr/1", tiny());
    let client = Client::new(&hub);
    let snapshot = client.fetch(&format!("{ID}@refs/pr/1")).unwrap();
    assert!(hub.take_requests()[0].path.ends_with("/revision/refs%2Fpr%2F1"));
    assert_eq!(fs::read_to_string(client.repo().join("refs/refs/pr/1")).unwrap(), snapshot.commit);
}

#[test]
fn two_at_once_download_once() {
    let hub = hub_with(tiny());
    hub.set_rate(2_000_000);
    let client = Client::new(&hub);
    std::thread::scope(|scope| {
        let both = [scope.spawn(|| client.fetch(ID).unwrap()), scope.spawn(|| client.fetch(ID).unwrap())];
        let [first, second] = both.map(|thread| thread.join().unwrap());
        assert_eq!(first.path, second.path);
        assert!(first.downloaded != second.downloaded, "one of them");
    });
    let sent: usize = hub.take_requests().iter().filter(|request| request.is_cdn).map(|request| request.sent).sum();
    assert_eq!(sent, WEIGHTS_BYTES);
    client.check_cache();
}

#[test]
fn the_suite_is_known() {
    let hub = FakeHub::start(vec![Repo::new("EleutherAI/pythia-160m", tiny())]);
    let client = Client::new(&hub);
    let snapshot = client.fetch("EleutherAI/pythia-125m").unwrap();
    assert_eq!(snapshot.id.to_string(), "EleutherAI/pythia-160m");
    assert!(client.log.notes().contains("renamed to pythia-160m in January 2023"));
    hub.take_requests();
    let message = client.fails("EleutherAI/pythia-160m@step3001", ErrorKind::Usage);
    assert!(message.contains("the nearest are step3000 and step4000"), "{message}");
    assert_eq!(hub.take_requests().len(), 0);
}

/// What the Hub crate downloads and what the reader opens, in a repository and folder with several kinds of weights.
#[test]
fn the_weights_that_are_downloaded_are_those_that_are_read() {
    let kinds: [(&str, &str); 4] = [
        ("model.safetensors", "model.safetensors"),
        ("model.safetensors.index.json", "shard.safetensors"),
        ("pytorch_model.bin", "pytorch_model.bin"),
        ("pytorch_model.bin.index.json", "shard.bin"),
    ];
    let hub = hub_with(tiny());
    let client = Client::new(&hub);
    for set in 1..1 << kinds.len() {
        let mut files = Files::new();
        files.insert("config.json".to_owned(), fs::read(common::checkpoint().join("config.json")).unwrap().into());
        for (_, (name, weights)) in kinds.iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1) {
            let index = format!("{{\"weight_map\": {{\"a\": \"{weights}\"}}}}");
            files.insert((*name).to_owned(), Arc::new(index.into_bytes()));
            // No weights: the reader's error names the file that it took for such.
            files.insert((*weights).to_owned(), Arc::new(b"none".to_vec()));
        }
        hub.push(ID, "main", files.clone());
        let snapshot = client.fetch(ID).unwrap().path;
        let mut downloaded = common::names(&snapshot);
        downloaded.retain(|name| kinds.iter().any(|(_, weights)| name == weights));
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(folder.path().join(name), &*bytes).unwrap();
        }
        let message = Checkpoint::open(folder.path()).unwrap_err().to_string();
        let read = message.strip_prefix(folder.path().to_str().unwrap()).and_then(|rest| rest.split(':').next());
        assert_eq!(downloaded.iter().map(|name| format!("/{name}")).collect::<Vec<_>>(), read.as_slice(), "{message}");
    }
}

#[test]
fn a_variant_is_downloaded_by_its_name() {
    let mut files = tiny();
    let weights = files.remove("model.safetensors").unwrap();
    files.insert("model.fp16.safetensors".to_owned(), weights);
    let hub = hub_with(files);
    let client = Client::new(&hub);
    let message = client.fails(ID, ErrorKind::Io);
    assert!(message.contains("has only variants of weights (fp16); use --variant fp16"), "{message}");
    let fetch = |variant: &str| {
        let settings = pythia_hub::Settings { variant: Some(variant.to_owned()), ..client.settings() };
        let id = pythia_hub::ModelId::parse(ID).unwrap().unwrap();
        pythia_hub::fetch(&settings, &id, &pythia_task::Cancel::new(), client.log.clone())
    };
    let snapshot = Snapshot { downloaded: false, ..fetch("fp16").unwrap() };
    let wanted = ["config.json", "model.fp16.safetensors", "tokenizer.json", "tokenizer_config.json"];
    assert_eq!(common::names(&snapshot.path), wanted);
    hub.take_requests();
    assert_eq!(fetch("fp16").unwrap(), snapshot);
    assert_eq!(hub.take_requests().len(), 1, "what main is now");
    assert!(fetch("fp8").unwrap_err().to_string().contains("wanted one of model.fp8.safetensors"));
    for wrong in ["", "../x", "a/b", "a.b"] {
        assert_eq!(fetch(wrong).unwrap_err().kind(), ErrorKind::Usage, "{wrong}");
    }
}

#[test]
fn a_tokenizer_in_parts_is_downloaded_where_there_is_no_whole_one() {
    let mut files = tiny();
    files.remove("tokenizer.json");
    for name in ["vocab.json", "merges.txt"] {
        files.insert(name.to_owned(), Arc::new(b"{}".to_vec()));
    }
    let hub = hub_with(files);
    let client = Client::new(&hub);
    let snapshot = client.fetch(ID).unwrap();
    let names = common::names(&snapshot.path);
    assert_eq!(names[..3], ["config.json", "merges.txt", "model.safetensors"]);
    assert_eq!(names[3..], ["special_tokens_map.json", "tokenizer_config.json", "vocab.json"]);
}
