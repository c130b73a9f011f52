//! What a folder may hold before a run, and what a run makes of it.

use super::{Case, PROGRAM, activations, files, ids, manifest, some_ids};
use crate::common::{gguf, names};
use pythia_inside::export::{Kind, Positions};
use pythia_inside::{Change, Changes};
use pythia_runtime::Text;
use pythia_task::ErrorKind;
use std::fs;
use std::sync::Arc;

#[test]
fn another_text_or_other_options_do_not_go_on() {
    let mut case = Case::q8(&["blocks.0.hook_mlp_out"]);
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("out");
    case.run(&ids(&[some_ids(20, 1), some_ids(5, 2)]), Kind::Ids, &folder).unwrap();
    let before = files(&folder);
    let text = |seed| ids(&[some_ids(20, 1), some_ids(5, seed)]);
    let refused = |case: &Case, text: &Text, parts: &[&str]| {
        let error = case.run(text, Kind::Ids, &folder).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        for part in parts.iter().chain(&["holds another export: ", "--force replaces it"]) {
            assert!(error.to_string().contains(part), "{error}");
        }
        assert!(files(&folder) == before);
    };
    refused(&case, &text(3), &["the texts of shard 0"]);
    case.options.window = 100;
    refused(&case, &text(2), &["options.window is 512 there, 100 here"]);
    case.options.window = 512;
    case.options.positions = Positions::last();
    refused(&case, &text(2), &[r#"options.positions is "all" there, "last" here"#]);
    let other = Case::q8(&["blocks.1.hook_mlp_out"]);
    refused(&other, &text(2), &[r#"hooks.name is "blocks.0.hook_mlp_out" there, "blocks.1.hook_mlp_out" here"#]);
    let other = Case::q8(&["blocks.*.hook_mlp_out"]);
    refused(&other, &text(2), &["hooks: 1 there, 6 here"]);
    let other = Case::open(&gguf("F32"), &["blocks.0.hook_mlp_out"]);
    refused(&other, &text(2), &[r#"model.level is "Q8_0" there, "F32" here"#]);

    // A shard that is not what the manifest says is not taken over.
    let case = Case::q8(&["blocks.0.hook_mlp_out"]);
    let shard = folder.join("activations-00000.safetensors");
    let whole = fs::read(&shard).unwrap();
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    for (bytes, part) in [(&damaged[..], "found SHA-256 "), (b"short", "found 5 bytes, wanted the ")] {
        fs::write(&shard, bytes).unwrap();
        let error = case.run(&text(2), Kind::Ids, &folder).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        let error = error.to_string();
        assert!(error.contains(&format!("activations-00000.safetensors: {part}")), "{error}");
        assert!(error.contains("--force starts again"), "{error}");
        assert_eq!(fs::read(&shard).unwrap(), bytes, "it is left to its owner");
    }
    fs::write(&shard, whole).unwrap();
    assert_eq!(case.run(&text(2), Kind::Ids, &folder).unwrap().reused, 1);
}

/// A changed model is told from another one with the same description by its numbers.
#[test]
fn a_model_that_is_changed_otherwise_does_not_go_on() {
    let mut case = Case::q8(&["blocks.2.hook_resid_post"]);
    let plain = Arc::clone(&case.model);
    let steered = |x: f32| {
        let h = plain.hparams();
        let change = Change::steer(h, 1, &vec![x; h.n_embd], 1.0, "v.safetensors").unwrap();
        Changes::new(vec![change]).of(&plain)
    };
    let dir = tempfile::tempdir().unwrap();
    let (folder, text) = (dir.path().join("out"), ids(&[some_ids(20, 1)]));
    case.model = steered(0.5);
    case.run(&text, Kind::Ids, &folder).unwrap();
    assert_eq!(case.run(&text, Kind::Ids, &folder).unwrap().reused, 1);
    case.model = steered(0.25);
    let error = case.run(&text, Kind::Ids, &folder).unwrap_err().to_string();
    assert!(error.contains("holds another export: changes_sha256 is "), "{error}");
    case.model = plain;
    let error = case.run(&text, Kind::Ids, &folder).unwrap_err().to_string();
    assert!(error.contains("holds another export: changes: 1 there, 0 here"), "{error}");
}

/// Two runs would mix their shards, and a file that is read must not be removed.
#[test]
fn a_folder_is_written_by_one_run_and_is_not_read_from() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("out");
    let args = ["--ids", "1,2,3", "--hooks", "layers.3", "-o", "out", "-q"];
    activations(dir.path(), &args).ok();
    let held = fs::File::open(&folder).unwrap();
    if held.try_lock().is_ok() {
        activations(dir.path(), &[&args[..], &["--force"]].concat()).fails(
            PROGRAM,
            2,
            &["out: another run is writing here"],
        );
        held.unlock().unwrap();
    }
    let patch = ["--patch", "layers.3=out/activations-00000.safetensors", "--force"];
    activations(dir.path(), &[&args[..], &patch].concat()).fails(PROGRAM, 2, &["is read, and lies in out"]);
    activations(dir.path(), &args).ok();
    // A manifest of something else is not removed either.
    fs::remove_file(folder.join("activations-00000.safetensors")).unwrap();
    fs::write(folder.join("manifest.json"), r#"{"name": "my web app"}"#).unwrap();
    activations(dir.path(), &[&args[..], &["--force"]].concat()).fails(
        PROGRAM,
        65,
        &["manifest.json: not a manifest of"],
    );
    assert_eq!(names(&folder), ["manifest.json"]);
}

/// Without a manifest nobody knows what shards are of: an export has its manifest first.
#[test]
fn shards_that_no_manifest_lists_are_somebodys() {
    let mut case = Case::q8(&["blocks.0.hook_mlp_out"]);
    case.options.shard_bytes = 30 * 1024;
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("out");
    let texts = |n: usize| ids(&(0..n).map(|i| some_ids(20, i as u32)).collect::<Vec<_>>());
    assert!(case.run(&texts(4), Kind::Ids, &folder).unwrap().shards.len() > 2);
    fs::remove_file(folder.join("manifest.json")).unwrap();
    let error = case.run(&texts(1), Kind::Ids, &folder).unwrap_err().to_string();
    assert!(error.contains("but no manifest.json that lists it (--force removes what is there)"), "{error}");
    for name in names(&folder) {
        fs::remove_file(folder.join(name)).unwrap();
    }
    fs::write(folder.join("activations-00000.npz"), "mine").unwrap();
    let error = case.run(&texts(1), Kind::Ids, &folder).unwrap_err().to_string();
    assert!(error.contains("contains activations-00000.npz but no manifest.json"), "{error}");
    assert_eq!(fs::read(folder.join("activations-00000.npz")).unwrap(), b"mine");
    fs::remove_file(folder.join("activations-00000.npz")).unwrap();
    case.run(&texts(1), Kind::Ids, &folder).unwrap();
    // A text that has grown: complete again at the end.
    let summary = case.run(&texts(2), Kind::Ids, &folder).unwrap();
    assert!(summary.reused == 1 && summary.shards.len() == 2);
    assert_eq!(manifest(&folder)["complete"], true);
}

/// The size of a shard is a promise about its file, but for the header.
#[test]
fn shards_are_as_large_as_asked_at_most() {
    let mut case = Case::q8(&["layers.0"]);
    case.options.shard_bytes = 300_000;
    let lengths = [100, 200, 50, 290, 10, 10, 10];
    let texts: Vec<Vec<u32>> = lengths.iter().enumerate().map(|(i, &n)| some_ids(n, i as u32)).collect();
    let dir = tempfile::tempdir().unwrap();
    let summary = case.run(&ids(&texts), Kind::Ids, dir.path()).unwrap();
    let sequences: Vec<u64> = summary.shards.iter().map(|shard| shard.sequences).collect();
    assert_eq!(sequences, [1, 2, 1, 3], "{:?}", summary.shards);
    let firsts: Vec<u64> = summary.shards.iter().map(|shard| shard.first_sequence).collect();
    assert_eq!(firsts, [0, 1, 3, 4]);
    assert!(summary.shards.iter().all(|shard| shard.bytes <= 300_000 + 4096), "{:?}", summary.shards);
}
