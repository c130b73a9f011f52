//! Sweeps over the training checkpoints in `data/`: planned, run in every way, interrupted, killed, and always the same.

mod faults;
#[cfg(feature = "hub")]
mod hub;
mod library;
mod lifecycle;

use crate::common::{self, Outcome, PYTHIA_QUANT, data};
use pythia_sweep::{CellResult, Sweep};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The steps in `data/`.
const STEPS: [u64; 3] = [0, 256, 1500];

/// Makes the family of checkpoints in `folder`.
fn family(folder: &Path) -> PathBuf {
    let models = folder.join("pythia-docs-1m");
    for step in STEPS {
        put(&models.join(format!("step{step}")), step);
    }
    models
}

/// Makes a checkpoint of the family.
fn put(folder: &Path, step: u64) {
    fs::create_dir_all(folder).unwrap();
    let files = [
        ("model.safetensors", data("pythia-docs-1m-steps").join(format!("step{step}"))),
        ("config.json", data("pythia-docs-1m-steps")),
        ("tokenizer.json", data("pythia-docs-6m")),
        ("tokenizer_config.json", data("pythia-docs-6m")),
    ];
    for (name, from) in files {
        fs::copy(from.join(name), folder.join(name)).unwrap();
    }
}

/// The held-out text, beside the models.
fn text(folder: &Path) -> PathBuf {
    let text = folder.join("heldout.txt");
    if !text.exists() {
        fs::copy(data("pythia-docs-6m").join("heldout.txt"), &text).unwrap();
    }
    text
}

/// The program in `folder`, outside of any array job.
fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(PYTHIA_QUANT);
    for (name, _) in std::env::vars() {
        let engines = ["SLURM_", "PBS_", "SGE_", "LSB_", "HQ_", "AWS_BATCH_", "JOB_COMPLETION", "PYTHIA_SHARDS"];
        if engines.iter().any(|engine| name.starts_with(engine)) {
            command.env_remove(name);
        }
    }
    command.env("PYTHIA_CACHE", common::scratch().join("cache")).current_dir(folder).args(args).stdin(Stdio::null());
    command
}

fn quant(folder: &Path, args: &[&str]) -> Outcome {
    command(folder, args).output().unwrap().into()
}

/// Plans a sweep over the family in `folder`, of three chunks.
fn plan(folder: &Path, more: &[&str]) -> String {
    plan_chunks(folder, "3", more)
}

/// The same of so many chunks.
fn plan_chunks(folder: &Path, chunks: &str, more: &[&str]) -> String {
    family(folder);
    text(folder);
    let args = ["sweep", "plan", "pythia-docs-1m", "-f", "heldout.txt", "-t", "Q4_0,Q2_K", "--chunks", chunks];
    quant(folder, &[&args[..], more].concat()).ok()
}

fn open(folder: &Path) -> Sweep {
    Sweep::open(&folder.join("sweep")).unwrap()
}

/// All results, in the order of the manifest.
fn results(sweep: &Sweep) -> Vec<CellResult> {
    let named = sweep.manifest().cells.iter().zip(sweep.results());
    named
        .map(|(cell, result)| result.unwrap_or_else(|| panic!("no result of {}", sweep.manifest().name(cell))))
        .collect()
}

/// What must not depend on where and when cells were computed.
fn values(sweep: &Sweep) -> Vec<Value> {
    let without_run = |result: &CellResult| {
        let mut value = json!(result);
        value.as_object_mut().unwrap().remove("run");
        value
    };
    results(sweep).iter().map(without_run).collect()
}
