//! Every option that names a file to read, given what is no file: a folder, a pipe, a device without end, nothing.

use super::checkpoint;
use super::model::changed;
use super::{DATA, IO, fault_of, none, write};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// What is not there is called `x`, with any ending; `m.gguf` and `t.txt` are a model and a text, and `c` is a checkpoint.
const COMMANDS: &[&str] = &[
    "pythia-run info x.gguf",
    "pythia-run generate x.gguf -p a",
    "pythia-run generate m.gguf -f x.txt",
    "pythia-run perplexity m.gguf -f x.txt",
    "pythia-run tokenize m.gguf -f x.txt",
    "pythia-run bench x.gguf",
    "pythia-run eval -m x.gguf --tasks piqa --data .",
    "pythia-run eval -m m.gguf --tasks x.toml",
    "pythia-run eval -m m.gguf --tasks own.toml",
    "pythia-run eval -m m.gguf --tasks piqa --data x.jsonl",
    "pythia-run eval -m m.gguf --tasks piqa --data x.parquet",
    "pythia-run eval -m m.gguf --tasks own.toml --samples x.json",
    "pythia-run eval plot x.json",
    "pythia-run serve -m x.gguf",
    "pythia-quant inspect x.gguf",
    "pythia-quant diff x.gguf m.gguf",
    "pythia-quant diff m.gguf x.gguf",
    "pythia-quant dequantize x.gguf out",
    "pythia-quant quantize x.gguf out.gguf Q8_0",
    "pythia-quant quantize m.gguf out.gguf Q8_0 --imatrix x.gguf",
    "pythia-quant quantize m.gguf out.gguf Q8_0 --tensor-type-file x.txt",
    "pythia-quant quantize m.gguf out.gguf Q8_0 --quantizer feedback --calibration x.gguf",
    "pythia-quant convert x.safetensors -t Q8_0 -o out.gguf",
    "pythia-quant convert c -t Q8_0 -o out.gguf --lora x",
    "pythia-quant convert c -t Q8_0 -o out.gguf --quantizer feedback --calibrate x.txt",
    "pythia-quant verify x.gguf",
    "pythia-quant verify m.gguf --against c --lora x",
    "pythia-quant verify m.gguf --against x.gguf",
    "pythia-quant verify m.gguf --against c --imatrix x.gguf",
    "pythia-quant imatrix x.gguf -f t.txt -o out.gguf",
    "pythia-quant imatrix m.gguf -f x.txt -o out.gguf",
    "pythia-quant calibrate x.gguf -f t.txt -o out.gguf",
    "pythia-quant calibrate m.gguf -f x.txt -o out.gguf",
    "pythia-quant compare x.gguf -f t.txt",
    "pythia-quant compare m.gguf x.gguf -f t.txt",
    "pythia-quant compare m.gguf -f x.txt",
    "pythia-quant compare m.gguf -f t.txt --imatrix x.gguf",
    "pythia-quant compare m.gguf -f t.txt --quantizer feedback --calibration x.gguf",
    "pythia-quant compare c -f t.txt --lora x",
    "pythia-quant compare m.gguf -f t.txt --tasks x.toml",
    "pythia-quant compare m.gguf -f t.txt --tasks piqa --data x.jsonl",
];

/// Makes something that is no file.
type Make = fn(&Path);

const KINDS: [(&str, Make); 4] = [
    ("a folder", |path| fs::create_dir(path).expect("a folder")),
    ("a pipe", |path| assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo").success())),
    ("a device", |path| symlink("/dev/zero", path).expect("a link")),
    ("nothing", |_| ()),
];

/// What exists besides.
fn build(folder: &Path, name: &str, make: Make) {
    changed(folder, |_| ());
    write(folder, "t.txt", "a text");
    write(folder, "own.toml", "name = \"own\"\nkind = \"loglikelihood\"\ndata = \"x.jsonl\"");
    fs::create_dir(folder.join("c")).expect("a folder");
    checkpoint::valid(&folder.join("c"));
    make(&folder.join(name));
}

#[test]
fn no_option_waits_for_or_reads_what_is_no_file() {
    let mut faults = Vec::new();
    for command in COMMANDS {
        let named = command.split(' ').find(|word| word.starts_with('x')).unwrap_or("x.jsonl");
        for (kind, make) in KINDS {
            // A text may come from a pipe.
            if kind == "a pipe" && ["-f x.txt", "--calibrate x.txt"].iter().any(|text| command.contains(text)) {
                continue;
            }
            let run = |code| fault_of(kind, command, |folder| build(folder, named, make), command, named, code);
            // Whether the system or the program says no does not matter here.
            faults.extend(run(IO).and_then(|fault| run(DATA).map(|_| fault)));
        }
    }
    none(faults.into_iter());
}
