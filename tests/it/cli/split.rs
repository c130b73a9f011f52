//! Models split over several files: written, read by every command, merged again.

use crate::common::{Outcome, checkpoint, file, gguf, names, printed, python, quant, run_model, scratch};
use pythia_gguf::{Gguf, Metadata, keys};
use serde_json::Value as Json;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const PROGRAM: &str = "pythia-quant";

/// A folder with the checkpoint as F16 and as Q8_0, both split into files of at most 4 MB.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = scratch().join("split");
        fs::create_dir_all(&folder).unwrap();
        for level in ["F16", "Q8_0"] {
            let output = format!("{level}-split.gguf");
            convert(&folder, &["-t", level, "-o", &output, "--split-max-size", "4M", "-q", "--force"]).ok();
        }
        folder
    })
}

fn convert(folder: &Path, more: &[&str]) -> Outcome {
    quant(folder, ["convert", checkpoint().to_str().unwrap()].into_iter().chain(more.iter().copied()))
}

/// Paths of the model of a level in one file, and of the first of several.
fn plain(level: &str) -> String {
    gguf(level).to_str().unwrap().to_owned()
}

fn split(level: &str) -> String {
    let count = if level == "F16" { 4 } else { 2 };
    folder().join(format!("{level}-split-00001-of-0000{count}.gguf")).to_str().unwrap().to_owned()
}

fn json(outcome: Outcome) -> Json {
    serde_json::from_str(&outcome.ok()).unwrap()
}

/// The first file of `level`'s split model and all others, copied to `folder`.
fn copy_split(level: &str, folder: &Path) -> Vec<PathBuf> {
    let start = format!("{level}-split-");
    let names = names(self::folder()).into_iter().filter(|name| name.starts_with(&start));
    let copy = |name: String| {
        fs::copy(self::folder().join(&name), folder.join(&name)).unwrap();
        folder.join(name)
    };
    names.map(copy).collect()
}

#[test]
fn a_split_model_merges_to_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    for level in ["F16", "Q8_0"] {
        // In its own type, a quantized tensor is copied.
        quant(dir.path(), ["quantize", &split(level), &format!("{level}.gguf"), level, "-q"]).ok();
        let merged = fs::read(dir.path().join(format!("{level}.gguf"))).unwrap();
        assert!(merged == fs::read(plain(level)).unwrap(), "{level}");
    }
    // Split anew in other places, and from there to another type.
    quant(dir.path(), ["quantize", &split("F16"), "a.gguf", "F16", "--split-max-tensors", "30", "-q"]).ok();
    let first = dir.path().join("a-00001-of-00003.gguf");
    quant(dir.path(), ["quantize", first.to_str().unwrap(), "b.gguf", "Q8_0", "-q"]).ok();
    assert!(fs::read(dir.path().join("b.gguf")).unwrap() == fs::read(plain("Q8_0")).unwrap());
}

#[test]
fn files_are_within_the_limit_and_say_which_they_are() {
    let files: Vec<_> = names(folder()).into_iter().filter(|name| name.starts_with("F16-split-")).collect();
    let wanted: Vec<_> = (1..=4).map(|no| format!("F16-split-0000{no}-of-00004.gguf")).collect();
    assert_eq!(files, wanted);
    let bytes = fs::read(plain("F16")).unwrap();
    let whole = Gguf::parse(&bytes).unwrap();
    let mut n_tensors = 0;
    for (no, name) in (0u16..).zip(files) {
        let part_bytes = fs::read(folder().join(name)).unwrap();
        assert!(part_bytes.len() <= 4_000_000);
        let part = Gguf::parse(&part_bytes).unwrap();
        // The types are llama.cpp's too: it takes no others.
        assert_eq!(part.metadata.get(keys::SPLIT_NO), Some(&no.into()));
        assert_eq!(part.metadata.get(keys::SPLIT_COUNT), Some(&4u16.into()));
        assert_eq!(part.metadata.get(keys::SPLIT_TENSORS_COUNT), Some(&76i32.into()));
        assert_eq!(part.metadata.len(), 3 + if no == 0 { whole.metadata.len() } else { 0 });
        for tensor in part.tensors() {
            let original = whole.tensor(&tensor.name).unwrap();
            assert!(part.data(&part_bytes, tensor) == whole.data(&bytes, original), "{}", tensor.name);
        }
        n_tensors += part.tensors().len();
    }
    assert_eq!(n_tensors, 76);
}

#[test]
fn what_fits_in_one_file_is_written_as_one() {
    let dir = tempfile::tempdir().unwrap();
    convert(dir.path(), &["-t", "Q8_0,F16", "-o", "./", "--split-max-size", "10M", "--json"]).ok();
    let names = names(dir.path());
    let start = "pythia-docs-6m-";
    let wanted = ["F16-00001-of-00002.gguf", "F16-00002-of-00002.gguf", "Q8_0.gguf"].map(|end| format!("{start}{end}"));
    assert_eq!(names, wanted, "each type by itself");
    assert!(fs::read(dir.path().join(&names[2])).unwrap() == fs::read(plain("Q8_0")).unwrap());
}

