//! Sweeps over models of the Hub, against a server on this machine that plays it.

use super::{command, data, open, results, text, values};
use crate::common::Outcome;
use crate::hub::server::{FakeHub, Files, Repo};
use std::fs;
use std::path::Path;

const MODEL: &str = "EleutherAI/pythia-70m";

/// A checkpoint of the family, with a model card that is different in every revision.
fn files(step: u64, card: &str) -> Files {
    let read = |folder: &str, name: &str| fs::read(data(folder).join(name)).unwrap().into();
    let weights = format!("pythia-docs-1m-steps/step{step}");
    [
        ("README.md".to_owned(), card.as_bytes().to_vec().into()),
        ("config.json".to_owned(), read("pythia-docs-1m-steps", "config.json")),
        ("model.safetensors".to_owned(), read(&weights, "model.safetensors")),
        ("tokenizer.json".to_owned(), read("pythia-docs-6m", "tokenizer.json")),
        ("tokenizer_config.json".to_owned(), read("pythia-docs-6m", "tokenizer_config.json")),
    ]
    .into()
}

/// Six revisions, of which three carry the same weights, and one more without any.
fn hub() -> FakeHub {
    let mut repo = Repo::new(MODEL, files(1500, "main"));
    for (revision, step) in [("step0", 0), ("step1", 0), ("step2", 0), ("step256", 256), ("step1000", 1500)] {
        repo.branches.insert(revision.to_owned(), files(step, revision));
    }
    // Another file changes the values, or may.
    repo.branches.get_mut("step1000").unwrap().insert("config.json".to_owned(), config_with_a_space());
    let mut without = files(0, "none");
    without.remove("model.safetensors");
    repo.branches.insert("step512".to_owned(), without);
    FakeHub::start(vec![repo])
}

fn config_with_a_space() -> std::sync::Arc<Vec<u8>> {
    let mut config = fs::read(data("pythia-docs-1m-steps").join("config.json")).unwrap();
    config.push(b' ');
    config.into()
}

fn quant(hub: &FakeHub, folder: &Path, args: &[&str]) -> Outcome {
    let mut command = command(folder, args);
    let settings = ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE"];
    for name in settings.into_iter().chain(["TRANSFORMERS_OFFLINE"]).chain(crate::hub::cli::PROXIES) {
        command.env_remove(name);
    }
    command.env("HF_ENDPOINT", hub.endpoint()).env("HF_HOME", folder.join("hf")).env("PYTHIA_HUB_RETRY_MS", "5");
    command.output().unwrap().into()
}

/// Downloads of weights that were asked for since the last call.
fn downloads(hub: &FakeHub) -> usize {
    let is_weights =
        |request: &crate::hub::server::Request| request.path.contains("model.safetensors") && !request.is_cdn;
    hub.take_requests().iter().filter(|request| is_weights(request)).count()
}

fn plan(hub: &FakeHub, folder: &Path, more: &[&str]) -> Outcome {
    text(folder);
    let args = ["sweep", "plan", MODEL, "-f", "heldout.txt", "-t", "Q4_0", "--chunks", "2"];
    quant(hub, folder, &[&args[..], more].concat())
}

#[test]
fn the_same_weights_are_downloaded_and_computed_once() {
    let (dir, hub) = (tempfile::tempdir().unwrap(), hub());
    let planned = plan(&hub, dir.path(), &["--steps", "all,main,9"]);
    assert_eq!(planned.code, Some(0), "{planned:?}");
    assert_eq!(downloads(&hub), 0, "nothing is downloaded for a plan");
    assert!(planned.stdout.contains("6, of which 4 with different files"), "{planned:?}");
    assert!(planned.stdout.contains("pythia-70m: step0, step1, step2"), "{planned:?}");
    for part in ["step512: ", "step9: ", "step1 is reported to hold the same weights as step0"] {
        assert!(planned.stderr.contains(part), "{part}: {planned:?}");
    }
    let sweep = open(dir.path());
    assert_eq!((sweep.manifest().groups.len(), sweep.manifest().cells.len(), sweep.missing().len()), (4, 12, 2));

    // Four downloads, four computations, six rows of each recipe.
    let outcome = quant(&hub, dir.path(), &["sweep", "run", "sweep", "--evict"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(downloads(&hub), 4);
    assert_eq!(outcome.stderr.matches("checkpoint ").count(), 4, "{outcome:?}");
    assert_eq!(results(&sweep).len(), 12);
    let nll = |revision: &str| {
        let all = results(&sweep);
        let base = all.iter().find(|r| r.of.revision == revision && r.of.level == "base").unwrap();
        base.done().unwrap().text.as_ref().unwrap().nll_sum.to_bits()
    };
    assert_eq!([nll("step1"), nll("step2")], [nll("step0"); 2]);
    assert_eq!(nll("main"), nll("step1000"), "the same weights in another checkpoint");
    assert_ne!(nll("step0"), nll("step256"));
    // The weights are gone from the cache, so another run downloads again. It keeps them: two checkpoints have the same.
    let before = values(&sweep);
    fs::remove_dir_all(dir.path().join("sweep/results")).unwrap();
    quant(&hub, dir.path(), &["sweep", "run", "sweep", "-q"]).ok();
    assert_eq!(downloads(&hub), 3);
    assert_eq!(values(&sweep), before);
}

#[test]
fn machines_without_a_connection_use_what_was_fetched_before() {
    let (dir, hub) = (tempfile::tempdir().unwrap(), hub());
    plan(&hub, dir.path(), &["--steps", "0..2,256"]).ok();
    let offline = ["sweep", "run", "sweep", "--offline"];
    let outcome = quant(&hub, dir.path(), &offline);
    assert_eq!(outcome.code, Some(75), "a download may succeed later: {outcome:?}");
    assert!(outcome.stdout.contains("8 failed (download)"), "{outcome:?}");
    let fetched = quant(&hub, dir.path(), &["sweep", "prefetch", "sweep"]);
    assert!(fetched.stdout.starts_with("2 checkpoints"), "{fetched:?}");
    assert_eq!(downloads(&hub), 2);
    let outcome = quant(&hub, dir.path(), &[&offline[..], &["--evict"]].concat());
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(hub.take_requests().is_empty());
    // What another run has fetched is not this one's to remove.
    fs::remove_dir_all(dir.path().join("sweep/results")).unwrap();
    quant(&hub, dir.path(), &offline).ok();
}

#[test]
fn models_that_are_not_there_end_the_plan() {
    let (dir, hub) = (tempfile::tempdir().unwrap(), hub());
    text(dir.path());
    let args = |model: &'static str| ["sweep", "plan", model, "-f", "heldout.txt"];
    quant(&hub, dir.path(), &args("EleutherAI/pythia-3b")).fails("pythia-quant", 74, &["EleutherAI/pythia-3b"]);
    quant(&hub, dir.path(), &args("EleutherAI/pythia-70m@step0")).fails("pythia-quant", 2, &["--steps"]);
    assert!(!dir.path().join("sweep").exists());
}
