//! `pythia-quant quantize` and importance matrices as users and scripts meet them: the real binary, its files, its exit
//! codes.

use crate::common::{self, checkpoint, file, gguf, names, quant, tiny};
use pythia_gguf::{Gguf, Imatrix, ImatrixEntry, Metadata, Value, keys};
use pythia_schema::Hparams;
use pythia_tensor::TensorType;
use serde_json::Value as Json;
use std::fs;
use std::path::Path;

const PROGRAM: &str = "pythia-quant";

/// `quantize IN` and more arguments.
fn quantize(folder: &Path, source: &Path, more: &[&str]) -> common::Outcome {
    quant(folder, ["quantize", source.to_str().unwrap()].into_iter().chain(more.iter().copied()))
}

/// Two files that must not differ, named in the message if they do.
fn assert_same(a: &Path, b: &Path) {
    assert!(fs::read(a).unwrap() == fs::read(b).unwrap(), "{} and {} differ", a.display(), b.display());
}

fn metadata(path: &Path) -> Metadata {
    Gguf::parse(&fs::read(path).unwrap()).unwrap().metadata
}

/// Type and bytes of a tensor in a file.
fn tensor(path: &Path, name: &str) -> (String, Vec<u8>) {
    let bytes = fs::read(path).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    let info = gguf.tensor(name).unwrap_or_else(|| panic!("{}: no {name}", path.display()));
    (info.ty.name().to_owned(), gguf.data(&bytes, info).to_vec())
}

/// A model of three blocks whose rows no block of 256 divides; all weights are 0.
fn narrow_model(path: &Path) {
    let hparams = Hparams { n_layer: 3, ..tiny::hparams() };
    let mut metadata = Metadata::new();
    hparams.to_metadata(&mut metadata);
    let tensors = pythia_schema::tensors(&hparams);
    let tensors = tensors.iter().map(|spec| (spec.gguf.clone(), TensorType::F32, spec.dims()));
    fs::write(path, file::zeros(&metadata, tensors.collect())).unwrap();
}

#[test]
fn a_file_gives_what_its_checkpoint_gives() {
    let dir = tempfile::tempdir().unwrap();
    let types = ["F32", "BF16", "Q8_0", "Q6_K", "Q4_0", "Q4_K_M"];
    for source in ["F16", "F32"] {
        quantize(dir.path(), &gguf(source), &[source, &types.join(","), "-q"]).ok();
        for ty in types {
            assert_same(&dir.path().join(format!("{source}/pythia-docs-6m-{ty}.gguf")), &gguf(ty));
        }
    }
    // BF16 has lost bits of F16; widened it is exact.
    quantize(dir.path(), &gguf("BF16"), &["bf16", "F32,Q6_K", "-q"]).ok();
    quantize(dir.path(), &dir.path().join("bf16/pythia-docs-6m-F32.gguf"), &["wide.gguf", "q6_k", "-q"]).ok();
    assert_same(&dir.path().join("bf16/pythia-docs-6m-Q6_K.gguf"), &dir.path().join("wide.gguf"));
}

#[test]
fn options_are_those_of_convert() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        ["--pure", "--token-embedding-type", "Q8_0", "--tensor-type", "blk\\.0\\.=F16", "--threads", "1", "-q"];
    quantize(dir.path(), &gguf("F16"), &[&["a.gguf", "Q4_K_M", "--sha256"][..], &options].concat()).ok();
    let checkpoint = checkpoint();
    let convert = ["convert", checkpoint.to_str().unwrap(), "-t", "Q4_K_M", "-o", "b.gguf"];
    quant(dir.path(), [&convert[..], &options].concat()).ok();
    assert_same(&dir.path().join("a.gguf"), &dir.path().join("b.gguf"));
    assert_eq!(names(dir.path()), ["a.gguf", "a.gguf.sha256", "b.gguf"]);
    // Of a file made with other options, they say nothing about the next.
    quantize(dir.path(), &dir.path().join("a.gguf"), &["c.gguf", "Q8_0", "--allow-requantize", "-q"]).ok();
    assert_eq!(metadata(&dir.path().join("c.gguf")).get("pythia_quant.recipe"), None);
}

