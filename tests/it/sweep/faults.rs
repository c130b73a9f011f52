//! What cannot be planned or computed: said in one line, and never in the way of the rest.

use super::{STEPS, command, family, open, plan, put, quant, text, values};
use crate::common::Outcome;
use pythia_sweep::{ErrorClass, Sweep};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::fs;
use std::path::Path;

const PROGRAM: &str = "pythia-quant";

/// Plans the family in `folder` as it is.
fn plan_as_it_is(folder: &Path, more: &[&str]) -> Outcome {
    let args = ["sweep", "plan", "pythia-docs-1m", "-f", "heldout.txt", "-t", "Q4_0,Q2_K", "--chunks", "2"];
    quant(folder, &[&args[..], more].concat())
}

fn classes(sweep: &Sweep, step: u64) -> Vec<Option<ErrorClass>> {
    let of = |result: &pythia_sweep::CellResult| result.of.step == Some(step);
    sweep.results().into_iter().flatten().filter(of).map(|result| result.failed().map(|failed| failed.class)).collect()
}

/// Puts `bytes` over the last values of the weights.
fn overwrite(folder: &Path, step: u64, bytes: &[u8]) {
    let path = folder.join(format!("pythia-docs-1m/step{step}/model.safetensors"));
    let mut weights = fs::read(&path).unwrap();
    let at = weights.len() - bytes.len();
    weights[at..].copy_from_slice(bytes);
    fs::write(path, weights).unwrap();
}

