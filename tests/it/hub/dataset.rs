//! Datasets: the files of one split, wherever the repository keeps them, in the cache that Python shares.

use super::server::{FakeHub, Files, Repo, commit};
use super::{Client, check_cache, files, python::python};
use crate::common;
use pythia_eval::{Data, Task, Which};
use pythia_hub::{DatasetFiles, DatasetId, Error, fetch_dataset};
use pythia_task::Progress;
use std::fs;
use std::path::Path;
use std::sync::Arc;

const ID: &str = "allenai/ai2_arc";
const ARC: &str = "ARC-Easy";
const README: &[u8] =
    b"---\nconfigs:\n- config_name: ARC-Easy\n  data_files:\n  - split: test\n    path: ARC-Easy/test-*\n---\n";

fn read(name: &str) -> Vec<u8> {
    fs::read(common::data("eval").join(name)).unwrap()
}

/// The repository of ARC as it is stored there, with other files that are not wanted.
fn arc() -> Files {
    let parts = ["ARC-Easy/test-00000-of-00002.parquet", "ARC-Easy/test-00001-of-00002.parquet"];
    let mut all = files([
        ("README.md", README),
        ("ARC-Challenge/test-00000-of-00001.parquet", b"other"),
        (".gitattributes", b""),
    ]);
    all.extend(parts.map(|part| (part.to_owned(), Arc::new(read(&format!("hub/allenai/ai2_arc/{part}"))))));
    all
}

fn hub(id: &str, files: Files) -> FakeHub {
    FakeHub::start(vec![Repo::new(&format!("datasets/{id}"), files)])
}

fn fetch(client: &Client, id: &str, config: Option<&str>, split: &str) -> Result<DatasetFiles, Error> {
    let id = DatasetId::parse(id).unwrap();
    let log = Arc::clone(&client.log) as Arc<dyn Progress>;
    let found = fetch_dataset(&client.settings(), &id, config, split, &client.cancel, log);
    check_cache(&client.dir.path().join("hub"));
    found
}

#[test]
fn a_split_lies_where_every_tool_looks_and_is_asked_for_once() {
    let hub = hub(ID, arc());
    let client = Client::new(&hub);
    let found = fetch(&client, ID, Some(ARC), "test").unwrap();
    let repo = client.dir.path().join("hub/datasets--allenai--ai2_arc");
    let snapshot = repo.join("snapshots").join(commit(&arc()));
    assert_eq!(found.commit, commit(&arc()));
    assert_eq!(found.files, [0, 1].map(|i| snapshot.join(format!("ARC-Easy/test-0000{i}-of-00002.parquet"))));
    for file in &found.files {
        let target = fs::read_link(file).unwrap();
        assert!(target.starts_with("../../../blobs"), "{}", target.display());
        assert_eq!(fs::read(file).unwrap(), *arc()[file.strip_prefix(&snapshot).unwrap().to_str().unwrap()].as_slice());
    }
    assert_eq!(common::names(&snapshot), ["ARC-Easy", "README.md"], "nothing else is wanted");
    // The commit, the list, the README, two parts by way of the content network.
    assert_eq!(hub.take_requests().len(), 3 + 2 * 2);
    assert_eq!(fetch(&client, ID, Some(ARC), "test").unwrap(), found);
    assert_eq!(hub.take_requests().len(), 1, "what main is now");
    assert_eq!(fetch(&client, &format!("{ID}@{}", found.commit), Some(ARC), "test").unwrap(), found);
    let client = client.with("HF_HUB_OFFLINE", "1");
    assert_eq!(fetch(&client, ID, Some(ARC), "test").unwrap(), found);
    assert_eq!(hub.take_requests().len(), 0);
    // Offline, a part that is missing is missed.
    fs::remove_file(&found.files[1]).unwrap();
    let message = fetch(&client, ID, Some(ARC), "test").unwrap_err().to_string();
    assert!(
        message.starts_with("datasets/allenai/ai2_arc: offline, and the split test of ARC-Easy is not in"),
        "{message}"
    );
}