#[test]
fn files_of_llama_cpp_keep_what_they_say() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = fs::read(gguf("F16")).unwrap();
    let plain = Gguf::parse(&bytes).unwrap();
    // What its converter leaves out or orders otherwise; a key nobody knows; another alignment.
    let mut theirs = Metadata::new();
    for (key, value) in plain.metadata.iter() {
        let ours = key.starts_with("pythia_quant.") || key == keys::HUGGINGFACE_JSON;
        if !ours && ![keys::FILE_TYPE, "gptneox.rope.freq_base", "gptneox.vocab_size"].contains(&key) {
            theirs.insert(key, value.clone());
        }
    }
    theirs.insert("some.tool", vec![1.5f32, 2.5]);
    theirs.insert(keys::ALIGNMENT, 128u32);
    let source = dir.path().join("theirs.f16.gguf");
    fs::write(&source, file::build(&theirs, file::tensors(&plain, &bytes).into_iter().rev())).unwrap();

    quantize(dir.path(), &source, &["./", "Q4_0", "-q"]).ok();
    let made = dir.path().join("theirs-Q4_0.gguf");
    for info in plain.tensors() {
        assert!(tensor(&made, &info.name) == tensor(&gguf("Q4_0"), &info.name), "{}", info.name);
    }
    let ours = [
        (keys::FILE_TYPE, Value::from(2u32)),
        (keys::QUANTIZATION_VERSION, Value::from(2u32)),
        ("pythia_quant.version", Value::from(env!("CARGO_PKG_VERSION"))),
    ];
    let made = metadata(&made);
    assert_eq!(made.len(), theirs.len() + ours.len());
    for (key, value) in theirs.iter().chain(ours.iter().map(|(key, value)| (*key, value))) {
        assert_eq!(made.get(key), Some(value), "{key}");
    }
}

#[test]
fn quantized_weights_are_rounded_again_only_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let source = gguf("Q8_0");
    let refused = quantize(dir.path(), &source, &["out.gguf", "Q4_0"]);
    refused.fails(PROGRAM, 2, &["token_embd.weight", "Q8_0", "Q4_0", "--allow-requantize"]);
    assert_eq!(names(dir.path()), [""; 0]);

    let outcome = quantize(dir.path(), &source, &["out.gguf", "Q4_0", "--allow-requantize"]);
    assert!(outcome.stderr.contains("warning: 26 tensors were quantized before"), "{outcome:?}");
    outcome.ok();
    let list = metadata(&dir.path().join("out.gguf")).strings("pythia_quant.requantized").unwrap().unwrap().to_vec();
    assert_eq!(list, ["Q8_0"]);
    // Decoding is exact, so the way over F32 ends at the same file, and remembers as much.
    quantize(dir.path(), &source, &["wide.gguf", "F32", "-q"]).ok();
    quantize(dir.path(), &dir.path().join("wide.gguf"), &["over.gguf", "Q4_0", "-q"]).ok();
    assert_same(&dir.path().join("out.gguf"), &dir.path().join("over.gguf"));
}

#[test]
fn tensors_of_the_wanted_type_are_copied() {
    let dir = tempfile::tempdir().unwrap();
    quantize(dir.path(), &gguf("Q4_K_M"), &["same.gguf", "Q4_K_M", "-q"]).ok();
    assert_same(&dir.path().join("same.gguf"), &gguf("Q4_K_M"));
    // The output matrix is in Q6_K already; decoding and encoding it again would give other bytes.
    quantize(dir.path(), &gguf("Q4_K_M"), &["q6.gguf", "Q6_K", "--allow-requantize", "-q"]).ok();
    let made = dir.path().join("q6.gguf");
    assert!(tensor(&made, "output.weight") == tensor(&gguf("Q4_K_M"), "output.weight"));
    assert!(tensor(&made, "token_embd.weight") != tensor(&gguf("Q6_K"), "token_embd.weight"));
}