#[test]
fn every_command_takes_a_split_model() {
    let dir = tempfile::tempdir().unwrap();
    let text = checkpoint().join("heldout.txt");
    let text = text.to_str().unwrap();
    let both = |run: &dyn Fn(&str) -> Json| [split("F16"), plain("F16")].map(|path| run(&path));

    let [a, b] = both(&|path| json(run_model(dir.path(), ["perplexity", path, "-f", text, "--chunks", "4", "--json"])));
    assert_eq!(a["nll"]["value"].as_f64().unwrap().to_bits(), b["nll"]["value"].as_f64().unwrap().to_bits());
    assert_eq!(a["tokens_scored"], b["tokens_scored"]);
    let prompt = ["-p", "The quick", "-n", "8", "--json"];
    let [a, b] = both(&|path| json(run_model(dir.path(), ["generate", path].iter().chain(&prompt))));
    assert_eq!(a["ids"], b["ids"]);
    let [a, b] = both(&|path| json(run_model(dir.path(), ["info", path, "--json"])));
    let n_bytes: u64 = copy_split("F16", dir.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert_eq!((&a["file_bytes"], &a["parameters"]), (&n_bytes.into(), &b["parameters"]));
    let [a, b] = both(&|path| json(run_model(dir.path(), ["tokenize", path, "-p", "The quick", "--json"])));
    assert_eq!(a, b);
    let [a, _] =
        both(&|path| json(run_model(dir.path(), ["bench", "-m", path, "-p", "8", "-n", "0", "-r", "1", "-o", "json"])));
    assert_eq!(a[0]["model_n_params"], 6_836_224);

    let [a, b] = both(&|path| json(quant(dir.path(), ["inspect", path, "--json"])));
    assert_eq!((&a["metadata"], &a["sizes"]["bits_per_weight"]), (&b["metadata"], &b["sizes"]["bits_per_weight"]));
    assert_eq!((a["files"].as_array().unwrap().len(), &a["sizes"]["file_bytes"]), (4, &n_bytes.into()));
    assert_eq!(a["tensors"][75]["file"], 3);
    let shown = quant(dir.path(), ["inspect", &split("F16"), "--tensors"]).ok();
    assert!(shown.contains("F16-split-00004-of-00004.gguf"), "{shown}");
    let [a, b] = both(&|path| json(quant(dir.path(), ["verify", path, "--sha256", "--json"])));
    assert_eq!((&a["sound"], a["files"].as_array().unwrap().len(), &a["sha256"]), (&true.into(), 4, &Json::Null));
    assert_eq!(a["tensors"], b["tensors"], "digests of tensors do not depend on the file they are in");
    let source = checkpoint();
    let against = ["verify", &split("F16"), "--against", source.to_str().unwrap()];
    assert!(quant(dir.path(), against).ok().contains("76 of 76 tensors identical to the source's"));
    let same = quant(dir.path(), ["diff", &split("F16"), &plain("F16")]).ok();
    assert!(same.starts_with("the same"), "{same}");

    for (path, out) in [(split("F16"), "a"), (plain("F16"), "b")] {
        quant(dir.path(), ["dequantize", &path, out, "--dtype", "f16", "-q"]).ok();
        let matrix = format!("{out}.imatrix");
        quant(dir.path(), ["imatrix", &path, "-f", text, "-o", &matrix, "--chunks", "2", "-q"]).ok();
    }
    for (a, b) in [("a/model.safetensors", "b/model.safetensors"), ("a.imatrix", "b.imatrix")] {
        assert!(fs::read(dir.path().join(a)).unwrap() == fs::read(dir.path().join(b)).unwrap(), "{a}");
    }
    let compare = ["compare", &split("F16"), &split("Q8_0"), "-f", text, "--chunks", "2", "--json"];
    let report = json(quant(dir.path(), compare));
    assert_eq!((&report["source"], &report["levels"][0]["file_bytes"]), (&"F16-split".into(), &n_bytes.into()));
}

#[test]
fn shards_of_other_tools_are_read() {
    // As gguf-split leaves them: with `--no-tensor-first-split`, and text in the others that is not looked at.
    let dir = tempfile::tempdir().unwrap();
    let bytes = fs::read(plain("Q8_0")).unwrap();
    let whole = Gguf::parse(&bytes).unwrap();
    let tensors = file::tensors(&whole, &bytes);
    let cuts = [0, 0, 40, 76];
    for no in 0..3 {
        let mut metadata = if no == 0 { whole.metadata.clone() } else { Metadata::new() };
        if no == 2 {
            metadata.insert(keys::ARCHITECTURE, "gptneox");
            metadata.insert(keys::NAME, "a copy that nobody reads");
        }
        metadata.insert(keys::SPLIT_NO, no as u16);
        metadata.insert(keys::SPLIT_COUNT, 3u16);
        metadata.insert(keys::SPLIT_TENSORS_COUNT, 76i32);
        let part = file::build(&metadata, tensors[cuts[no]..cuts[no + 1]].iter().cloned());
        fs::write(dir.path().join(format!("m-0000{}-of-00003.gguf", no + 1)), part).unwrap();
    }
    let diff = quant(dir.path(), ["diff", "m-00001-of-00003.gguf", &plain("Q8_0")]).ok();
    assert!(diff.starts_with("the same"), "{diff}");
    quant(dir.path(), ["quantize", "m-00001-of-00003.gguf", "m.gguf", "Q8_0", "-q"]).ok();
    assert!(fs::read(dir.path().join("m.gguf")).unwrap() == bytes);
    // A link has the name that it was given, as in the cache of the Hub, where the files behind are named by digest.
    #[cfg(unix)]
    {
        fs::create_dir(dir.path().join("blobs")).unwrap();
        for no in 1..=3 {
            let name = format!("m-0000{no}-of-00003.gguf");
            fs::rename(dir.path().join(&name), dir.path().join(format!("blobs/{no}"))).unwrap();
            std::os::unix::fs::symlink(format!("blobs/{no}"), dir.path().join(&name)).unwrap();
        }
        quant(dir.path(), ["verify", "m-00001-of-00003.gguf", "-q"]).ok();
    }
}

#[test]
fn a_damaged_shard_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let paths = copy_split("Q8_0", dir.path());
    quant(dir.path(), ["quantize", &split("Q8_0"), "x.gguf", "Q8_0", "--split-max-size", "4M", "--sha256", "-q"]).ok();
    let second = dir.path().join("x-00002-of-00002.gguf");
    let verify = |path: &str| quant(dir.path(), ["verify", path]);
    let sound = verify("x-00001-of-00002.gguf").ok();
    assert!(sound.contains("2 of 2 files compared with their .sha256 files"), "{sound}");

    let mut bytes = fs::read(&second).unwrap();
    let tensor = Gguf::parse(&bytes).unwrap().tensors()[0].clone();
    // The scale of its third block becomes a NaN.
    let at = tensor.offset as usize + 2 * 34;
    bytes[at..at + 2].copy_from_slice(&[0xff, 0x7f]);
    bytes.push(7);
    fs::write(&second, &bytes).unwrap();
    let outcome = verify("x-00001-of-00002.gguf");
    assert_eq!(outcome.code, Some(65));
    for wanted in [
        format!("the first is block 2 at byte {at} of x-00002-of-00002.gguf"),
        format!("1 bytes from byte {} of x-00002-of-00002.gguf on", bytes.len() - 1),
        "the whole file x-00002-of-00002.gguf: found SHA-256".to_owned(),
        format!("tensor {:?}: found SHA-256", tensor.name),
    ] {
        assert!(outcome.stdout.contains(&wanted), "no '{wanted}' in {outcome:?}");
    }
    // Everything that runs a model says it, too.
    fs::remove_file(&paths[1]).unwrap();
    let missing = ["Q8_0-split-00001-of-00002.gguf: key 'split.count'", "without 'Q8_0-split-00002-of-00002.gguf'"];
    run_model(dir.path(), ["generate", paths[0].to_str().unwrap(), "-p", "x"]).fails("pythia-run", 65, &missing);
    run_model(dir.path(), ["tokenize", paths[0].to_str().unwrap(), "-p", "x"]).fails("pythia-run", 65, &missing);
    let wanted = ["found part 2 of 2, wanted the first part, 'x-00001-of-00002.gguf'"];
    quant(dir.path(), ["diff", "x-00002-of-00002.gguf", &plain("Q8_0")]).fails(PROGRAM, 65, &wanted);
    run_model(dir.path(), ["info", "x-00002-of-00002.gguf"]).fails("pythia-run", 65, &wanted);
}

