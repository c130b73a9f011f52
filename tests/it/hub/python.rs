//! The cache is shared with Python's `huggingface_hub`: each finds what the other has stored.

use super::cli::PROXIES;
use super::server::FakeHub;
use super::{Client, ID, hub_with, tiny};
use crate::common;
use std::path::Path;

pub(super) fn python(hub: &FakeHub, home: &Path, program: &str) -> Option<String> {
    let mut command = common::python(&["huggingface_hub"])?;
    let settings = ["HF_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"];
    for name in settings.into_iter().chain(PROXIES) {
        command.env_remove(name);
    }
    command.env("HF_ENDPOINT", hub.endpoint()).env("HF_HOME", home).env("HF_HUB_DISABLE_PROGRESS_BARS", "1");
    Some(common::printed(command.args(["-c", program])).trim().to_owned())
}

#[test]
fn python_finds_ours() {
    let hub = hub_with(tiny());
    let client = Client::new(&hub);
    let snapshot = client.fetch(ID).unwrap();
    hub.take_requests();
    let program = format!(
        "from huggingface_hub import try_to_load_from_cache, snapshot_download, hf_hub_download, scan_cache_dir, \
         _CACHED_NO_EXIST
assert try_to_load_from_cache('{ID}', 'model.safetensors').endswith('model.safetensors')
assert try_to_load_from_cache('{ID}', 'README.md') is _CACHED_NO_EXIST
assert not scan_cache_dir().warnings, scan_cache_dir().warnings
hf_hub_download('{ID}', 'config.json', local_files_only=True)
print(snapshot_download('{ID}', local_files_only=True))"
    );
    let Some(found) = python(&hub, client.dir.path(), &program) else { return };
    assert_eq!(Path::new(&found).canonicalize().unwrap(), snapshot.path.canonicalize().unwrap());
    // Python may ask for other things than models.
    let requests = hub.take_requests();
    assert!(!requests.iter().any(|request| request.path.contains(ID)), "{requests:?}");
}

#[test]
fn ours_finds_pythons() {
    let hub = hub_with(tiny());
    let client = Client::new(&hub);
    let program = format!("from huggingface_hub import snapshot_download\nprint(snapshot_download('{ID}'))");
    let Some(found) = python(&hub, client.dir.path(), &program) else { return };
    hub.take_requests();
    let commit = Path::new(&found).file_name().unwrap().to_str().unwrap();
    let snapshot = client.fetch(&format!("{ID}@{commit}")).unwrap();
    assert_eq!(snapshot.path.canonicalize().unwrap(), Path::new(&found).canonicalize().unwrap());
    assert_eq!(hub.take_requests().len(), 0, "all is there");
    client.fetch(ID).unwrap();
    assert_eq!(hub.take_requests().len(), 1, "what main is now");
}

#[test]
fn ours_finds_single_files_of_pythons() {
    let hub = hub_with(tiny());
    let client = Client::new(&hub);
    let program = format!(
        "from huggingface_hub import hf_hub_download
for name in ['config.json', 'model.safetensors']:
    path = hf_hub_download('{ID}', name)
print(path)"
    );
    let Some(found) = python(&hub, client.dir.path(), &program) else { return };
    hub.take_requests();
    let client = client.with("HF_HUB_OFFLINE", "1");
    let snapshot = client.fetch(ID).unwrap();
    assert_eq!(snapshot.path.canonicalize().unwrap(), Path::new(&found).parent().unwrap().canonicalize().unwrap());
    assert_eq!(hub.take_requests().len(), 0);
}

#[test]
fn a_lock_of_python_is_waited_for() {
    let hub = hub_with(tiny());
    hub.set_rate(700_000);
    let client = Client::new(&hub);
    // Python downloads slowly; ours comes in the middle and takes what it has stored.
    let program = format!("from huggingface_hub import hf_hub_download\nhf_hub_download('{ID}', 'model.safetensors')");
    std::thread::scope(|scope| {
        let theirs = scope.spawn(|| python(&hub, client.dir.path(), &program));
        let locks = client.dir.path().join("hub/.locks/models--someone--tiny");
        while !locks.is_dir() && !theirs.is_finished() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        if locks.is_dir() {
            // It has the file, but not yet the lock or the first byte.
            std::thread::sleep(std::time::Duration::from_millis(300));
            client.fetch(ID).unwrap();
        }
        let Some(_) = theirs.join().unwrap() else { return };
        let sent: usize = hub.take_requests().iter().filter(|r| r.is_cdn).map(|request| request.sent).sum();
        assert_eq!(sent, super::WEIGHTS_BYTES, "downloaded once");
        client.check_cache();
    });
}
