//! Lists of many revisions: what is asked, what is found, what is flagged, and what a server may not do.

use super::server::{FakeHub, Fault, Files, Repo, TOKEN, commit, git_sha1, sha256};
use super::{Client, ID, files, noise, tiny};
use pythia_hub::{Error, Listed, ModelId, Revisions, Settings, published_steps, suite, survey};
use pythia_task::{ErrorKind, Progress};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

fn list_with(client: &Client, settings: &Settings, id: &str, revisions: &Revisions) -> Result<Vec<Listed>, Error> {
    let id = ModelId::parse(id).unwrap().unwrap();
    survey(settings, &id, revisions, &client.cancel, Arc::clone(&client.log) as Arc<dyn Progress>)
}

fn list(client: &Client, revisions: &Revisions) -> Result<Vec<Listed>, Error> {
    list_with(client, &client.settings(), ID, revisions)
}

fn named<const N: usize>(names: [&str; N]) -> Revisions {
    Revisions::Named(names.map(str::to_owned).into())
}

/// A checkpoint with these bytes as weights.
fn with_weights(seed: u32) -> Files {
    let mut files = files([("config.json", b"{}"), ("tokenizer.json", b"{ }"), ("optimizer.pt", b"")]);
    files.insert("model.safetensors".to_owned(), noise(seed, 100).into());
    files
}