#[test]
fn inputs_are_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("in.gguf");
    fs::copy(gguf("F16"), &source).unwrap();
    fs::hard_link(&source, dir.path().join("hard.gguf")).unwrap();
    let imatrix = dir.path().join("imatrix.gguf");
    fs::copy(common::data("goldens/imatrix.gguf"), &imatrix).unwrap();
    #[cfg_attr(not(unix), allow(unused_mut))]
    let mut outputs = vec!["in.gguf", "./in.gguf", "hard.gguf", "imatrix.gguf"];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("in.gguf", dir.path().join("soft.gguf")).unwrap();
        outputs.push("soft.gguf");
    }
    let before = names(dir.path());
    for output in outputs {
        let refused = quantize(dir.path(), &source, &[output, "Q8_0", "--force", "--imatrix", "imatrix.gguf", "-q"]);
        refused.fails(PROGRAM, 2, &[output, "would replace the input"]);
    }
    assert_same(&source, &gguf("F16"));
    assert_same(&imatrix, &common::data("goldens/imatrix.gguf"));
    assert_eq!(names(dir.path()), before);

    fs::write(dir.path().join("out.gguf"), "precious").unwrap();
    quantize(dir.path(), &source, &["out.gguf", "Q8_0"]).fails(PROGRAM, 2, &["out.gguf", "already exists", "--force"]);
    assert_eq!(fs::read(dir.path().join("out.gguf")).unwrap(), b"precious");
    quantize(dir.path(), &source, &["out.gguf", "Q8_0", "--force", "-q"]).ok();
    assert_same(&dir.path().join("out.gguf"), &gguf("Q8_0"));
}

#[test]
fn what_is_no_model_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("in.gguf");
    let fails = |code: i32, parts: &[&str]| {
        quantize(dir.path(), &source, &["out.gguf", "Q8_0"]).fails(PROGRAM, code, &[&["in.gguf"], parts].concat());
        assert!(!dir.path().join("out.gguf").exists());
    };
    fails(74, &[]);
    fs::create_dir(&source).unwrap();
    fails(74, &["not a regular file"]);
    fs::remove_dir(&source).unwrap();

    let bytes = fs::read(gguf("F16")).unwrap();
    for len in [0, 3, 30, 1000, 400_000, bytes.len() - 1] {
        fs::write(&source, &bytes[..len]).unwrap();
        fails(65, &[]);
    }
    fs::write(&source, "{}").unwrap();
    fails(65, &["GGUF"]);
    fs::copy(common::data("goldens/imatrix.gguf"), &source).unwrap();
    fails(65, &["general.architecture", "gptneox"]);

    // A tensor too few, one in a type that cannot be decoded.
    let gguf = Gguf::parse(&bytes).unwrap();
    let mut tensors = file::tensors(&gguf, &bytes);
    tensors.pop();
    fs::write(&source, file::build(&gguf.metadata, tensors)).unwrap();
    fails(65, &["output.weight", "no such tensor"]);
    let mut foreign = bytes.clone();
    let name = b"token_embd.weight";
    let entry = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len() + 4 + 2 * 8;
    foreign[entry..entry + 4].copy_from_slice(&25u32.to_le_bytes()); // I16, as wide as F16
    fs::write(&source, foreign).unwrap();
    fails(65, &["token_embd.weight", "I16"]);
}

#[test]
fn wrong_command_lines_are_one_line_and_exit_2() {
    let dir = tempfile::tempdir().unwrap();
    let source = gguf("F16");
    let fails = |args: &[&str], parts: &[&str]| {
        quantize(dir.path(), &source, args).fails(PROGRAM, 2, parts);
        assert_eq!(names(dir.path()), [""; 0]);
    };
    fails(&[], &["<OUT>", "<TYPE>"]);
    fails(&["out.gguf"], &["<TYPE>"]);
    fails(&["out.gguf", "Q9_9"], &["Q9_9", "Q8_0"]);
    fails(&["out.gguf", "Q8_0,Q4_0"], &["out.gguf", "folder"]);
    fails(&["out", "Q8_0,Q8_0"], &["pythia-docs-6m-Q8_0.gguf", "two files"]);
    fails(&["out.gguf", "Q8_0", "--tensor-type", "ffn_gate=F16"], &["matches no weight matrix"]);
    quantize(dir.path(), &source, &["absent/out.gguf", "Q8_0"]).fails(PROGRAM, 74, &["absent", "cannot create"]);
}

