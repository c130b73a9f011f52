//! Weights are removed from the cache: those that were asked for, never those that something else needs.

use super::server::{FakeHub, Files, Repo, commit, sha256};
use super::{Client, ID, WEIGHTS_BYTES, files, hub_with, noise, tiny};
use crate::common;
use pythia_hub::{Error, ModelId, Settings};
use pythia_task::ErrorKind;
use std::fs::{self, File};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

const FREED: u64 = WEIGHTS_BYTES as u64;

fn evict(client: &Client, commit: &str) -> Result<u64, Error> {
    pythia_hub::evict(&client.settings(), &ModelId::parse(ID).unwrap().unwrap(), commit)
}

/// The blob of the weights of [`tiny`].
fn blob(client: &Client) -> PathBuf {
    client.repo().join("blobs").join(sha256(&tiny()["model.safetensors"]))
}

/// Locks the blob of the weights of [`tiny`], as another program would.
fn lock(client: &Client) -> File {
    let name = format!("{}.lock", sha256(&tiny()["model.safetensors"]));
    let path = client.dir.path().join("hub/.locks/models--someone--tiny").join(name);
    let lock = File::options().read(true).write(true).open(path).unwrap();
    lock.lock().unwrap();
    lock
}

/// [`tiny`] with another config: the same weights at another commit.
fn other() -> Files {
    let mut other = tiny();
    other.extend(files([("config.json", b"{\"other\": 1}")]));
    other
}

#[test]
fn what_was_removed_is_downloaded_again() {
    let hub = hub_with(tiny());
    let client = Client::new(&hub);
    let snapshot = client.fetch(ID).unwrap();
    assert_eq!(evict(&client, &snapshot.commit).unwrap(), FREED);
    assert_eq!(common::names(&snapshot.path), ["config.json", "tokenizer.json", "tokenizer_config.json"]);
    assert!(!blob(&client).exists());
    assert_eq!(client.blobs().len(), 3);
    client.check_cache();
    assert_eq!(evict(&client, &snapshot.commit).unwrap(), 0, "again");
    hub.take_requests();
    let again = client.fetch(ID).unwrap();
    assert_eq!(again, snapshot);
    assert!(again.downloaded);
    let sent: usize = hub.take_requests().iter().filter(|request| request.is_cdn).map(|request| request.sent).sum();
    assert_eq!(sent, WEIGHTS_BYTES);
    assert_eq!(fs::read(again.path.join("model.safetensors")).unwrap(), *tiny()["model.safetensors"]);
    client.check_cache();
}

#[test]
fn what_another_snapshot_has_stays() {
    let hub = hub_with(tiny());
    hub.push(ID, "other", other());
    let client = Client::new(&hub);
    let first = client.fetch(ID).unwrap();
    let second = client.fetch(&format!("{ID}@other")).unwrap();
    assert!(first.downloaded && !second.downloaded);
    assert_eq!(evict(&client, &first.commit).unwrap(), 0);
    assert!(!first.path.join("model.safetensors").is_symlink());
    assert!(second.path.join("model.safetensors").is_file());
    client.check_cache();
    let first = client.fetch(ID).unwrap();
    assert!(!first.downloaded && first.path.join("model.safetensors").is_file(), "it was still there");
    assert_eq!(evict(&client, &first.commit).unwrap(), 0);
    assert_eq!(evict(&client, &second.commit).unwrap(), FREED);
    assert!(!blob(&client).exists());
}