#[test]
fn no_shard_is_replaced_by_accident() {
    let dir = tempfile::tempdir().unwrap();
    let paths = copy_split("F16", dir.path());
    let before: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    let first = paths[0].to_str().unwrap();
    let quantize =
        |out: &str, more: &[&str]| quant(dir.path(), ["quantize", first, out, "F16", "-q"].iter().chain(more));
    // Onto its own shards, whichever and by whatever name.
    for out in ["F16-split-00003-of-00004.gguf", "./F16-split-00001-of-00004.gguf"] {
        quantize(out, &["--force"]).fails(PROGRAM, 2, &["the output would replace the input"]);
    }
    let again = ["--split-max-size", "4M"];
    quantize("F16-split.gguf", &again).fails(PROGRAM, 2, &["F16-split-00001-of-00004.gguf: the output would replace"]);
    let matrix = ["-f", first, "-o", "F16-split-00002-of-00004.gguf", "--force"];
    let text = checkpoint().join("heldout.txt");
    let matrix =
        ["imatrix", first].into_iter().chain(["-f", text.to_str().unwrap()]).chain(matrix[2..].iter().copied());
    quant(dir.path(), matrix).fails(PROGRAM, 2, &["the output would replace the input"]);
    let likelihoods = ["--nll-out", "F16-split-00002-of-00004.gguf", "--force"];
    let likelihoods = ["perplexity", first, "-f", text.to_str().unwrap()].into_iter().chain(likelihoods);
    run_model(dir.path(), likelihoods).fails("pythia-run", 2, &["the output would replace the input"]);
    // Onto one shard of another model.
    fs::write(dir.path().join("other-00003-of-00004.gguf"), "theirs").unwrap();
    quantize("other.gguf", &again).fails(PROGRAM, 2, &["other-00003-of-00004.gguf: already exists (--force"]);
    assert_eq!(names(dir.path()).len(), 5, "nothing was left behind");
    quantize("other.gguf", &[&again[..], &["--force"]].concat()).ok();
    quant(dir.path(), ["verify", "other-00001-of-00004.gguf", "-q"]).ok();
    // A whole set is replaced by a whole set.
    quantize("other.gguf", &[&again[..], &["--force", "--sha256"]].concat()).ok();
    assert_eq!(names(dir.path()).len(), 4 + 2 * 4);
    assert!(paths.iter().zip(before).all(|(path, bytes)| fs::read(path).unwrap() == bytes));
}