#[test]
fn command_lines_of_llama_quantize_work() {
    let dir = tempfile::tempdir().unwrap();
    let source = gguf("F16");
    for (more, file) in
        [(&["a.gguf", "Q4_K", "1"][..], "Q4_K_M"), (&["b.gguf", "7"], "Q8_0"), (&["c.gguf", "bf16", "2"], "BF16")]
    {
        quantize(dir.path(), &source, more).ok();
        assert_same(&dir.path().join(more[0]), &gguf(file));
    }
    quantize(dir.path(), &source, &["d.gguf", "Q4KM"]).fails(
        PROGRAM,
        2,
        &["unknown type 'Q4KM' (did you mean Q4_K_M?)"],
    );
    quantize(dir.path(), &source, &["d.gguf", "Q8_0", "x"]).fails(PROGRAM, 2, &["'x'"]);
    quantize(dir.path(), &source, &["-", "Q8_0"]).fails(PROGRAM, 2, &["-: cannot write to standard output"]);
    quantize(dir.path(), &source, &["-", "Q8_0,Q4_0"]).fails(PROGRAM, 2, &["-: cannot write to standard output"]);
}

#[test]
fn json_and_dry_runs() {
    let dir = tempfile::tempdir().unwrap();
    let source = gguf("F16");
    let dry: Json =
        serde_json::from_str(&quantize(dir.path(), &source, &["out", "Q8_0,Q4_K_M", "--dry-run", "--json"]).ok())
            .unwrap();
    assert_eq!(names(dir.path()), [""; 0]);
    assert_eq!(dry["dry_run"], true);
    let made: Json =
        serde_json::from_str(&quantize(dir.path(), &source, &["out", "Q8_0,Q4_K_M", "--json"]).ok()).unwrap();
    assert_eq!(made["warnings"], serde_json::json!([]));
    for (index, level) in ["Q8_0", "Q4_K_M"].into_iter().enumerate() {
        let file = &made["files"][index];
        assert_eq!(file["type"], level);
        let path = dir.path().join(file["path"].as_str().unwrap());
        assert_eq!(path, dir.path().join(format!("out/pythia-docs-6m-{level}.gguf")));
        assert_eq!(file["bytes"], fs::metadata(path).unwrap().len());
        assert_eq!(file["tensors"], dry["files"][index]["tensors"]);
        assert_eq!(file["tensors"][0]["source"], "F16");
        assert_eq!(file["tensors"][0]["importance"], false);
    }
    let text = quantize(dir.path(), &source, &["out.gguf", "Q8_0", "--dry-run"]).ok();
    assert!(text.contains("blk.5.attn_qkv.weight") && text.ends_with("dry run: nothing was written\n"), "{text}");
}

#[test]
fn substitutions_are_counted_and_strict_refuses_them() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("narrow.gguf");
    narrow_model(&source);
    let outcome = quantize(dir.path(), &source, &["out.gguf", "Q6_K"]);
    assert!(outcome.stderr.contains("no tokenizer in the file"), "{outcome:?}");
    let text = outcome.ok();
    let row = |tensors: &str| {
        let line = text.lines().find(|line| line.contains(tensors)).unwrap_or_else(|| panic!("no {tensors} in {text}"));
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row("token_embd.weight"), ["Q6_K", "token_embd.weight", "1", "64", "Q6_K", "256", "Q8_0"]);
    assert_eq!(row("blk.*.ffn_down.weight"), ["Q6_K", "blk.*.ffn_down.weight", "3", "96", "Q6_K", "256", "Q8_0"]);
    // What is really stored: matrices at 8.5 bits, not at 6.5625; norms and biases at 32.
    let (norms, biases) = (2 * 64 + 3 * 4 * 64, 3 * (3 * 64 + 64 + 96 + 64));
    let (matrices, vectors) = (2 * 40 * 64 + 3 * (4 * 64 * 64 + 2 * 96 * 64), norms + biases);
    let bits = (8.5 * matrices as f64 + 32.0 * vectors as f64) / (matrices + vectors) as f64;
    assert!(row("out.gguf").contains(&format!("{bits:.3}")), "{bits} in {text}");

    let refused = quantize(dir.path(), &source, &["strict.gguf", "Q8_0,Q6_K", "--strict", "-q"]);
    refused.fails(PROGRAM, 2, &["strict.gguf"]);
    let refused = quantize(dir.path(), &source, &["strict", "Q8_0,Q6_K", "--strict"]);
    refused.fails(PROGRAM, 2, &["Q6_K: 14 tensors", "token_embd.weight", "Q8_0 instead of Q6_K", "rows of 64"]);
    assert_eq!(names(dir.path()), ["narrow.gguf", "out.gguf"]);
    quantize(dir.path(), &source, &["strict.gguf", "Q8_0", "--strict", "-q"]).ok();
    quantize(dir.path(), &gguf("F16"), &["wide.gguf", "Q6_K", "--strict", "-q"]).ok();
}