#[test]
fn what_a_repository_lacks_is_said_and_looked_for_in_the_conversion() {
    let mut repo = Repo::new("datasets/openai/gsm8k", files([("main/test.csv", b"a,b"), ("gsm8k.py", b"")]));
    let hub = FakeHub::start(vec![repo.clone()]);
    let client = Client::new(&hub);
    let message = fetch(&client, "openai/gsm8k", Some("main"), "test").unwrap_err().to_string();
    let wanted =
        "datasets/openai/gsm8k: no Parquet or JSON files of the split test of main; it has gsm8k.py, main/test.csv";
    assert_eq!(message, wanted);
    let row = b"{\"question\": \"q\", \"answer\": \"#### 1\"}\n";
    repo.branches.insert("refs/convert/parquet".to_owned(), files([("main/test/0000.jsonl", row)]));
    let hub = FakeHub::start(vec![repo]);
    let client = Client::new(&hub);
    let found = fetch(&client, "openai/gsm8k", Some("main"), "test").unwrap();
    assert_eq!(fs::read(&found.files[0]).unwrap(), row);
    assert!(client.log.notes().contains("converted by the server"), "{}", client.log.notes());
    let client = client.with("HF_HUB_OFFLINE", "1");
    assert_eq!(fetch(&client, "openai/gsm8k", Some("main"), "test").unwrap(), found);
    // Asked for by revision, only that revision counts.
    let message = fetch(&Client::new(&hub), "openai/gsm8k@main", Some("main"), "test").unwrap_err().to_string();
    assert!(message.starts_with("datasets/openai/gsm8k@main: no Parquet"), "{message}");
}

#[test]
fn a_wrong_download_is_refused() {
    let hub = hub(ID, arc());
    hub.fault("/blob/", usize::MAX, super::server::Fault::Corrupt);
    let client = Client::new(&hub);
    let message = fetch(&client, ID, Some(ARC), "test").unwrap_err().to_string();
    assert!(message.contains("ARC-Easy/test-0000") && message.contains("the download has SHA-256 "), "{message}");
    hub.heal();
    fetch(&client, ID, Some(ARC), "test").unwrap();
    let message = DatasetId::parse("../x").unwrap_err().to_string();
    assert!(message.contains("wanted OWNER/NAME"), "{message}");
    let message = fetch(&client, "some/one", None, "test").unwrap_err().to_string();
    assert!(message.starts_with("datasets/some/one: no such repository"), "{message}");
}

#[test]
fn a_task_takes_its_rows_from_the_hub() {
    let jsonl = |name: &str| Arc::new(read(&format!("rows/allenai/ai2_arc/ARC-Easy/{name}.jsonl")));
    let mut files = arc();
    files.insert("README.md".to_owned(), Arc::new(b"no head".to_vec()));
    files.insert("ARC-Easy/train.jsonl".to_owned(), jsonl("train"));
    let hub = hub(ID, files);
    let client = Client::new(&hub);
    let log = Arc::clone(&client.log) as Arc<dyn Progress>;
    let data = Data::hub(client.settings(), client.cancel.clone(), log);
    let task = Task::find("arc_easy").unwrap();
    let docs = |data: &Data| task.documents(data.rows(task, 3).unwrap(), 3, &Which::All).unwrap();
    assert_eq!(docs(&data), docs(&Data::local(&common::data("eval").join("rows"))), "Parquet from the Hub, JSON here");
    let error = data.rows(Task::find("piqa").unwrap(), 0).unwrap_err();
    assert!(error.to_string().starts_with("datasets/baber/piqa: no such repository"), "{error}");
}

#[test]
fn python_finds_ours_and_ours_finds_pythons() {
    let hub = hub(ID, arc());
    let ours = Client::new(&hub);
    let found = fetch(&ours, ID, Some(ARC), "test").unwrap();
    let name = "ARC-Easy/test-00000-of-00002.parquet";
    let program = format!(
        "from huggingface_hub import hf_hub_download, scan_cache_dir
assert not scan_cache_dir().warnings, scan_cache_dir().warnings
print(hf_hub_download('{ID}', '{name}', repo_type='dataset', local_files_only=True))"
    );
    let Some(path) = python(&hub, ours.dir.path(), &program) else { return };
    assert_eq!(Path::new(&path).canonicalize().unwrap(), found.files[0].canonicalize().unwrap());

    let theirs = Client::new(&hub);
    let program =
        format!("from huggingface_hub import snapshot_download\nprint(snapshot_download('{ID}', repo_type='dataset'))");
    let Some(path) = python(&hub, theirs.dir.path(), &program) else { return };
    hub.take_requests();
    let theirs = theirs.with("HF_HUB_OFFLINE", "1");
    let found = fetch(&theirs, ID, Some(ARC), "test").unwrap();
    assert_eq!(found.files[0].canonicalize().unwrap(), Path::new(&path).join(name).canonicalize().unwrap());
    assert_eq!(hub.take_requests().len(), 0);
}