/// Makes f32 of the f16 weights at `path`, and `value` of the first one of a matrix.
fn widen(path: &Path, value: f32) {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = file
        .tensors()
        .into_iter()
        .map(|(name, tensor)| {
            let halves = tensor.data().as_chunks::<2>().0.iter();
            let mut values: Vec<f32> = halves.map(|bytes| half::f16::from_le_bytes(*bytes).to_f32()).collect();
            if name.ends_with("layers.1.mlp.dense_h_to_4h.weight") {
                values[0] = value;
            }
            (name, tensor.shape().to_vec(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
        })
        .collect();
    let views =
        tensors.iter().map(|(name, shape, data)| (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap()));
    let whole = safetensors::serialize(views, None).unwrap();
    fs::write(path, whole).unwrap();
}

#[test]
fn bad_checkpoints_fail_alone() {
    let dir = tempfile::tempdir().unwrap();
    family(dir.path());
    text(dir.path());
    // Infinite weights, half a file, no folder.
    overwrite(dir.path(), 256, &[0, 0x7c].repeat(400));
    let half = dir.path().join("pythia-docs-1m/step512");
    put(&half, 1500);
    let weights = fs::read(half.join("model.safetensors")).unwrap();
    fs::write(half.join("model.safetensors"), &weights[..weights.len() / 2]).unwrap();
    let planned = plan_as_it_is(dir.path(), &["--steps", "all,7"]);
    assert_eq!(planned.code, Some(0), "{planned:?}");
    assert!(planned.stderr.contains("step512") && planned.stderr.contains("step7"), "{planned:?}");
    let sweep = open(dir.path());
    assert_eq!(sweep.missing().len(), 2);

    // Changed after it was planned.
    overwrite(dir.path(), 0, &[1, 2, 3, 4]);
    let outcome = quant(dir.path(), &["sweep", "run", "sweep"]);
    assert_eq!(outcome.code, Some(65), "{outcome:?}");
    assert!(outcome.stdout.starts_with("3 cells computed") && outcome.stdout.contains("failed"), "{outcome:?}");
    assert_eq!(classes(&sweep, 0), [Some(ErrorClass::Corrupt); 3]);
    assert_eq!(classes(&sweep, 1500), [None; 3]);
    assert_eq!(classes(&sweep, 256), [Some(ErrorClass::Numeric); 3]);

    // They stay, until they are wanted again.
    let outcome = quant(dir.path(), &["sweep", "run", "sweep"]);
    assert_eq!(
        (outcome.code, outcome.stdout.starts_with("0 cells computed, 3 were there")),
        (Some(65), true),
        "{outcome:?}"
    );
    put(&dir.path().join("pythia-docs-1m/step0"), 0);
    let outcome = quant(dir.path(), &["sweep", "run", "sweep", "--retry-failed"]);
    assert_eq!(outcome.code, Some(65), "{outcome:?}");
    assert_eq!(classes(&sweep, 0), [None; 3]);
    let cell = sweep.manifest().cells.iter().find(|cell| sweep.manifest().checkpoint(cell).step == Some(256)).unwrap();
    assert_eq!(sweep.result(cell.id).unwrap().failed().unwrap().attempts, 2);
}

#[test]
fn checkpoints_with_the_same_files_are_computed_once() {
    let dir = tempfile::tempdir().unwrap();
    family(dir.path());
    put(&dir.path().join("pythia-docs-1m/step1"), 0);
    text(dir.path());
    let planned = plan_as_it_is(dir.path(), &["--steps", "0..2"]);
    assert!(planned.stdout.contains("2, of which 1 with different files"), "{planned:?}");
    let outcome = quant(dir.path(), &["sweep", "run", "sweep"]);
    assert!(outcome.stdout.starts_with("6 cells computed"), "{outcome:?}");
    assert!(outcome.stderr.contains("step0 and 1 with the same files"), "{outcome:?}");
    let sweep = open(dir.path());
    for result in sweep.results().into_iter().flatten() {
        let computed_at = result.done().unwrap().computed_at.clone();
        assert_eq!(computed_at.as_deref(), (result.of.step == Some(1)).then_some("pythia-docs-1m@step0"));
    }
    // A revision that is added later takes the values that are there.
    put(&dir.path().join("pythia-docs-1m/step2"), 0);
    plan_as_it_is(dir.path(), &["--steps", "0..2", "--force"]).ok();
    let outcome = quant(dir.path(), &["sweep", "run", "sweep"]);
    assert!(outcome.stdout.starts_with("3 cells computed, 6 were there"), "{outcome:?}");
    assert!(!outcome.stderr.contains("checkpoint 1 of"), "{outcome:?}");
}

#[test]
fn wrong_plans_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    plan(dir.path(), &[]);
    fs::copy(dir.path().join("heldout.txt"), dir.path().join("copy.txt")).unwrap();
    let again = plan_as_it_is(dir.path(), &[]);
    again.fails(PROGRAM, 2, &["manifest.jsonl", "--force"]);
    for (more, code, parts) in [
        (&["--steps", "9..1"][..], 2, &["--steps", "'9..1'"][..]),
        (&["--steps", "3"], 65, &["there are no checkpoints", "step3"]),
        (&["--quantizer", "feedback"], 2, &["--calibrate TEXT"]),
        (&["--calibrate", "heldout.txt"], 2, &["--calibrate is for"]),
        (&["-t", "IQ2_XS"], 2, &["IQ2_XS needs importances"]),
        (&["-f", "heldout.txt"], 2, &["two texts are called heldout.txt"]),
        (&["-f", "copy.txt"], 2, &["two measures are the same"]),
        (&["-c", "2"], 2, &["--ctx"]),
        (&["no/such/folder"], 74, &["no such folder"]),
        (&["heldout.txt"], 74, &["heldout.txt"]),
    ] {
        let outcome = plan_as_it_is(dir.path(), &[&["-o", "other"], more].concat());
        outcome.fails(PROGRAM, code, parts);
        assert!(!dir.path().join("other").exists(), "{more:?}");
    }
    quant(dir.path(), &["sweep", "run", "nothing"]).fails(PROGRAM, 74, &["nothing"]);
    for (more, parts) in [
        (&["--shard", "3/3"][..], &["--shard", "'3/3'"][..]),
        (&["--group", "zz"], &["--group", "zz"]),
        (&["--cell", "zz"], &["--cell"]),
        (&["--cell", "0123456789abcdef"], &["no cell of this sweep"]),
    ] {
        quant(dir.path(), &[&["sweep", "run", "sweep"], more].concat()).fails(PROGRAM, 2, parts);
    }
    fs::write(dir.path().join("heldout.txt"), "another text").unwrap();
    quant(dir.path(), &["sweep", "run", "sweep"]).fails(PROGRAM, 65, &["heldout.txt", "has changed"]);
}

#[test]
fn what_is_no_manifest_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    plan(dir.path(), &[]);
    let path = dir.path().join("sweep/manifest.jsonl");
    let whole = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let cases = [
        (String::new(), "is empty"),
        ("{}".to_owned(), "line 1"),
        (lines[1..].join("\n"), "line 1: found another kind"),
        (whole.replace("pythia-sweep/1", "pythia-sweep/9"), "format pythia-sweep/9"),
        (lines[..1].iter().chain(&lines[2..]).copied().collect::<Vec<_>>().join("\n"), "line 2"),
        (lines[..lines.len() - 1].join("\n"), "8 cells and 0 missing checkpoints, wanted 3, 9 and 0"),
        (lines[..3].iter().chain(&lines[2..]).copied().collect::<Vec<_>>().join("\n"), "line 4: a second cell"),
        (whole.replacen("\"Q4_0\"", "\"Q9\\u001b[31m\"", 1), "line"),
        (whole[..whole.len() - 20].to_owned(), "line"),
        (format!("{whole}{}", lines[0]), "a second line"),
        (whole.replacen("\"group\":\"", "\"group\":\"../", 1), "line 2"),
    ];
    for (text, part) in cases {
        fs::write(&path, &text).unwrap();
        quant(dir.path(), &["sweep", "run", "sweep"]).fails(PROGRAM, 65, &["manifest.jsonl", part]);
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(open(dir.path()).manifest().groups.len(), STEPS.len());
}

#[test]
fn a_level_that_cannot_be_made_does_not_stand_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    family(dir.path());
    text(dir.path());
    // Too large for the scales of Q4_0, and not for BF16.
    widen(&dir.path().join("pythia-docs-1m/step256/model.safetensors"), 1e6);
    let args = ["--steps", "256", "-t", "Q4_0,BF16"];
    let plan = ["sweep", "plan", "pythia-docs-1m", "-f", "heldout.txt", "--chunks", "2"];
    quant(dir.path(), &[&plan[..], &args].concat()).ok();
    let outcome = quant(dir.path(), &["sweep", "run", "sweep"]);
    assert_eq!(outcome.code, Some(65), "{outcome:?}");
    let sweep = open(dir.path());
    assert_eq!(classes(&sweep, 256), [None, Some(ErrorClass::Numeric), None]);
}