#[test]
fn weights_that_a_type_cannot_hold_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("in.gguf");
    narrow_model(&source);
    let bytes = fs::read(&source).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    let at = gguf.tensor("blk.1.ffn_up.weight").unwrap().offset as usize + 4 * 1000;
    let damage = |value: f32| {
        let mut bytes = bytes.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        fs::write(&source, bytes).unwrap();
    };
    damage(1e6);
    let refused = quantize(dir.path(), &source, &["out.gguf", "Q8_0", "-q"]);
    refused.fails(PROGRAM, 65, &["blk.1.ffn_up.weight", "1e6", "too large for the f16 in Q8_0"]);
    quantize(dir.path(), &source, &["bf16.gguf", "BF16", "-q"]).ok();
    damage(f32::NAN);
    let refused = quantize(dir.path(), &source, &["out.gguf", "BF16", "-q"]);
    refused.fails(PROGRAM, 65, &["blk.1.ffn_up.weight", "not finite", "--allow-nonfinite"]);
    assert_eq!(names(dir.path()), ["bf16.gguf", "in.gguf"]);
    quantize(dir.path(), &source, &["out.gguf", "BF16", "--allow-nonfinite", "-q"]).ok();
}

/// Entries for the matrices of the blocks of `pythia-docs-6m`, rising from column to column, and for the output matrix.
fn entries() -> Vec<ImatrixEntry> {
    let blocks = (0..6).flat_map(|block| {
        let matrices = [("attn_qkv", 256), ("attn_output", 256), ("ffn_up", 256), ("ffn_down", 1024)];
        matrices.map(|(name, cols)| (format!("blk.{block}.{name}.weight"), cols))
    });
    blocks.chain([("output.weight".to_owned(), 256)]).map(|(name, cols)| entry(&name, cols)).collect()
}

fn entry(name: &str, cols: usize) -> ImatrixEntry {
    ImatrixEntry::new(name, (1..=cols).map(|c| c as f32).collect(), vec![10.0]).unwrap()
}

fn write_imatrix(path: &Path, entries: Vec<ImatrixEntry>) {
    let datasets = vec!["/home/someone/calibration.txt".to_owned()];
    let imatrix = Imatrix { entries, datasets, chunk_count: 7, chunk_size: 512 };
    fs::write(path, imatrix.to_gguf().unwrap()).unwrap();
}