/// A server with these revisions of [`ID`].
fn hub_of(branches: impl IntoIterator<Item = (&'static str, Files)>) -> FakeHub {
    let mut repo = Repo::new(ID, with_weights(0));
    repo.branches.extend(branches.into_iter().map(|(name, files)| (name.to_owned(), files)));
    FakeHub::start(vec![repo])
}

fn weights(listed: &Listed) -> Vec<(&str, &str)> {
    listed.files.iter().filter(|file| file.is_weights).map(|file| (&*file.name, &*file.digest)).collect()
}

fn body(value: &Value) -> Fault {
    Fault::Body(value.to_string().into_bytes())
}

#[test]
fn revisions_with_the_same_weights_are_told_by_the_list_alone() {
    let readme = |text: &[u8]| {
        let mut files = with_weights(7);
        files.insert("README.md".to_owned(), Arc::new(text.to_vec()));
        files
    };
    let hub = hub_of([
        ("step1000", readme(b"1")),
        ("step2000", with_weights(2)),
        ("step10000", readme(b"10")),
        ("step3", with_weights(3)),
        ("step0", with_weights(1)),
        ("step143000", with_weights(7)),
        // None of these is a step.
        ("step", with_weights(4)),
        ("step01", with_weights(4)),
        ("step-1", with_weights(4)),
        ("step4-old", with_weights(4)),
        ("Step5", with_weights(4)),
        ("step99999999999", with_weights(4)),
    ]);
    let client = Client::new(&hub);
    let all = list(&client, &Revisions::AllSteps).unwrap();
    let names: Vec<&str> = all.iter().map(|listed| &*listed.revision).collect();
    assert_eq!(names, ["step0", "step3", "step1000", "step2000", "step10000", "step143000"]);
    assert!(all.iter().all(|listed| listed.problem.is_none() && listed.warning.is_none()));
    assert_eq!(all[0].commit, commit(&with_weights(1)));

    let same = format!("sha256:{}", sha256(&noise(7, 100)));
    let have_it = |listed: &&Listed| weights(listed) == [("model.safetensors", &*same)];
    let those: Vec<&str> = all.iter().filter(have_it).map(|listed| &*listed.revision).collect();
    assert_eq!(those, ["step1000", "step10000", "step143000"]);
    let files: Vec<_> = all[2].files.iter().map(|file| (&*file.name, file.bytes, file.is_weights)).collect();
    let wanted = [
        ("README.md", 1, false),
        ("config.json", 2, false),
        ("model.safetensors", 100, true),
        ("tokenizer.json", 3, false),
    ];
    assert_eq!(files, wanted);
    assert_eq!(all[2].files[1].digest, format!("git-sha1:{}", git_sha1(b"{}")));

    let requests = hub.take_requests();
    assert!(requests.iter().all(|request| request.path.contains("/refs") || request.path.contains("/tree/")));
    assert_eq!(requests.len(), 1 + 6);
    assert!(!client.repo().exists(), "nothing is written");
    assert_eq!(client.log.total.load(Ordering::Relaxed), 6);
    assert_eq!(client.log.done.load(Ordering::Relaxed), 6);
}

#[test]
fn what_is_no_checkpoint_is_flagged_and_the_rest_is_listed() {
    let hub = hub_of([
        ("step1", files([("config.json", b"{}")])),
        ("step2", files([("a.txt", b"")])),
        ("step4", with_weights(4)),
    ]);
    let none = "0123456789abcdef0123456789abcdef01234567";
    let client = Client::new(&hub);
    let all = list(&client, &named(["main", "step1", "step2", "step3", none, "step4"])).unwrap();
    let problem = |n: usize| all[n].problem.as_deref().unwrap_or_default();
    assert!(problem(1).starts_with("has no weights at this revision, wanted one of model.safetensors"), "{all:?}");
    assert!(problem(2).starts_with("has no config.json"), "{all:?}");
    assert_eq!(problem(3), "no such branch, tag or commit");
    assert!(problem(4).starts_with(&format!("no revision \"{none}\"")), "{all:?}");
    assert_eq!((&*all[3].commit, &*all[4].commit), ("", none));
    assert!(all[1..5].iter().all(|listed| listed.files.is_empty()));
    assert!([0, 5].into_iter().all(|n| all[n].problem.is_none() && all[n].files.len() == 3));
    assert_eq!(client.log.done.load(Ordering::Relaxed), 6);
}

#[test]
fn the_suite_is_known_to_a_survey() {
    let mut repo = Repo::new("EleutherAI/pythia-160m", with_weights(0));
    repo.branches.insert("step1".to_owned(), with_weights(1));
    let hub = FakeHub::start(vec![repo]);
    let client = Client::new(&hub);
    let list = |id| list_with(&client, &client.settings(), id, &named(["step1", "step3", "main"])).unwrap();
    // Its name until 2023, and a revision, which is not looked at.
    let all = list("EleutherAI/pythia-125m@step3001");
    assert!(client.log.notes().contains("renamed to pythia-160m"));
    assert!(all[0].warning.as_ref().unwrap().starts_with("step1 is reported to hold the same weights as step0"));
    assert!(all[1].problem.as_ref().unwrap().contains("the nearest are step2 and step4"), "{all:?}");
    assert_eq!((&all[2].warning, &all[2].problem), (&None, &None));
}

#[test]
fn names_may_be_tags_commits_and_pull_requests() {
    let hub = hub_of([("step1", with_weights(1)), ("refs/pr/1", with_weights(2)), ("hidden", with_weights(3))]);
    let client = Client::new(&hub);
    let [one, pull, hidden] = [1, 2, 3].map(|seed| commit(&with_weights(seed)));
    // A server lists neither pull requests nor commits.
    let refs = body(&json!({
        "branches": [{ "name": "step1", "targetCommit": one }, { "name": "v1", "targetCommit": one }],
        "tags": [{ "name": "v2", "targetCommit": hidden }, { "name": "v1", "targetCommit": hidden }],
    }));
    hub.fault("/refs", 1, refs);
    let names = ["v2", "step1", "refs/pr/1", &hidden, "v1", "step1", "refs/pr/2"];
    let all = list(&client, &named(names)).unwrap();
    let found: Vec<_> = all.iter().map(|listed| (&*listed.revision, &*listed.commit)).collect();
    let commits = [&*hidden, &one, &pull, &hidden, &one, &one, ""];
    assert_eq!(found, names.into_iter().zip(commits).collect::<Vec<_>>());
    assert!(all[6].problem.as_ref().unwrap().starts_with("no revision \"refs/pr/2\""), "{all:?}");
    assert!(all[..6].iter().all(|listed| listed.files.len() == 3));
    let paths = hub.take_requests().into_iter().map(|request| request.path);
    assert_eq!(paths.filter(|path| path.contains("/tree/")).count(), 3, "each commit once");
    for wrong in ["", "../x", "a b", "-x", "x\n", "a//b"] {
        let error = list(&client, &named([wrong])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{wrong}");
        assert!(!error.to_string().contains('\n'));
    }
    assert_eq!(hub.take_requests().len(), 0);
}

#[test]
fn shards_are_found_without_their_index() {
    let with = |names: &[&str]| {
        let mut all = files([("config.json", b"{}"), ("model-00001-of-00009.txt", b"")]);
        all.extend(names.iter().enumerate().map(|(n, name)| ((*name).to_owned(), noise(n as u32, 50).into())));
        all
    };
    let index = "pytorch_model.bin.index.json";
    let [one, two] = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"];
    let hub = hub_of([
        ("step1", with(&[index, one, two, "pytorch_model-extra.bin", "model-00001-of-00001.safetensors"])),
        ("step2", with(&[index, two])),
        ("step4", with(&[index, "w-1.bin", "w-2.bin"])),
        // Whole weights are taken first.
        ("step8", with(&["model.safetensors", "model.safetensors.index.json", "model-00001-of-00001.safetensors"])),
        ("step16", with(&["model.safetensors.index.fp16.json", "model.fp16-00001-of-00001.safetensors"])),
    ]);
    let client = Client::new(&hub);
    let all = list(&client, &Revisions::AllSteps).unwrap();
    let names = |n: usize| all[n].files.iter().map(|file| (&*file.name, file.is_weights)).collect::<Vec<_>>();
    assert_eq!(names(0), [("config.json", false), (one, true), (two, true), (index, false)]);
    assert_eq!(all[1].problem.as_deref(), Some("has 1 of 2 shards of pytorch_model.bin.index.json"));
    let unknown = "has no shard of pytorch_model.bin.index.json that can be told by its name";
    assert_eq!(all[2].problem.as_deref(), Some(unknown));
    assert_eq!(names(3), [("config.json", false), ("model.safetensors", true)]);
    let variants = all[4].problem.as_deref().unwrap();
    assert!(variants.contains("has only variants of weights (fp16)"), "{variants}");
    assert_eq!(hub.take_requests().len(), 1 + 5);

    let settings = Settings { variant: Some("fp16".to_owned()), ..client.settings() };
    let all = list_with(&client, &settings, ID, &named(["step16", "step8"])).unwrap();
    assert_eq!(
        weights(&all[0]).iter().map(|found| found.0).collect::<Vec<_>>(),
        ["model.fp16-00001-of-00001.safetensors"]
    );
    assert!(all[1].problem.as_ref().unwrap().contains("wanted one of model.fp16.safetensors"), "{all:?}");
    let settings = Settings { variant: Some("../x".to_owned()), ..client.settings() };
    assert_eq!(list_with(&client, &settings, ID, &Revisions::AllSteps).unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn a_repository_that_is_closed_or_missing_is_an_error() {
    let mut repo = Repo::new(ID, tiny());
    repo.guard = Some("GatedRepo");
    let hub = FakeHub::start(vec![repo]);
    let message = list(&Client::new(&hub), &Revisions::AllSteps).unwrap_err().to_string();
    assert!(message.contains("gated: accept its conditions at http://"), "{message}");
    assert_eq!(hub.take_requests().len(), 1);
    let client = Client::new(&hub).with("HF_TOKEN", TOKEN);
    assert_eq!(list(&client, &Revisions::AllSteps).unwrap(), [], "it has no steps");
    assert_eq!(list(&client, &named(["main"])).unwrap().len(), 1);
    let error = list_with(&client, &client.settings(), "someone/other", &Revisions::AllSteps).unwrap_err();
    assert!(error.kind() == ErrorKind::Io && error.to_string().contains("no such repository"), "{error}");
}

#[test]
fn a_sweep_over_the_suite_asks_once_for_each_commit() {
    let mut seed = 0;
    let repos = suite().into_iter().map(|id| {
        let mut repo = Repo::new(&id.repo(), with_weights(seed));
        for step in published_steps() {
            // In the suite, the last step is also `main`.
            seed += u32::from(step != 0);
            let files = files([("config.json", b"{}"), ("model.safetensors", &seed.to_le_bytes())]);
            repo.branches.insert(format!("step{step}"), files.clone());
            repo.branches.insert("main".to_owned(), files);
        }
        repo
    });
    let hub = FakeHub::start(repos.collect());
    let client = Client::new(&hub);
    let mut n_revisions = 0;
    for id in suite() {
        let all = list_with(&client, &client.settings(), &id.to_string(), &Revisions::AllSteps).unwrap();
        let steps = all.iter().map(|listed| listed.revision[4..].parse::<u32>().unwrap());
        assert!(steps.eq(published_steps()) && all.iter().all(|listed| listed.problem.is_none()), "{id}");
        n_revisions += all.len();
    }
    assert_eq!(n_revisions, 2464);
    assert_eq!(hub.take_requests().len(), 16 + n_revisions);
    assert!(hub.connections() <= 16 * 9, "{} connections", hub.connections());
    assert_eq!(client.log.done.load(Ordering::Relaxed), 2464);
}

#[test]
fn a_busy_server_is_asked_again_and_a_broken_one_is_given_up() {
    let hub = hub_of([("step1", with_weights(1)), ("step2", with_weights(2))]);
    let client = Client::new(&hub);
    hub.fault("/refs", 1, Fault::Status(503, &[]));
    hub.fault("/tree/", 3, Fault::Status(429, &[("Retry-After", "0")]));
    assert_eq!(list(&client, &Revisions::AllSteps).unwrap().len(), 2);
    assert!(client.log.notes().contains("answered 429"), "{}", client.log.notes());
    hub.fault("/tree/", usize::MAX, Fault::Status(500, &[]));
    let error = list(&client, &Revisions::AllSteps).unwrap_err();
    assert!(error.kind() == ErrorKind::Io && error.to_string().contains("given up after 5 tries"), "{error}");
}

#[test]
fn a_survey_can_be_cancelled() {
    let hub = hub_of([("step1", with_weights(1)), ("step2", with_weights(2))]);
    hub.fault("/tree/", 9, Fault::Stall(10, Duration::from_secs(20)));
    let client = Client::new(&hub).with("HF_HUB_ETAG_TIMEOUT", "30");
    let start = Instant::now();
    thread::scope(|scope| {
        let survey = scope.spawn(|| list(&client, &Revisions::AllSteps).unwrap_err());
        while client.log.total.load(Ordering::Relaxed) == 0 {
            thread::sleep(Duration::from_millis(5));
        }
        client.cancel.raise();
        assert_eq!(survey.join().unwrap().kind(), ErrorKind::Cancelled);
    });
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn offline_the_cache_is_listed() {
    let hub = hub_of([("step1", with_weights(1)), ("step2", with_weights(2)), ("step4", with_weights(4))]);
    let online = Client::new(&hub);
    let client = Client { variables: online.variables.clone(), ..online }.with("HF_HUB_OFFLINE", "1");
    let error = list(&client, &Revisions::AllSteps).unwrap_err().to_string();
    assert!(error.contains("offline, and the cache ") && error.ends_with(" has no step of it"), "{error}");

    let online = Settings { offline: false, ..client.settings() };
    for revision in ["step4", "step1", "main"] {
        let id = ModelId::parse(&format!("{ID}@{revision}")).unwrap().unwrap();
        pythia_hub::fetch(&online, &id, &client.cancel, client.log.clone()).unwrap();
    }
    let wanted = list_with(&client, &online, ID, &named(["step1", "step4"])).unwrap();
    hub.take_requests();
    assert_eq!(list(&client, &Revisions::AllSteps).unwrap(), wanted);
    assert_eq!(list(&client, &named(["step1", "step4"])).unwrap(), wanted);
    let by_commit = list(&client, &named([&wanted[0].commit])).unwrap();
    assert_eq!(by_commit[0].files, wanted[0].files);
    let error = list(&client, &named(["step1", "step2"])).unwrap_err().to_string();
    assert!(error.starts_with("someone/tiny@step2: offline, and not in the cache "), "{error}");
    let id = ModelId::parse(ID).unwrap().unwrap();
    pythia_hub::evict(&online, &id, &wanted[1].commit).unwrap();
    assert_eq!(list(&client, &Revisions::AllSteps).unwrap(), wanted[..1]);
    assert!(
        client.log.notes().contains("offline, 1 of 2 steps in the cache are checkpoints"),
        "{}",
        client.log.notes()
    );
    assert_eq!(hub.take_requests().len(), 0);
}

#[test]
fn names_that_a_server_lists_are_not_believed() {
    let sha = "a".repeat(40);
    let branch = |name: &str| json!({ "name": name, "targetCommit": commit(&with_weights(0)) });
    let hub = hub_of([]);
    let client = Client::new(&hub);
    let strange = ["../step1", "step1/../../x", "step1\u{1b}[2J", "step1\n", "step\u{0661}", "", "step1 ", TOKEN];
    let branches: Vec<Value> = strange.into_iter().chain(["step8", "step8"]).map(branch).collect();
    hub.fault("/refs", 1, body(&json!({ "branches": branches, "tags": [branch("step9"), branch("/")] })));
    let all = list(&client, &Revisions::AllSteps).unwrap();
    assert_eq!(all.iter().map(|listed| &*listed.revision).collect::<Vec<_>>(), ["step8"], "branches only, and once");

    let file = |name: &str, digest: &str| json!({ "type": "file", "path": name, "size": 1, "oid": sha, "lfs": { "oid": digest, "size": 7 } });
    let [a, b] = ["a", "b"].map(|digit| digit.repeat(64));
    let config = json!({ "type": "file", "path": "config.json", "size": 2, "oid": sha });
    for (entries, problem) in [
        (vec![file("model.safetensors", &a), file("../model.safetensors", &b), file("README.md\u{1b}", &b)], None),
        (vec![file("model.safetensors", &b), file("model.safetensors", &a)], None),
        (vec![file("model.safetensors", "../../x")], Some("the list of files gives no digest of the right form")),
        (vec![file("./model.safetensors", &a)], Some("has no weights at this revision")),
        (vec![file("model.\u{202e}\u{1b}.safetensors", &a)], Some("has no weights at this revision")),
    ] {
        hub.fault("/tree/", 1, body(&Value::from([entries, vec![config.clone()]].concat())));
        let all = list(&client, &named(["main"])).unwrap();
        let found = all[0].problem.as_deref();
        assert!(
            found.is_some() == problem.is_some() && found.unwrap_or_default().starts_with(problem.unwrap_or_default()),
            "{found:?}"
        );
        if problem.is_none() {
            assert_eq!(all[0].files.len(), 2, "{all:?}");
            assert_eq!(
                weights(&all[0]),
                [("model.safetensors", &*format!("sha256:{a}"))],
                "the last of two, as for a download"
            );
        }
    }
}

#[test]
fn lists_that_are_wrong_are_errors() {
    let hub = hub_of([]);
    let client = Client::new(&hub);
    let refs = |n: usize| {
        let entry = |i: usize| json!({ "name": format!("x{i}"), "targetCommit": format!("{i:040x}") });
        body(&json!({ "branches": (0..n).map(entry).collect::<Vec<_>>() }))
    };
    let branch = |name: &str, commit: &str| json!({ "name": name, "targetCommit": commit });
    let [a, b] = ["a", "b"].map(|digit| digit.repeat(40));
    for (part, fault, message) in [
        ("/refs", refs(20_001), "it has more than 20000 entries"),
        ("/refs", Fault::Body(vec![b' '; (8 << 20) + 1]), "more than 8388608 bytes"),
        ("/refs", body(&json!({ "tags": [] })), "missing field `branches`"),
        ("/refs", body(&json!([])), "not the JSON expected"),
        ("/refs", body(&json!({ "branches": {} })), "not the JSON expected"),
        ("/refs", body(&json!({ "branches": [{ "name": 5, "targetCommit": a }] })), "not the JSON expected"),
        ("/refs", body(&json!({ "branches": [branch("step1", "../../x")] })), "gives step1 the commit \"../../x\""),
        ("/refs", body(&json!({ "branches": [{ "name": "step1" }] })), "gives step1 the commit \"\""),
        ("/refs", body(&json!({ "branches": [branch("step1", &a), branch("step1", &b)] })), "gives step1 two commits"),
        ("/tree/", Fault::Body(b"[{".to_vec()), "not the JSON expected"),
        ("/tree/", body(&json!([{ "type": "file", "path": "x", "size": -1 }])), "not the JSON expected"),
        ("/tree/", body(&json!({ "error": "x" })), "not the JSON expected"),
        ("/tree/", Fault::Header("Link", "<http://127.0.0.1:9/x>; rel=\"next\""), "another server"),
        ("/tree/", Fault::Status(403, &[("X-Error-Message", "no")]), "the server forbids it: \"no\""),
    ] {
        hub.fault(part, 1, fault);
        let error = list(&client, &named(["main"])).unwrap_err().to_string();
        assert!(error.contains(message) && !error.contains('\n'), "{message}: {error}");
        hub.heal();
    }
    hub.fault("/refs", 1, refs(20_000));
    let all = list(&client, &named(["main"])).unwrap();
    assert_eq!(all[0].problem.as_deref(), Some("no such branch, tag or commit"));
    // A list that never ends.
    let next = format!("<{}/api/models/{ID}/tree/{}>; rel=\"next\"", hub.endpoint(), commit(&with_weights(0)));
    hub.fault("/tree/", usize::MAX, Fault::Header("Link", Box::leak(next.into_boxed_str())));
    let error = list(&client, &named(["main"])).unwrap_err().to_string();
    assert!(error.contains("more than 20 pages"), "{error}");
}
