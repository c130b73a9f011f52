//! The program with ids of the Hub: from an id to a GGUF file, killed, interrupted, offline.

use super::check_cache;
use super::server::{FakeHub, Files, Repo, TOKEN};
use crate::common::{Outcome, PYTHIA_QUANT, checkpoint, data, names};
use pythia_gguf::Gguf;
use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const PROGRAM: &str = "pythia-quant";
const ID: &str = "EleutherAI/pythia-70m";
/// Name the proxy to use.
pub(crate) const PROXIES: [&str; 6] =
    ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];

/// The checkpoint of the tests, as a repository.
pub(crate) fn fixture() -> Files {
    let names = ["README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    names.map(|name| (name.to_owned(), fs::read(data("pythia-docs-6m").join(name)).unwrap().into())).into()
}

fn hub() -> FakeHub {
    let mut repo = Repo::new(ID, fixture());
    repo.branches.insert("step3000".to_owned(), fixture());
    FakeHub::start(vec![repo])
}

fn command(hub: &FakeHub, folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(PYTHIA_QUANT);
    let settings = ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE"];
    for name in settings.into_iter().chain(["TRANSFORMERS_OFFLINE"]).chain(PROXIES) {
        command.env_remove(name);
    }
    command.env("HF_ENDPOINT", hub.endpoint()).env("HF_HOME", folder.join("hf")).env("PYTHIA_HUB_RETRY_MS", "5");
    // What `compare` keeps does not belong in the cache of the user who runs the tests.
    command.env("XDG_CACHE_HOME", folder.join("cache"));
    command.current_dir(folder).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn outcome(child: Child) -> Outcome {
    child.wait_with_output().unwrap().into()
}

fn quant(hub: &FakeHub, folder: &Path, args: &[&str]) -> Outcome {
    outcome(command(hub, folder, args).spawn().unwrap())
}

/// `convert` with this token.
pub(crate) fn run_with_token(hub: &FakeHub, folder: &Path, token: &str) -> Outcome {
    outcome(command(hub, folder, &["convert", ID, "-t", "F16"]).env("HF_TOKEN", token).spawn().unwrap())
}

/// Bytes of weights that unfinished downloads have left.
fn kept(folder: &Path) -> u64 {
    let blobs = folder.join("hf/hub/models--EleutherAI--pythia-70m/blobs");
    let entries = fs::read_dir(blobs).into_iter().flatten().flatten();
    let weights = entries.filter(|entry| entry.file_name().to_string_lossy().find('.') == Some(64));
    weights.map(|entry| entry.metadata().map_or(0, |found| found.len())).sum()
}

/// Waits until more than `before` bytes are [`kept`].
fn wait_for_more(folder: &Path, before: u64) {
    let start = Instant::now();
    while kept(folder) <= before {
        assert!(start.elapsed() < Duration::from_secs(60), "no more than {before} bytes of weights");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The files of a GGUF file's source, apart from its commit; and its tensors' bytes.
fn contents(path: &Path) -> (Vec<(String, String)>, Vec<u8>) {
    let bytes = fs::read(path).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    let keys = gguf.metadata.iter().map(|(key, value)| (key.to_owned(), format!("{value:?}")));
    let keys = keys.filter(|(key, _)| !key.ends_with("source.revision")).collect();
    (keys, bytes[gguf.data_offset as usize..].to_vec())
}

#[test]
fn an_id_converts_as_the_folder_does() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub();
    let folder = dir.path().join("pythia-70m");
    fs::create_dir(&folder).unwrap();
    for (name, bytes) in fixture() {
        fs::write(folder.join(name), &*bytes).unwrap();
    }
    let id = format!("{ID}@step3000");
    let remote = quant(&hub, dir.path(), &["convert", &id, "-t", "Q8_0"]);
    assert_eq!(remote.stderr, "", "no bar where there is no terminal");
    remote.ok();
    quant(&hub, dir.path(), &["convert", "pythia-70m", "-t", "Q8_0"]).ok();
    let (remote, local) = (dir.path().join("pythia-70m-step3000-Q8_0.gguf"), dir.path().join("pythia-70m-Q8_0.gguf"));
    let ((remote_keys, remote_data), (local_keys, local_data)) = (contents(&remote), contents(&local));
    assert_eq!(remote_keys, local_keys);
    assert!(remote_data == local_data, "the weights differ");
    let bytes = fs::read(&remote).unwrap();
    let commit = super::server::commit(&fixture());
    let revision =
        Gguf::parse(&bytes).unwrap().metadata.iter().any(|(_, value)| format!("{value:?}").contains(&commit));
    assert!(revision, "the commit is recorded");

    hub.take_requests();
    quant(&hub, dir.path(), &["convert", &id, "-t", "Q4_0", "--offline", "-q"]).ok();
    quant(&hub, dir.path(), &["verify", "pythia-70m-Q8_0.gguf", "--against", &id, "--offline", "-q"]).ok();
    assert_eq!(hub.take_requests().len(), 0);
    let text = checkpoint().join("heldout.txt");
    let args = ["compare", &id, "-t", "Q8_0", "--chunks", "2", "-c", "64", "-f", text.to_str().unwrap(), "--json"];
    let report = quant(&hub, dir.path(), &args).ok();
    assert!(report.contains("\"pythia-70m-step3000\""), "{report}");
}

#[test]
fn paths_win_and_near_misses_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub();
    let fails = |args: &[&str], code: i32, parts: &[&str]| {
        quant(&hub, dir.path(), &[&["convert", "-t", "F16"], args].concat()).fails(PROGRAM, code, parts);
    };
    fails(&["pythia-70m@step3000"], 74, &["no such file or folder", "EleutherAI/pythia-70m@step3000"]);
    fails(&["./EleutherAI/pythia-70m"], 74, &["./EleutherAI/pythia-70m: No such file"]);
    fails(&["https://example.org/a/b"], 2, &["not an address of the Hub"]);
    fails(&["EleutherAI/pythia-70m@step3001"], 2, &["step3000 and step4000"]);
    fails(&["EleutherAI/pythia-70m", "--offline"], 74, &["offline, and not in the cache"]);
    fs::create_dir_all(dir.path().join("EleutherAI")).unwrap();
    fails(&[ID], 74, &["no such file or folder in EleutherAI/", "hf://EleutherAI/pythia-70m"]);
    fs::create_dir_all(dir.path().join(ID)).unwrap();
    fails(&[ID], 65, &["EleutherAI/pythia-70m: no weights here"]);
    assert_eq!(hub.take_requests().len(), 0);
    quant(&hub, dir.path(), &["convert", "-t", "F16", "-q", "hf://EleutherAI/pythia-70m"]).ok();
    assert!(names(dir.path()).contains(&"pythia-70m-F16.gguf".to_owned()));
}

#[test]
fn a_comparison_that_cannot_be_scored_is_refused_before_a_download() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub();
    let text = checkpoint().join("heldout.txt");
    quant(&hub, dir.path(), &["compare", ID, "-c", "3", "-f", text.to_str().unwrap()]).fails(PROGRAM, 2, &["window"]);
    assert_eq!(hub.take_requests().len(), 0);
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn wrong_content_is_bad_data() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub();
    hub.fault("/blob/", 1, super::server::Fault::Corrupt);
    let outcome = quant(&hub, dir.path(), &["convert", ID, "-t", "F16"]);
    outcome.fails(PROGRAM, 65, &["EleutherAI/pythia-70m: model.safetensors: the download has SHA-256 "]);
}

#[test]
fn quiet_prints_nothing_but_errors() {
    for (args, notes) in [(&["-q"][..], false), (&[], true)] {
        let dir = tempfile::tempdir().unwrap();
        let hub = hub();
        hub.fault("/tree/", 1, super::server::Fault::Status(503, &[]));
        let outcome = quant(&hub, dir.path(), &[&["convert", ID, "-t", "F16"], args].concat());
        assert_eq!(outcome.stderr.contains("note: ") && outcome.stderr.contains("answered 503"), notes);
        assert_eq!(outcome.stderr.is_empty(), !notes, "{}", outcome.stderr);
        outcome.ok();
    }
}

#[test]
fn no_proxy_sees_what_goes_to_this_machine() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub();
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.set_nonblocking(true).unwrap();
    let address = format!("http://{}", proxy.local_addr().unwrap());
    let mut command = command(&hub, dir.path(), &["convert", ID, "-t", "F16", "-q"]);
    command.env("HF_TOKEN", TOKEN).envs(PROXIES.map(|name| (name, &*address)));
    let outcome = outcome(command.spawn().unwrap());
    assert_eq!(proxy.accept().map(drop).unwrap_err().kind(), ErrorKind::WouldBlock, "{}", outcome.stderr);
    outcome.ok();
    let bearer = format!("Bearer {TOKEN}");
    assert!(hub.take_requests().iter().any(|request| request.header("authorization") == Some(&bearer)));
}