#[test]
fn importance_decides_bytes_and_is_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let imatrix = dir.path().join("my.imatrix");
    write_imatrix(&imatrix, entries());
    let outcome = quantize(dir.path(), &gguf("F16"), &["out", "Q4_K_M,Q8_0", "--imatrix", "my.imatrix", "--json"]);
    assert_eq!(outcome.stderr, "", "everything matches");
    let report: Json = serde_json::from_str(&outcome.ok()).unwrap();
    let importance = |name: &str| {
        let tensors = report["files"][0]["tensors"].as_array().unwrap();
        tensors.iter().find(|tensor| tensor["name"] == name).unwrap()["importance"].as_bool().unwrap()
    };
    assert!(importance("blk.0.ffn_down.weight") && importance("output.weight") && !importance("token_embd.weight"));

    let made = dir.path().join("out/pythia-docs-6m-Q4_K_M.gguf");
    for (name, same) in [("token_embd.weight", true), ("blk.3.attn_qkv.weight", false), ("output.weight", false)] {
        assert_eq!(tensor(&made, name) == tensor(&gguf("Q4_K_M"), name), same, "{name}");
    }
    // Rows are encoded by their own columns' importance, whatever the pieces that they are encoded in.
    let (_, wide) = tensor(&gguf("F32"), "blk.3.ffn_down.weight");
    let wide: Vec<f32> = wide.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let weights: Vec<f32> = (1..=1024).map(|c| c as f32 / 10.0).collect();
    let (ty, found) = tensor(&made, "blk.3.ffn_down.weight");
    let ty: TensorType = ty.parse().unwrap();
    let mut wanted = vec![0; found.len()];
    for (row, bytes) in wide.chunks(1024).zip(wanted.chunks_mut(ty.row_bytes(1024).unwrap())) {
        ty.encode_weighted(row, &weights, bytes);
    }
    assert!(found == wanted);

    let checkpoint = checkpoint();
    let convert = ["convert", checkpoint.to_str().unwrap(), "-t", "Q4_K_M", "-o", "b.gguf", "--imatrix", "my.imatrix"];
    quant(dir.path(), convert.into_iter().chain(["-q"])).ok();
    assert_same(&made, &dir.path().join("b.gguf"));

    let recorded = metadata(&made);
    assert_eq!(recorded.str("quantize.imatrix.file"), Ok(Some("my.imatrix")));
    assert_eq!(recorded.str("quantize.imatrix.dataset"), Ok(Some("calibration.txt")));
    assert_eq!(recorded.get("quantize.imatrix.entries_count"), Some(&Value::U32(25)));
    assert_eq!(recorded.get("quantize.imatrix.chunks_count"), Some(&Value::U32(7)));
    assert_eq!(recorded.str("pythia_quant.imatrix.sha256").unwrap().map(str::len), Some(64));
    // Q8_0 has no use for it, and a file that is quantized without it has nothing to say of it.
    assert_same(&dir.path().join("out/pythia-docs-6m-Q8_0.gguf"), &gguf("Q8_0"));
    quantize(dir.path(), &made, &["again.gguf", "Q8_0", "--allow-requantize", "-q"]).ok();
    assert!(!metadata(&dir.path().join("again.gguf")).iter().any(|(key, _)| key.contains("imatrix")));
}

#[test]
fn importance_that_does_not_match_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let imatrix = dir.path().join("i.gguf");
    let source = gguf("F16");
    let run = |level: &str| quantize(dir.path(), &source, &["out.gguf", level, "--imatrix", "i.gguf", "--dry-run"]);
    let warnings = |edit: fn(&mut Vec<ImatrixEntry>), level: &str| {
        let mut entries = entries();
        edit(&mut entries);
        write_imatrix(&imatrix, entries);
        let outcome = run(level);
        let lines: Vec<String> = outcome.stderr.lines().map(str::to_owned).collect();
        outcome.ok();
        assert!(lines.iter().all(|line| line.starts_with("pythia-quant: warning: i.gguf: ")), "{lines:?}");
        lines.join("\n")
    };
    let line = warnings(|entries| drop(entries.pop()), "Q4_K_M");
    assert!(line.contains(r#"no importance for "output.weight""#), "{line}");
    // The types that have no use for it do not miss it.
    assert_eq!(warnings(|entries| drop(entries.pop()), "Q8_0"), "");
    let line = warnings(|entries| entries.truncate(2), "Q4_K_M");
    assert!(line.contains("blk.0.ffn_up.weight") && line.contains("and 20 more"), "{line}");
    let line = warnings(|entries| entries.push(entry("blk.6.ffn_up.weight", 256)), "Q4_K_M");
    assert!(line.contains("does not have") && line.contains("blk.6.ffn_up.weight"), "{line}");
    let unseen = |entries: &mut Vec<ImatrixEntry>| {
        entries[3] = ImatrixEntry::new("blk.0.ffn_down.weight", vec![0.0; 1024], vec![0.0]).unwrap();
    };
    let line = warnings(unseen, "Q4_K_M");
    assert!(line.contains("blk.0.ffn_down.weight"), "{line}");

    let mut wrong = entries();
    wrong[2] = entry("blk.0.ffn_up.weight", 255);
    write_imatrix(&imatrix, wrong);
    run("Q4_K_M").fails(PROGRAM, 65, &["i.gguf", "blk.0.ffn_up.weight", "255", "256 columns"]);
}

#[test]
fn what_is_no_importance_matrix_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let run = |imatrix: &str| quantize(dir.path(), &gguf("F16"), &["out.gguf", "Q4_K_M", "--imatrix", imatrix]);
    run("absent").fails(PROGRAM, 74, &["absent"]);
    run(".").fails(PROGRAM, 74, &["not a regular file"]);
    fs::write(dir.path().join("garbage"), "not an importance matrix").unwrap();
    run("garbage").fails(PROGRAM, 65, &["garbage"]);
    let model = gguf("Q4_0");
    run(model.to_str().unwrap()).fails(PROGRAM, 65, &["pythia-docs-6m-Q4_0.gguf"]);
    assert_eq!(names(dir.path()), ["garbage"]);
}