#[test]
fn shards_and_variants_go_and_other_kinds_of_weights_stay() {
    let index = br#"{"weight_map": {"a": "w-1.safetensors", "b": "w-2.safetensors", "c": "w-3.safetensors"}}"#;
    let mut all = files([("config.json", b"{}"), ("model.safetensors.index.json", index)]);
    // Two of the same content.
    for (name, seed) in [("w-1.safetensors", 1), ("w-2.safetensors", 2), ("w-3.safetensors", 1)] {
        all.insert(name.to_owned(), noise(seed, 1000).into());
    }
    all.insert("model.fp16.safetensors".to_owned(), noise(4, 500).into());
    let hub = hub_with(all);
    let client = Client::new(&hub);
    let snapshot = client.fetch(ID).unwrap();
    let fp16 = Settings { variant: Some("fp16".to_owned()), ..client.settings() };
    let id = ModelId::parse(ID).unwrap().unwrap();
    let fetch = || pythia_hub::fetch(&fp16, &id, &client.cancel, client.log.clone()).unwrap();
    assert!(fetch().downloaded && !fetch().downloaded);
    assert_eq!(evict(&client, &snapshot.commit).unwrap(), 2000);
    let left = ["config.json", "model.fp16.safetensors", "model.safetensors.index.json"];
    assert_eq!(common::names(&snapshot.path), left);
    assert_eq!(pythia_hub::evict(&fp16, &id, &snapshot.commit).unwrap(), 500);
    assert_eq!(evict(&client, &snapshot.commit).unwrap(), 0);
    client.check_cache();
    assert!(client.fetch(ID).unwrap().downloaded);

    // Another program's weights beside those of a fetch, which are gone.
    let hub = hub_with(tiny());
    let client = Client::new(&hub);
    let snapshot = client.fetch(ID).unwrap();
    fs::rename(snapshot.path.join("model.safetensors"), snapshot.path.join("pytorch_model.bin")).unwrap();
    assert_eq!(evict(&client, &snapshot.commit).unwrap(), 0);
    assert!(snapshot.path.join("pytorch_model.bin").is_file());
}

#[test]
fn what_another_program_has_locked_stays() {
    let hub = hub_with(tiny());
    let client = Client::new(&hub);
    let snapshot = client.fetch(ID).unwrap();
    let lock = lock(&client);
    assert_eq!(evict(&client, &snapshot.commit).unwrap(), 0);
    assert!(snapshot.path.join("model.safetensors").is_file());
    client.check_cache();
    drop(lock);
    assert_eq!(evict(&client, &snapshot.commit).unwrap(), FREED);
}

#[test]
fn a_fetch_links_nothing_that_is_about_to_be_removed() {
    let hub = hub_with(tiny());
    hub.push(ID, "other", other());
    let client = Client::new(&hub);
    let first = client.fetch(ID).unwrap();
    let folder = client.repo().join("snapshots").join(commit(&other()));
    // What a removal does, with time between its steps.
    let lock = lock(&client);
    let snapshot = thread::scope(|scope| {
        let fetch = scope.spawn(|| client.fetch(&format!("{ID}@other")).unwrap());
        while !folder.join("tokenizer_config.json").is_file() {
            thread::sleep(Duration::from_millis(5));
        }
        thread::sleep(Duration::from_millis(200));
        assert!(!folder.join("model.safetensors").is_symlink(), "it waits");
        fs::remove_file(blob(&client)).unwrap();
        fs::remove_file(first.path.join("model.safetensors")).unwrap();
        drop(lock);
        fetch.join().unwrap()
    });
    assert!(snapshot.downloaded && snapshot.path.join("model.safetensors").is_file());
    client.check_cache();
}

/// Two programs with one cache, each of which removes what it has fetched, while the other may be fetching the same.
#[test]
fn nobody_loses_what_he_has_just_fetched() {
    let small = |config: &[u8]| files([("config.json", config), ("model.safetensors", b"the same")]);
    let mut repo = Repo::new(ID, small(b"1"));
    repo.branches.insert("other".to_owned(), small(b"2"));
    let hub = FakeHub::start(vec![repo]);
    let client = Client::new(&hub);
    thread::scope(|scope| {
        for (branch, config) in [("main", b"1"), ("other", b"2")] {
            let (client, commit) = (&client, commit(&small(config)));
            scope.spawn(move || {
                for _ in 0..40 {
                    let snapshot = client.fetch(&format!("{ID}@{branch}")).unwrap();
                    assert_eq!(fs::read(snapshot.path.join("model.safetensors")).unwrap(), b"the same");
                    evict(client, &commit).unwrap();
                }
            });
        }
    });
    client.check_cache();
    assert_eq!(client.blobs().len(), 2, "the configs");
}

#[test]
fn a_killed_removal_is_completed() {
    let hub = hub_with(tiny());
    let client = Client::new(&hub);
    let snapshot = client.fetch(ID).unwrap();
    fs::remove_file(blob(&client)).unwrap();
    assert_eq!(evict(&client, &snapshot.commit).unwrap(), 0);
    assert!(!snapshot.path.join("model.safetensors").is_symlink());
}

