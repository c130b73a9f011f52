//! What fuzzing found, without a fuzzer: every committed input of every target in `fuzz/`, and a sweep over all small
//! damage to a file of each kind. Each runs in a process of its own in 256 MB of address space, as panics are not the
//! only way for a reader to fail.

#[path = "../../fuzz/readers.rs"]
#[allow(unreachable_pub, reason = "the fuzz targets use it as a crate")]
mod readers;
mod seeds;

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A fuzz target: what it does with its bytes, and whether they are good for all of it.
type Target = fn(&[u8]) -> bool;

const TARGETS: &[(&str, Target)] = &[
    ("gguf", readers::gguf),
    ("safetensors", readers::safetensors),
    ("torch", readers::torch),
    ("config", readers::config),
    ("imatrix", readers::imatrix),
    ("calibration", readers::calibration),
];

fn target(name: &str) -> Target {
    TARGETS.iter().find(|(target, _)| *target == name).expect("a target of this name").1
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The files in a folder of inputs; none if it is not there.
fn inputs(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

/// What the seeds are is in [`seeds`]; `PYTHIA_WRITE_SEEDS=1` writes them anew.
#[test]
fn seeds_are_as_made_here() {
    for seed in seeds::all() {
        let path = fuzz().join("corpus").join(seed.target).join(seed.name);
        if std::env::var_os("PYTHIA_WRITE_SEEDS").is_some() {
            fs::write(&path, &seed.bytes).expect("a folder of seeds");
        }
        let found = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(found == seed.bytes, "{} is not what is made here", path.display());
    }
}

/// Seeds that are refused at once lead nowhere.
#[test]
fn seeds_that_are_whole_are_taken_all_the_way() {
    const PARTS: &[&str] = &[
        "vocabulary.gguf",
        "values.gguf",
        "version-2.gguf",
        "foreign-type.gguf",
        "embedding.safetensors",
        "tensors.bin",
        "tensors-64.bin",
        "tensors-legacy.bin",
        "unchecked.bin",
        "views.bin",
        "views-legacy.bin",
        "wrapped.bin",
    ];
    for seed in seeds::all() {
        assert_eq!(target(seed.target)(&seed.bytes), !PARTS.contains(&seed.name), "{}", seed.name);
    }
}

#[test]
fn the_corpus_stays_small() {
    for (name, _) in TARGETS {
        let paths = inputs(&fuzz().join("corpus").join(name));
        let n_bytes: u64 = paths.iter().map(|path| path.metadata().expect("a file").len()).sum();
        assert!(
            (3..=30).contains(&paths.len()) && n_bytes <= 100_000,
            "{name}: {} files, {n_bytes} bytes",
            paths.len()
        );
    }
}

#[test]
fn committed_inputs() {
    for (name, _) in TARGETS {
        in_256_mb(&format!("replay {name}"));
    }
}

macro_rules! sweeps {
    ($($test:ident: $target:literal, $seed:literal;)*) => {
        $(
            #[test]
            fn $test() {
                in_256_mb(concat!("sweep ", $target, " ", $seed));
            }
        )*
    };
}
sweeps! {
    sweep_of_gguf: "gguf", "model.gguf";
    sweep_of_split_gguf: "gguf", "split.gguf";
    sweep_of_safetensors: "safetensors", "tied.safetensors";
    sweep_of_zip: "torch", "tensors.bin";
    sweep_of_zip_without_checksums: "torch", "views.bin";
    sweep_of_legacy_pickles: "torch", "tensors-legacy.bin";
    sweep_of_configs: "config", "alone.json";
    sweep_of_tokenizers: "config", "transformers-4.json";
    sweep_of_imatrix: "imatrix", "imatrix.gguf";
    sweep_of_old_imatrix: "imatrix", "imatrix.dat";
    sweep_of_calibrations: "calibration", "moments.gguf";
}

/// Names what [`child`] is to do.
const TASK: &str = "PYTHIA_FUZZ_TASK";

/// Runs this program again, with little memory, for one task.
fn in_256_mb(task: &str) {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = tempfile::tempdir_in(folder).expect("a folder for files");
    let program = std::env::current_exe().expect("this program");
    let script = r#"ulimit -v 262144 && exec timeout 120 "$@""#;
    let mut limited = Command::new("sh");
    limited.args(["-c", script, "sh"]).arg(program).args(["fuzz_replay::child", "--exact", "--ignored", "--nocapture"]);
    // One heap per thread would reserve more than the whole limit on a machine of many cores.
    limited.env("MALLOC_ARENA_MAX", "1").env("RAYON_NUM_THREADS", "1").env("TMPDIR", folder.path());
    let output = limited.env(TASK, task).output().expect("the program starts");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let ran = output.status.success() && stdout.contains("1 passed");
    assert!(ran, "{task}: {:?}\n{stdout}\n{stderr}", output.status);
    // Only shown if the test is asked to show it.
    println!("{task}: {}", stdout.lines().find(|line| line.contains("inputs")).unwrap_or_default());
}

/// The other side of [`in_256_mb`].
#[test]
#[ignore = "only as the child of another test"]
fn child() {
    let Ok(task) = std::env::var(TASK) else { return };
    let words: Vec<&str> = task.split(' ').collect();
    let n_inputs = match words[..] {
        ["replay", name] => replay(name),
        ["sweep", name, seed] => sweep(target(name), &seeds::find(name, seed)),
        _ => panic!("no task {task}"),
    };
    println!("{n_inputs} inputs");
}

fn replay(name: &str) -> usize {
    let folders = ["corpus", "findings"].map(|folder| fuzz().join(folder).join(name));
    let paths: Vec<_> = folders.iter().flat_map(|folder| inputs(folder)).collect();
    for path in &paths {
        let bytes = fs::read(path).expect("an input");
        assert!(catch_unwind(|| target(name)(&bytes)).is_ok(), "{}", path.display());
    }
    paths.len()
}

/// Cuts `good` at every place and changes every byte of it: each bit, all to 0, all to 1.
fn sweep(target: Target, good: &[u8]) -> usize {
    let mut n_inputs = 0;
    for len in 0..=good.len() {
        assert!(catch_unwind(|| target(&good[..len])).is_ok(), "cut to {len} bytes");
        n_inputs += 1;
    }
    let mut bytes = good.to_vec();
    for at in 0..good.len() {
        let flipped = (0..8).map(|bit| good[at] ^ 1 << bit);
        for byte in flipped.chain([0x00, 0xff]) {
            bytes[at] = byte;
            assert!(catch_unwind(|| target(&bytes)).is_ok(), "byte {at} changed to {byte:#04x}");
            n_inputs += 1;
        }
        bytes[at] = good[at];
    }
    n_inputs
}