#[test]
fn the_base_may_be_named_as_a_level() {
    let dir = tempfile::tempdir().unwrap();
    family(dir.path());
    text(dir.path());
    let plan = ["sweep", "plan", "pythia-docs-1m", "-f", "heldout.txt", "--chunks", "2", "-s", "0", "-t", "F16"];
    quant(dir.path(), &plan).ok();
    quant(dir.path(), &["sweep", "run", "sweep"]).ok();
    let sweep = open(dir.path());
    assert_eq!(classes(&sweep, 0), [None; 2]);
}

#[test]
fn a_machine_that_cannot_run_models_writes_no_results() {
    let dir = tempfile::tempdir().unwrap();
    plan(dir.path(), &["--steps", "0"]);
    let outcome = command(dir.path(), &["sweep", "run", "sweep"]).env("PYTHIA_ISA", "banana").output().unwrap();
    Outcome::from(outcome).fails(PROGRAM, 2, &["banana"]);
    assert!(!dir.path().join("sweep/results").exists());
    quant(dir.path(), &["sweep", "run", "sweep"]).ok();
}

#[test]
fn files_that_came_after_the_plan_are_not_read_instead() {
    let dir = tempfile::tempdir().unwrap();
    plan(dir.path(), &["--steps", "0"]);
    let folder = dir.path().join("pythia-docs-1m/step0");
    // An index and a shard, as they were planned.
    let shard = folder.join("model-00001-of-00001.safetensors");
    fs::rename(folder.join("model.safetensors"), &shard).unwrap();
    let bytes = fs::read(&shard).unwrap();
    let names = SafeTensors::deserialize(&bytes).unwrap();
    let map: serde_json::Map<String, serde_json::Value> =
        names.names().iter().map(|name| ((*name).to_owned(), "model-00001-of-00001.safetensors".into())).collect();
    let index = serde_json::json!({ "metadata": {}, "weight_map": map });
    fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
    plan_as_it_is(dir.path(), &["--steps", "0", "--force"]).ok();
    fs::copy(dir.path().join("pythia-docs-1m/step1500/model.safetensors"), folder.join("model.safetensors")).unwrap();
    let outcome = quant(dir.path(), &["sweep", "run", "sweep"]);
    assert_eq!(outcome.code, Some(65), "{outcome:?}");
    assert_eq!(classes(&open(dir.path()), 0), [Some(ErrorClass::Corrupt); 3]);
}

