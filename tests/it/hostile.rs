//! Hostile files given to the programs themselves: every case of a numbered list of malformed inputs, each in an empty
//! folder and in an address space of 256 MB. Each must end in one line that names the fault; never in a signal, a
//! panic, an output file, or a wait.
//!
//! The list is the union of what broke other readers of these formats: `G` the GGUF container, `F` the file system,
//! `M` GPT-NeoX metadata and tensors, `T` the tokenizer keys of GGUF, `S` safetensors and its index, `P` pickled
//! PyTorch checkpoints, `C` config.json and tokenizer.json.

#[path = "../../formats/gguf/tests/container/cases.rs"]
mod cases;
mod change;
mod checkpoint;
mod config;
mod container;
mod display;
mod files;
mod gptneox;
mod large;
mod model;
mod options;
mod pickle;
#[path = "../../formats/gguf/tests/container/raw.rs"]
mod raw;
mod safetensors;
mod split;
mod vocab;

use crate::common::{PYTHIA_QUANT, PYTHIA_RUN};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// One malformed input.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// Its number on the list; several cases may share one.
    pub(crate) id: &'static str,
    /// What is wrong.
    pub(crate) name: &'static str,
    /// Writes the files into an empty folder.
    pub(crate) build: fn(&Path),
    /// The program and its arguments, run in that folder.
    pub(crate) command: &'static str,
    /// What the line on stderr must hold.
    pub(crate) wanted: &'static str,
}

/// A row of a table of cases.
pub(crate) const fn case(
    id: &'static str,
    name: &'static str,
    build: fn(&Path),
    command: &'static str,
    wanted: &'static str,
) -> Case {
    Case { id, name, build, command, wanted }
}

/// Exit codes of `sysexits.h`, as the programs use them.
pub(crate) const USAGE: i32 = 2;
pub(crate) const DATA: i32 = 65;
pub(crate) const IO: i32 = 74;

/// Address space of a program, in KiB.
const LIMIT_KIB: u32 = 256 << 10;
/// No case takes a second alone, though files have up to 50 MB. This ends one whose work is not linear in that, also on
/// a machine that runs all tests at once.
const LIMIT_SECONDS: u32 = 60;

/// Runs `case`, which must end with `code`; what is wrong if it does otherwise.
pub(crate) fn fault(case: &Case, code: i32) -> Option<String> {
    let Case { id, name, build, command, wanted } = *case;
    fault_of(id, name, build, command, wanted, code)
}

/// As [`fault`], with a builder that may be a closure.
pub(crate) fn fault_of(
    id: &str,
    name: &str,
    build: impl FnOnce(&Path),
    command: &str,
    wanted: &str,
    code: i32,
) -> Option<String> {
    let dir = tempfile::tempdir().expect("a folder");
    build(dir.path());
    let before = names(dir.path());
    let (program, args) = command.split_once(' ').expect("a program and arguments");
    let program = match program {
        "pythia-quant" => PYTHIA_QUANT,
        "pythia-run" => PYTHIA_RUN,
        other => panic!("{id} {name}: no program {other}"),
    };
    let script = format!(r#"ulimit -v {LIMIT_KIB} && exec timeout {LIMIT_SECONDS} "$@""#);
    let mut limited = Command::new("sh");
    limited.arg("-c").arg(script).arg("sh").arg(program).args(args.split(' ')).current_dir(dir.path());
    // One heap per thread would reserve more than the whole limit on a machine of many cores.
    let output = limited.env("MALLOC_ARENA_MAX", "1").env("RAYON_NUM_THREADS", "2").output();
    let output = output.expect("the program starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.contains(": warning: ")).collect();
    let says = match lines.as_slice() {
        _ if code == 0 => true,
        [line] => line.contains(": error: ") && line.contains(wanted) && line.len() < 1000,
        _ => false,
    };
    let plain = !stderr.chars().any(|c| c.is_control() && c != '\n');
    let as_before = code == 0 || names(dir.path()) == before;
    let right = output.status.code() == Some(code) && says && plain && as_before;
    (!right).then(|| format!("{id} {name}: {:?}, wanted code {code} and '{wanted}'\n    {stderr}", output.status))
}

/// All faults are reported at once.
fn none(faults: impl Iterator<Item = String>) {
    let faults: Vec<String> = faults.collect();
    assert!(faults.is_empty(), "{} cases:\n{}", faults.len(), faults.join("\n"));
}

fn all_refused(cases: &[Case]) {
    none(cases.iter().filter_map(|case| fault(case, DATA)));
}

fn names(folder: &Path) -> BTreeSet<std::ffi::OsString> {
    std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect()
}

pub(crate) fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    std::fs::write(folder.join(name), bytes).expect("a file");
}

#[test]
fn gguf_containers() {
    none(container::CASES.iter().flat_map(|table| table.iter()).filter_map(container::fault_of_case));
}

#[test]
fn file_system() {
    none(files::CASES.iter().filter_map(|(case, code)| fault(case, *code)));
}

#[test]
fn gptneox_models() {
    all_refused(gptneox::CASES);
}

#[test]
fn split_models() {
    all_refused(split::CASES);
}

#[test]
fn pickles() {
    all_refused(pickle::CASES);
}

#[test]
fn gguf_tokenizers() {
    all_refused(vocab::CASES);
}

#[test]
fn safetensors_and_indexes() {
    all_refused(safetensors::CASES);
}

#[test]
fn configs_and_tokenizers() {
    all_refused(config::CASES);
}

#[test]
fn files_that_ask_for_much() {
    all_refused(large::CASES);
}

/// Valid neighbours of the cases, so that a case cannot pass because its builder is broken.
#[test]
fn what_the_cases_are_made_from_is_accepted() {
    let valid = [gptneox::VALID, split::VALID, vocab::VALID, safetensors::VALID, config::VALID, large::VALID];
    none(valid.iter().flat_map(|cases| cases.iter()).filter_map(|case| fault(case, 0)));
}

/// The letters of the list and how many numbers each has.
const LIST: &[(char, usize)] = &[('G', 44), ('F', 7), ('M', 26), ('T', 18), ('S', 26), ('P', 30), ('C', 13)];

#[test]
fn the_list_is_complete() {
    let mut covered: BTreeSet<String> = BTreeSet::new();
    covered.extend(container::CASES.iter().flat_map(|table| table.iter()).map(|case| case.0.to_owned()));
    covered.extend(files::CASES.iter().map(|(case, _)| case.id.to_owned()));
    for table in [gptneox::CASES, split::CASES, vocab::CASES, pickle::CASES, safetensors::CASES, config::CASES] {
        covered.extend(table.iter().map(|case| case.id.to_owned()));
    }
    // Not tables: another user, and a second process. See `change`.
    covered.extend(["F5", "F6"].map(str::to_owned));
    let wanted = LIST.iter().flat_map(|&(letter, n)| (1..=n).map(move |i| format!("{letter}{i}")));
    let missing: Vec<String> = wanted.filter(|id| !covered.contains(id)).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
}