#[test]
fn a_killed_download_leaves_nothing_wrong_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub();
    // Of 13.7 MB: slow enough that none of the runs can complete it before it is killed.
    hub.set_rate(1_000_000);
    let cache = dir.path().join("hf/hub");
    for round in 0..8 {
        let before = kept(dir.path());
        let mut child = command(&hub, dir.path(), &["convert", ID, "-t", "F16"]).spawn().unwrap();
        if round % 2 == 0 {
            // Wherever it is by then.
            thread::sleep(Duration::from_millis(15 * round));
        } else {
            wait_for_more(dir.path(), before);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        check_cache(&cache);
        assert_eq!(names(dir.path()).iter().filter(|name| name.ends_with(".gguf")).count(), 0);
    }
    hub.set_rate(1_000_000_000);
    let left = kept(dir.path()) as usize;
    quant(&hub, dir.path(), &["convert", ID, "-t", "F16"]).ok();
    check_cache(&cache);
    let size = fixture()["model.safetensors"].len();
    let requests = hub.take_requests();
    let transfers: Vec<_> = requests.iter().filter(|request| request.is_cdn).collect();
    let last = transfers.last().unwrap();
    assert!(left > 0);
    assert_eq!(last.header("range"), Some(&*format!("bytes={left}-")));
    assert_eq!(last.sent, size - left, "of {size}");
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_a_download_within_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub();
    hub.set_rate(100_000);
    let child = command(&hub, dir.path(), &["convert", ID, "-t", "F16"]).spawn().unwrap();
    wait_for_more(dir.path(), 0);
    let start = Instant::now();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    outcome(child).stopped(PROGRAM, &["interrupted; what was downloaded is kept"]);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(kept(dir.path()) > 0);
}