#[test]
fn copies_go_where_there_are_no_links() {
    let hub = hub_with(tiny());
    let client = Client::new(&hub);
    let snapshot = client.fetch(ID).unwrap();
    let path = snapshot.path.join("model.safetensors");
    fs::remove_file(&path).unwrap();
    fs::copy(blob(&client), &path).unwrap();
    assert_eq!(evict(&client, &snapshot.commit).unwrap(), 2 * FREED);
    assert!(!path.exists() && !blob(&client).exists());
}

#[cfg(unix)]
#[test]
fn nothing_is_removed_behind_a_link() {
    use std::os::unix::fs::symlink;
    let hub = hub_with(tiny());
    let new = || {
        let client = Client::new(&hub);
        let snapshot = client.fetch(ID).unwrap();
        (client, snapshot)
    };

    // The store that Python's library shares among repositories.
    let (client, snapshot) = new();
    let store = client.dir.path().join("hub/blobs");
    fs::create_dir(&store).unwrap();
    fs::rename(blob(&client), store.join("stored")).unwrap();
    symlink("../../blobs/stored", blob(&client)).unwrap();
    assert_eq!(evict(&client, &snapshot.commit).unwrap(), 0);
    assert!(!blob(&client).is_symlink() && !snapshot.path.join("model.safetensors").is_symlink());
    assert_eq!(fs::metadata(store.join("stored")).unwrap().len(), FREED);

    // A file of the user's, linked to or put in place of the weights.
    let (client, snapshot) = new();
    let (theirs, link) = (client.dir.path().join("theirs"), snapshot.path.join("model.safetensors"));
    fs::write(&theirs, "theirs").unwrap();
    fs::remove_file(&link).unwrap();
    symlink(&theirs, &link).unwrap();
    assert_eq!(evict(&client, &snapshot.commit).unwrap(), 0);
    assert_eq!(fs::read_link(&link).unwrap(), theirs);
    let outside = client.dir.path().join("blobs").join(blob(&client).file_name().unwrap());
    fs::create_dir(outside.parent().unwrap()).unwrap();
    fs::write(&outside, "outside").unwrap();
    fs::remove_file(&link).unwrap();
    symlink(&outside, &link).unwrap();
    assert_eq!(evict(&client, &snapshot.commit).unwrap(), 0);
    assert!(outside.exists() && link.is_symlink() && blob(&client).exists());
    fs::remove_file(&link).unwrap();
    fs::write(&link, noise(9, WEIGHTS_BYTES)).unwrap();
    assert_eq!(evict(&client, &snapshot.commit).unwrap(), 0);
    assert!(link.is_file() && blob(&client).is_file());

    // A second name of the blob.
    let (client, snapshot) = new();
    fs::hard_link(blob(&client), client.dir.path().join("second")).unwrap();
    assert_eq!(evict(&client, &snapshot.commit).unwrap(), 0, "nothing became free");
    assert!(!blob(&client).exists());

    // Folders.
    let folders = ["models--someone--tiny", "models--someone--tiny/blobs", "models--someone--tiny/snapshots"];
    for folder in folders.into_iter().map(Some).chain([None]) {
        let (client, snapshot) = new();
        let folder = folder.map_or(snapshot.path.clone(), |folder| client.dir.path().join("hub").join(folder));
        let elsewhere = client.dir.path().join("elsewhere");
        fs::rename(&folder, &elsewhere).unwrap();
        symlink(&elsewhere, &folder).unwrap();
        let error = evict(&client, &snapshot.commit).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().ends_with("not a folder, so nothing is removed in it"), "{error}");
        assert!(blob(&client).is_file());
    }
}

#[test]
fn what_is_not_there_is_not_removed() {
    let hub = hub_with(tiny());
    let client = Client::new(&hub);
    let none = commit(&tiny());
    assert_eq!(evict(&client, &none).unwrap(), 0);
    assert!(!client.repo().exists());
    for wrong in ["main", "", "../../x", &none.to_uppercase()] {
        let error = evict(&client, wrong).unwrap_err();
        assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("is not a commit"), "{error}");
    }
    let snapshot = client.fetch(ID).unwrap();
    assert_eq!(evict(&client, &"a".repeat(40)).unwrap(), 0);
    assert!(snapshot.path.join("model.safetensors").is_file());
}