#[test]
fn a_dry_run_lists_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["-t", "F16", "-o", "m.gguf", "--split-max-size", "4M", "--dry-run"];
    let text = convert(dir.path(), &args).ok();
    assert!(text.contains("4 files") && text.contains("m-00004-of-00004.gguf"), "{text}");
    let plan = json(convert(dir.path(), &[&args[..], &["--json"]].concat()));
    let file = &plan["files"][0];
    let sizes = file["shards"].as_array().unwrap().iter().map(|shard| shard["bytes"].as_u64().unwrap());
    assert_eq!(sizes.sum::<u64>(), file["bytes"].as_u64().unwrap());
    assert_eq!((&file["path"], &file["tensors"][75]["shard"]), (&"m-00001-of-00004.gguf".into(), &3.into()));
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn limits_that_cannot_be_kept_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let args = |limit| ["-t", "F16", "-o", "m.gguf", "--split-max-size", limit];
    convert(dir.path(), &args("100K")).fails(PROGRAM, 2, &["m.gguf: cannot be split", "bytes of metadata", "100000"]);
    for limit in ["0", "1.5G", "2T", ""] {
        convert(dir.path(), &args(limit)).fails(PROGRAM, 2, &["--split-max-size"]);
    }
    convert(dir.path(), &["-t", "F16", "--split-max-tensors", "0"]).fails(PROGRAM, 2, &["--split-max-tensors"]);
    assert_eq!(names(dir.path()), [""; 0]);
    // Metadata fills the first file, and the embedding alone is larger than the limit.
    convert(dir.path(), &[&args("1M")[..], &["-q"]].concat()).ok();
    let first = names(dir.path()).remove(0);
    let shown = json(quant(dir.path(), ["inspect", &first, "--json"]));
    assert_eq!(shown["tensors"][0]["file"], 1);
    let sizes: Vec<_> = shown["files"].as_array().unwrap().iter().map(|file| file["bytes"].as_u64().unwrap()).collect();
    let n_tensors = |number: u64| shown["tensors"].as_array().unwrap().iter().filter(|t| t["file"] == number).count();
    assert!((0..).zip(&sizes).all(|(number, &size)| size <= 1_000_000 || n_tensors(number) == 1), "{sizes:?}");
    quant(dir.path(), ["verify", &first, "-q"]).ok();
}

/// llama.cpp itself, where Python has it.
#[test]
fn llama_cpp_loads_what_is_written() {
    let code = "import sys, llama_cpp\n\
        ids = lambda path: llama_cpp.Llama(path, n_ctx=64, verbose=False).create_completion(\n\
            'The quick brown', max_tokens=8, temperature=0)['choices'][0]['text']\n\
        split, plain = map(ids, sys.argv[1:])\n\
        assert split == plain and split, (split, plain)";
    for level in ["F16", "Q8_0"] {
        let Some(mut python) = python(&["llama_cpp"]) else { return };
        printed(python.args(["-c", code, &split(level), &plain(level)]));
    }
}