#[test]
fn the_lowest_levels_need_importance() {
    let dir = tempfile::tempdir().unwrap();
    let forced = quantize(dir.path(), &gguf("F16"), &["out.gguf", "Q4_K_M", "--tensor-type", "ffn_up=IQ2_XS"]);
    forced.fails(PROGRAM, 2, &["blk.0.ffn_up.weight as IQ2_XS", "--imatrix"]);
    let source = gguf("F16");
    let refused = quantize(dir.path(), &source, &["out.gguf", "Q2_K_S"]);
    refused.fails(PROGRAM, 2, &["Q2_K_S needs an importance matrix", "--imatrix"]);
    let mut entries = entries();
    write_imatrix(&dir.path().join("whole"), entries.clone());
    quantize(dir.path(), &source, &["out.gguf", "Q2_K_S", "--imatrix", "whole", "-q"]).ok();
    entries.remove(1);
    write_imatrix(&dir.path().join("part"), entries);
    let refused = quantize(dir.path(), &source, &["part.gguf", "Q2_K_S", "--imatrix", "part"]);
    refused.fails(PROGRAM, 2, &["part", "blk.0.attn_output.weight", "Q2_K_S"]);
    assert_eq!(names(dir.path()), ["out.gguf", "part", "whole"]);
}

#[test]
fn rules_come_from_a_file_too() {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules.txt");
    fs::write(&rules, "# early layers\nblk\\.[01]\\.=Q5_0\nffn_up=Q8_0   output\\.weight=F16\n").unwrap();
    let source = gguf("F16");
    quantize(dir.path(), &source, &["a.gguf", "Q4_0", "--tensor-type-file", "rules.txt", "-q"]).ok();
    let typed = ["--tensor-type", "blk\\.[01]\\.=Q5_0", "--tensor-type", "ffn_up=Q8_0", "--tensor-type"];
    quantize(dir.path(), &source, &[&["b.gguf", "Q4_0", "-q"], &typed[..], &["output\\.weight=F16"]].concat()).ok();
    assert_same(&dir.path().join("a.gguf"), &dir.path().join("b.gguf"));
    // What is typed wins.
    let more = ["c.gguf", "Q4_0", "-q", "--tensor-type", "ffn_up=Q4_1", "--tensor-type-file", "rules.txt"];
    quantize(dir.path(), &source, &more).ok();
    assert_eq!(tensor(&dir.path().join("a.gguf"), "blk.0.ffn_up.weight").0, "Q8_0");
    assert_eq!(tensor(&dir.path().join("c.gguf"), "blk.0.ffn_up.weight").0, "Q4_1");
    assert_eq!(tensor(&dir.path().join("c.gguf"), "blk.0.ffn_down.weight").0, "Q5_0");

    let refused = |text: &[u8], code, parts: &[&str]| {
        fs::write(&rules, text).unwrap();
        let outcome = quantize(dir.path(), &source, &["d.gguf", "Q4_0", "--tensor-type-file", "rules.txt"]);
        outcome.fails(PROGRAM, code, parts);
    };
    refused(b"ffn_up=Q8_0\nffn_up\n", 65, &["rules.txt: line 2: rule 'ffn_up' is not of the form REGEX=TYPE"]);
    refused(b"# nothing\n", 65, &["rules.txt: holds no rule"]);
    refused(b"a=Q8_0\xff", 65, &["rules.txt: not UTF-8 at byte 6"]);
    refused(b"blk\\.9\\.=Q8_0", 2, &["matches no weight matrix of this model"]);
    let absent = quantize(dir.path(), &source, &["d.gguf", "Q4_0", "--tensor-type-file", "absent.txt"]);
    absent.fails(PROGRAM, 74, &["absent.txt"]);
}