#[test]
fn importances_are_those_of_the_text_of_the_plan() {
    let dir = tempfile::tempdir().unwrap();
    family(dir.path());
    let whole = fs::read_to_string(text(dir.path())).unwrap();
    fs::write(dir.path().join("other.txt"), &whole[whole.len() / 2..]).unwrap();
    let plan = |calibration: &str, sweep: &str| {
        let args =
            ["sweep", "plan", "pythia-docs-1m", "-s", "1500", "-f", "heldout.txt", "--chunks", "2", "-t", "Q2_K"];
        let more = ["--quantizer", "imatrix", "--calibrate", calibration, "-o", sweep, "--force"];
        quant(dir.path(), &[&args[..], &more].concat()).ok();
        quant(dir.path(), &["sweep", "run", sweep, "-q", "--keep-work", "--scratch", "scratch"]).ok();
        values(&Sweep::open(&dir.path().join(sweep)).unwrap())
    };
    let first = plan("heldout.txt", "a");
    let other = plan("other.txt", "a");
    assert_ne!(first, other);
    assert_eq!(plan("other.txt", "b"), other);
}

#[cfg(unix)]
#[test]
fn what_lies_in_the_way_of_a_checkpoint_leaves_the_others_alone() {
    let dir = tempfile::tempdir().unwrap();
    plan(dir.path(), &[]);
    let sweep = open(dir.path());
    let first = &sweep.manifest().groups[0].group;
    let leases = dir.path().join("sweep/leases");
    fs::create_dir_all(leases.join(format!("{first}.json"))).unwrap();
    let outcome = quant(dir.path(), &["sweep", "run", "sweep", "-q"]);
    assert_eq!(outcome.code, Some(74), "{outcome:?}");
    assert_eq!(sweep.results().iter().flatten().count(), 6);
    fs::remove_dir(leases.join(format!("{first}.json"))).unwrap();
    quant(dir.path(), &["sweep", "run", "sweep", "-q"]).ok();
    let emit = quant(dir.path(), &["sweep", "emit", "parallel", "sweep", "-o", "sweep/manifest.jsonl", "--force"]);
    assert_ne!(emit.code, Some(0), "{emit:?}");
    assert_eq!(open(dir.path()).manifest(), sweep.manifest());
}

#[cfg(unix)]
#[test]
fn results_that_cannot_be_written_end_the_run() {
    let dir = tempfile::tempdir().unwrap();
    plan(dir.path(), &["--steps", "0"]);
    // A file where the folder should be.
    fs::write(dir.path().join("sweep/results"), "").unwrap();
    let outcome: Outcome = command(dir.path(), &["sweep", "run", "sweep", "-q"]).output().unwrap().into();
    outcome.fails(PROGRAM, 74, &["results"]);
    assert_eq!(fs::read_dir(dir.path().join("sweep/leases")).unwrap().count(), 0);
}
