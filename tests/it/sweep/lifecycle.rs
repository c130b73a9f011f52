//! Parts, several runners, and runs that are stopped or killed: the results are those of one run.

use super::{command, open, plan, plan_chunks, quant, results, values};
use crate::common::Outcome;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// `N cells computed` of a run.
fn computed(outcome: &Outcome) -> usize {
    let line = outcome.stdout.lines().last().unwrap_or_default();
    line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{outcome:?}"))
}

fn start(folder: &Path, args: &[&str]) -> Child {
    command(folder, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn parts_are_the_whole_and_can_be_moved() {
    let dir = tempfile::tempdir().unwrap();
    plan(dir.path(), &[]);
    let mut sum = 0;
    for shard in 0..4 {
        let part = format!("{shard}/4");
        let outcome = quant(dir.path(), &["sweep", "run", "sweep", "--shard", &part, "--threads", "1"]);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        sum += computed(&outcome);
        assert_eq!(results_there(dir.path()), sum, "no part has what another has");
    }
    assert_eq!(sum, 9);
    let before = values(&open(dir.path()));
    // The same in another place, computed by other means: everything is named from the folder of the sweep.
    let moved = dir.path().join("moved");
    fs::create_dir(&moved).unwrap();
    for name in ["pythia-docs-1m", "heldout.txt", "sweep"] {
        fs::rename(dir.path().join(name), moved.join(name)).unwrap();
    }
    fs::remove_dir_all(moved.join("sweep/results")).unwrap();
    let group = open(&moved).manifest().groups[0].group.clone();
    quant(&moved, &["sweep", "run", "sweep", "--group", &group[..6]]).ok();
    let run = command(&moved, &["sweep", "run", "sweep/manifest.jsonl"]).env("PYTHIA_ISA", "scalar").output().unwrap();
    assert_eq!(computed(&run.into()), 6);
    assert_eq!(values(&open(&moved)), before);
}

#[test]
fn two_runners_share_the_work() {
    let dir = tempfile::tempdir().unwrap();
    plan(dir.path(), &[]);
    let runners = [0, 1, 2].map(|_| start(dir.path(), &["sweep", "run", "sweep", "--threads", "1"]));
    let outcomes = runners.map(|runner| Outcome::from(runner.wait_with_output().unwrap()));
    for outcome in &outcomes {
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
    }
    assert_eq!(outcomes.iter().map(computed).sum::<usize>(), 9, "{outcomes:?}");
    let leases = fs::read_dir(dir.path().join("sweep/leases")).unwrap().count();
    assert_eq!(leases, 0);
}

#[test]
fn a_runner_does_not_wait_if_told_so() {
    let dir = tempfile::tempdir().unwrap();
    plan(dir.path(), &["--steps", "0"]);
    let group = &open(dir.path()).manifest().groups[0].group.clone();
    // Another machine has it, as far as the file tells.
    let leases = dir.path().join("sweep/leases");
    fs::create_dir_all(&leases).unwrap();
    let lease = leases.join(format!("{group}.json"));
    fs::write(&lease, r#"{"host": "elsewhere", "boot": "x", "pid": 7}"#).unwrap();
    let outcome = quant(dir.path(), &["sweep", "run", "sweep", "--no-wait"]);
    assert_eq!(outcome.code, Some(75), "{outcome:?}");
    let status = quant(dir.path(), &["sweep", "status", "sweep"]).ok();
    assert!(status.contains("pythia-docs-1m@step0: process 7 on elsewhere"), "{status}");
    assert!(outcome.stderr.contains("process 7 on elsewhere") && outcome.stdout.contains("3 are left to other runs"));
    fs::remove_file(lease).unwrap();
    quant(dir.path(), &["sweep", "run", "sweep", "--no-wait"]).ok();
}

/// A sweep of one checkpoint that takes a while.
fn slow(folder: &Path) {
    plan_chunks(folder, "150", &["--steps", "1500"]);
}

/// Bytes of scores that runs have kept.
#[cfg(unix)]
fn kept(folder: &Path) -> u64 {
    let inside = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = inside(folder.join("sweep/work")).flat_map(inside).flat_map(inside);
    let scores = files.filter(|file| file.extension().is_some_and(|end| end == "rows"));
    scores.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

/// Waits until a run has scored something. There were `before` bytes of scores when it began.
#[cfg(unix)]
fn wait_for_scores(folder: &Path, before: u64, child: &mut Child) {
    let start = Instant::now();
    while kept(folder) < before + 5000 {
        assert!(child.try_wait().unwrap().is_none(), "ended too early");
        assert!(start.elapsed() < Duration::from_secs(120), "scores nothing");
        thread::sleep(Duration::from_millis(2));
    }
}

#[cfg(unix)]
fn signal(child: &Child, name: &str) {
    let status = std::process::Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[cfg(unix)]
#[test]
fn schedulers_are_told_to_try_again_and_what_is_scored_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    slow(dir.path());
    for (name, code, says) in
        [("TERM", 75, "the same command goes on"), ("USR1", 75, "goes on"), ("INT", 130, "interrupted")]
    {
        let before = kept(dir.path());
        let mut child = start(dir.path(), &["sweep", "run", "sweep", "--threads", "1"]);
        wait_for_scores(dir.path(), before, &mut child);
        signal(&child, name);
        let outcome = Outcome::from(child.wait_with_output().unwrap());
        assert_eq!(outcome.code, Some(code), "{name}: {outcome:?}");
        assert!(outcome.stderr.contains(says), "{name}: {outcome:?}");
        assert_eq!(fs::read_dir(dir.path().join("sweep/leases")).unwrap().count(), 0, "{name}");
    }
    let outcome = quant(dir.path(), &["sweep", "run", "sweep"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stderr.contains("were scored by an earlier run"), "{outcome:?}");
    let stopped = values(&open(dir.path()));
    fs::remove_dir_all(dir.path().join("sweep/results")).unwrap();
    quant(dir.path(), &["sweep", "run", "sweep", "-q"]).ok();
    assert_eq!(values(&open(dir.path())), stopped);
}

#[cfg(unix)]
#[test]
fn killed_runs_leave_nothing_that_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    plan_chunks(dir.path(), "8", &[]);
    let mut pause = 40;
    loop {
        let mut child = start(dir.path(), &["sweep", "run", "sweep", "--threads", "1", "-q"]);
        thread::sleep(Duration::from_millis(pause));
        let _ = child.kill();
        if child.wait().unwrap().success() {
            break;
        }
        // What is there is valid, or not there.
        open(dir.path()).results().iter().flatten().for_each(|result| assert!(result.done().is_some()));
        pause = pause * 3 / 2;
    }
    let killed = values(&open(dir.path()));
    fs::remove_dir_all(dir.path().join("sweep/results")).unwrap();
    quant(dir.path(), &["sweep", "run", "sweep"]).ok();
    assert_eq!(values(&open(dir.path())), killed);
    assert_eq!(results(&open(dir.path())).len(), 9);
}

#[test]
fn array_jobs_take_their_part() {
    let dir = tempfile::tempdir().unwrap();
    plan(dir.path(), &[]);
    let run = |variables: &[(&str, &str)], more: &[&str]| -> Outcome {
        let mut command = command(dir.path(), &[&["sweep", "run", "sweep"], more].concat());
        command.envs(variables.iter().copied()).output().unwrap().into()
    };
    let slurm = [("SLURM_ARRAY_TASK_ID", "5"), ("SLURM_ARRAY_TASK_MIN", "4"), ("SLURM_ARRAY_TASK_COUNT", "3")];
    let outcome = run(&[&slurm[..], &[("SLURM_CPUS_PER_TASK", "1")]].concat(), &[]);
    assert!(outcome.stderr.contains("shard 1 of 3") && computed(&outcome) == 3, "{outcome:?}");
    assert_eq!(results_there(dir.path()), 3);
    run(&[("HQ_TASK_ID", "0")], &[]).fails("pythia-quant", 2, &["HyperQueue", "--shards N"]);
    let outcome = run(&[("HQ_TASK_ID", "0")], &["--shards", "1"]);
    assert_eq!((computed(&outcome), outcome.code), (6, Some(0)), "{outcome:?}");
}

fn results_there(folder: &Path) -> usize {
    open(folder).results().iter().flatten().count()
}
