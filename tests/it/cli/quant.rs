//! `pythia-quant convert` and `inspect` as users and scripts meet them: the real binary, its output, its exit codes.

use crate::common::{self, checkpoint, file, names, quant};
use pythia_gguf::Metadata;
use pythia_tensor::TensorType;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

const PROGRAM: &str = "pythia-quant";

/// A copy of the fixture that a test may damage.
fn copy_checkpoint(folder: &Path) -> PathBuf {
    let copy = folder.join("model");
    fs::create_dir(&copy).unwrap();
    for name in ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(checkpoint().join(name), copy.join(name)).unwrap();
    }
    copy
}

/// `convert SOURCE` and more arguments.
fn convert<'a>(folder: &Path, source: &'a Path, more: &[&'a str]) -> common::Outcome {
    let source = source.to_str().unwrap();
    quant(folder, ["convert", source].into_iter().chain(more.iter().copied()))
}

#[test]
fn types_become_files_named_after_source_and_type() {
    let dir = tempfile::tempdir().unwrap();
    let outcome = convert(dir.path(), &checkpoint(), &["-t", "q8_0,Q4_0"]);
    assert_eq!(outcome.stderr, "", "no progress bar where there is no terminal");
    let table = outcome.ok();
    assert_eq!(names(dir.path()), ["pythia-docs-6m-Q4_0.gguf", "pythia-docs-6m-Q8_0.gguf"]);
    for name in names(dir.path()) {
        let n_bytes = fs::metadata(dir.path().join(&name)).unwrap().len();
        let row = table.lines().find(|line| line.contains(&name)).unwrap_or_else(|| panic!("no {name} in {table}"));
        assert!(row.contains(&n_bytes.to_string()), "{row}");
    }
}

#[test]
fn output_names_a_file_or_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    convert(dir.path(), &checkpoint(), &["-t", "F16", "-o", "one.gguf", "-q"]).ok();
    convert(dir.path(), &checkpoint(), &["-t", "F16,BF16", "-o", "some/folder", "-q"]).ok();
    convert(dir.path(), &checkpoint(), &["-t", "Q4_1", "-o", "new/", "-q"]).ok();
    assert_eq!(names(dir.path()), ["new", "one.gguf", "some"]);
    assert_eq!(names(&dir.path().join("some/folder")), ["pythia-docs-6m-BF16.gguf", "pythia-docs-6m-F16.gguf"]);
    assert_eq!(names(&dir.path().join("new")), ["pythia-docs-6m-Q4_1.gguf"]);
    let two = convert(dir.path(), &checkpoint(), &["-t", "F16,BF16", "-o", "two.gguf"]);
    two.fails(PROGRAM, 2, &["two.gguf", "folder"]);
    let lost = convert(dir.path(), &checkpoint(), &["-t", "F16", "-o", "absent/one.gguf"]);
    lost.fails(PROGRAM, 74, &["absent", "cannot create"]);
}

#[test]
fn a_dry_run_is_exact_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dry: Value =
        serde_json::from_str(&convert(dir.path(), &checkpoint(), &["-t", "Q5_0", "--dry-run", "--json"]).ok()).unwrap();
    assert_eq!(names(dir.path()), [""; 0]);
    assert_eq!(dry["dry_run"], true);
    let real: Value =
        serde_json::from_str(&convert(dir.path(), &checkpoint(), &["-t", "Q5_0", "--json"]).ok()).unwrap();
    let file = &real["files"][0];
    assert_eq!(file["path"], "pythia-docs-6m-Q5_0.gguf");
    assert_eq!(file["bytes"], fs::metadata(dir.path().join("pythia-docs-6m-Q5_0.gguf")).unwrap().len());
    for key in ["path", "bytes", "bits_per_weight", "bits_per_weight_blocks", "tensors", "fallbacks"] {
        assert_eq!(file[key], dry["files"][0][key], "{key}");
    }
    let text = convert(dir.path(), &checkpoint(), &["-t", "Q5_0", "--dry-run"]).ok();
    assert!(text.contains("blk.5.attn_qkv.weight") && text.ends_with("dry run: nothing was written\n"), "{text}");
}

#[test]
fn wrong_command_lines_are_one_line_and_exit_2() {
    let dir = tempfile::tempdir().unwrap();
    let fails = |args: &[&str], parts: &[&str]| {
        convert(dir.path(), &checkpoint(), args).fails(PROGRAM, 2, parts);
        assert_eq!(names(dir.path()), [""; 0]);
    };
    fails(&[], &["--type"]);
    fails(&["-t", "Q9_9"], &["Q9_9", "Q8_0"]);
    fails(&["-t", "Q8_0", "--frobnicate"], &["--frobnicate"]);
    fails(&["-t", "Q8_0,Q8_0"], &["pythia-docs-6m-Q8_0.gguf", "two files"]);
    fails(&["-t", "Q8_0", "--tensor-type", "ffn_up"], &["ffn_up", "REGEX=TYPE"]);
    fails(&["-t", "Q8_0", "--tensor-type", "(=F16"], &["(=F16", "unclosed group"]);
    fails(&["-t", "Q8_0", "--tensor-type", "ffn_gate=F16"], &["'ffn_gate=F16'", "matches no weight matrix"]);
    fails(&["-t", "Q8_0", "--output-tensor-type", "Q9_K"], &["Q9_K", "Q6_K"]);
    quant(dir.path(), ["frobnicate"]).fails(PROGRAM, 2, &["frobnicate"]);
    assert!(quant(dir.path(), ["convert", "--help"]).ok().contains("--tensor-type"));
}

#[test]
fn missing_and_damaged_sources_are_named() {
    let dir = tempfile::tempdir().unwrap();
    convert(dir.path(), Path::new("absent"), &["-t", "F16"]).fails(PROGRAM, 74, &["absent"]);
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    convert(dir.path(), &empty, &["-t", "F16"]).fails(PROGRAM, 65, &["empty", "model.safetensors"]);

    let model = copy_checkpoint(dir.path());
    let weights = model.join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    for len in [0, 7, 1000, bytes.len() - 1] {
        fs::write(&weights, &bytes[..len]).unwrap();
        convert(dir.path(), &model, &["-t", "F16"]).fails(PROGRAM, 65, &["model.safetensors"]);
    }
    assert_eq!(names(dir.path()), ["empty", "model"], "nothing is left behind");
}

#[test]
fn weights_that_are_not_finite_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let model = copy_checkpoint(dir.path());
    let weights = model.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let header_bytes = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + header_bytes]).unwrap();
    let name = "gpt_neox.layers.3.mlp.dense_h_to_4h.weight";
    let start = 8 + header_bytes + header[name]["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[start + 200..start + 202].copy_from_slice(&0x7c00u16.to_le_bytes());
    fs::write(&weights, bytes).unwrap();
    convert(dir.path(), &model, &["-t", "Q8_0,F16"]).fails(PROGRAM, 65, &[name, "not finite", "--allow-nonfinite"]);
    assert_eq!(names(dir.path()), ["model"], "nothing is left behind");
    convert(dir.path(), &model, &["-t", "F16", "--allow-nonfinite", "-q"]).ok();
    assert_eq!(names(dir.path()), ["model", "model-F16.gguf"]);
}

#[test]
fn existing_files_are_kept_unless_forced_and_inputs_always() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("out.gguf"), "precious").unwrap();
    let refused = convert(dir.path(), &checkpoint(), &["-t", "F16", "-o", "out.gguf"]);
    refused.fails(PROGRAM, 2, &["out.gguf", "already exists", "--force"]);
    assert_eq!(fs::read(dir.path().join("out.gguf")).unwrap(), b"precious");
    convert(dir.path(), &checkpoint(), &["-t", "F16", "-o", "out.gguf", "--force", "-q"]).ok();
    assert!(fs::read(dir.path().join("out.gguf")).unwrap().starts_with(b"GGUF"));

    let model = copy_checkpoint(dir.path());
    let weights = model.join("model.safetensors");
    let before = fs::read(&weights).unwrap();
    for output in ["model/model.safetensors", "model/../model/config.json"] {
        let refused = convert(dir.path(), &model, &["-t", "F16", "-o", output, "--force"]);
        refused.fails(PROGRAM, 2, &["would replace the input"]);
    }
    assert!(before == fs::read(&weights).unwrap());
    assert_eq!(names(&model).len(), 4, "nothing is left behind");
}

#[test]
fn options_decide_types_and_are_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let options = ["-t", "Q4_0", "--pure", "--token-embedding-type", "Q8_0", "--tensor-type", "blk\\.0\\.=F16"];
    convert(dir.path(), &checkpoint(), &[&options[..], &["-o", "x.gguf", "-q"]].concat()).ok();
    let file: Value = serde_json::from_str(&quant(dir.path(), ["inspect", "x.gguf", "--json"]).ok()).unwrap();
    let ty = |name: &str| {
        let tensors = file["tensors"].as_array().unwrap();
        tensors.iter().find(|tensor| tensor["name"] == name).unwrap()["type"].as_str().unwrap().to_owned()
    };
    assert_eq!(ty("output.weight"), "Q4_0");
    assert_eq!(ty("token_embd.weight"), "Q8_0");
    assert_eq!(ty("blk.0.ffn_up.weight"), "F16");
    assert_eq!(ty("blk.0.ffn_up.bias"), "F32");
    assert_eq!(ty("blk.1.ffn_up.weight"), "Q4_0");
    let recipe = "--pure --token-embedding-type Q8_0 --tensor-type blk\\.0\\.=F16";
    assert_eq!(file["metadata"]["pythia_quant.recipe"], recipe);
}

#[test]
fn sidecars_hold_the_digests_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    convert(dir.path(), &checkpoint(), &["-t", "Q4_0", "-o", "x.gguf", "--sha256", "-q"]).ok();
    assert_eq!(names(dir.path()), ["x.gguf", "x.gguf.sha256"]);
    let hex = pythia_text::hex(&Sha256::digest(fs::read(dir.path().join("x.gguf")).unwrap()));
    let sidecar = fs::read_to_string(dir.path().join("x.gguf.sha256")).unwrap();
    assert_eq!(sidecar.lines().next(), Some(format!("{hex}  x.gguf").as_str()));
    // Of one tensor, as llama.cpp's file has it.
    let goldens: Value =
        serde_json::from_slice(&fs::read(common::data("goldens/llama_cpp_sha256.json")).unwrap()).unwrap();
    let golden = goldens["tensors"]["blk.2.attn_qkv.weight"]["sha256"]["Q4_0"].as_str().unwrap();
    assert!(sidecar.contains(&format!("# {golden}  blk.2.attn_qkv.weight\n")), "{sidecar}");
    // They go with the file they are of.
    convert(dir.path(), &checkpoint(), &["-t", "Q8_0", "-o", "x.gguf", "--force", "-q"]).ok();
    assert_eq!(names(dir.path()), ["x.gguf"]);
    // What only has the name stays.
    fs::write(dir.path().join("x.gguf.sha256"), "notes of mine").unwrap();
    convert(dir.path(), &checkpoint(), &["-t", "Q8_0", "-o", "x.gguf", "--force", "-q"]).ok();
    assert_eq!(names(dir.path()), ["x.gguf", "x.gguf.sha256"]);
}

#[test]
fn inspect_counts_parameters_and_bits() {
    let dir = tempfile::tempdir().unwrap();
    convert(dir.path(), &checkpoint(), &["-t", "Q4_0", "-o", "x.gguf", "-q"]).ok();
    let file: Value = serde_json::from_str(&quant(dir.path(), ["inspect", "x.gguf", "--json"]).ok()).unwrap();
    assert_eq!(file["file_type"], "Q4_0");
    assert_eq!(file["sizes"]["parameters"], 6_836_224);
    assert_eq!(file["sizes"]["parameters_non_embedding"], 4_739_072);
    assert_eq!(file["metadata"]["gptneox.block_count"], 6);
    assert_eq!(file["metadata"]["tokenizer.ggml.tokens"]["len"], 4096);
    assert_eq!(file["tensors"].as_array().unwrap().len(), 76);
    // Matrices of a block at 4.5 bits, its norms and biases at 32.
    let (matrices, vectors) = (12 * 256 * 256, 13 * 256);
    let wanted = (4.5 * matrices as f64 + 32.0 * vectors as f64) / (matrices + vectors) as f64;
    let blocks = file["sizes"]["bits_per_weight_blocks"].as_f64().unwrap();
    assert!((blocks - wanted).abs() < 1e-9, "{blocks} {wanted}");

    let text = quant(dir.path(), ["inspect", "x.gguf"]).ok();
    assert!(text.contains("(4096 elements)") && text.contains("4739072"), "{text}");
    assert!(!text.contains("blk.3.ffn_up.bias"));
    assert!(quant(dir.path(), ["inspect", "x.gguf", "--tensors"]).ok().contains("blk.3.ffn_up.bias"));
}

#[test]
fn inspect_names_what_is_wrong_with_a_file() {
    let dir = tempfile::tempdir().unwrap();
    quant(dir.path(), ["inspect", "absent.gguf"]).fails(PROGRAM, 74, &["absent.gguf"]);
    fs::write(dir.path().join("x.gguf"), "not a model").unwrap();
    quant(dir.path(), ["inspect", "x.gguf"]).fails(PROGRAM, 65, &["x.gguf", "GGUF"]);
}

#[test]
fn inspect_lists_types_it_cannot_decode() {
    let dir = tempfile::tempdir().unwrap();
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", "other");
    metadata.insert("general.file_type", 15u32);
    let mut bytes = file::zeros(&metadata, vec![("w".to_owned(), TensorType::Q8_0, vec![256])]);
    // The one entry ends in its type and its offset, 0: make Q8_0 a smaller Q4_K.
    let entry = [&[1][..], &[0; 7], b"w", &[1, 0, 0, 0], &256u64.to_le_bytes(), &8u32.to_le_bytes()].concat();
    let at = bytes.windows(entry.len()).position(|window| window == entry).unwrap() + entry.len() - 4;
    bytes[at] = 12;
    fs::write(dir.path().join("x.gguf"), bytes).unwrap();
    let file: Value = serde_json::from_str(&quant(dir.path(), ["inspect", "x.gguf", "--json"]).ok()).unwrap();
    assert_eq!(file["file_type"], "Q4_K_M");
    assert_eq!(file["tensors"][0]["type"], "Q4_K");
    assert_eq!(file["sizes"]["bits_per_weight"], 4.5);
    assert!(quant(dir.path(), ["inspect", "x.gguf", "--tensors"]).ok().contains("Q4_K"));
}

#[test]
fn the_other_kind_of_model_is_sent_to_its_command() {
    let dir = tempfile::tempdir().unwrap();
    let model = copy_checkpoint(dir.path());
    fs::write(dir.path().join("text"), "Some text.").unwrap();
    let wanted = |source: &str| -> Vec<(&str, common::Outcome)> {
        let quant = |args: &[&str]| (PROGRAM, common::quant(dir.path(), args));
        let run = |args: &[&str]| ("pythia-run", common::run_model(dir.path(), args));
        vec![
            quant(&["inspect", source]),
            quant(&["verify", source]),
            quant(&["diff", source, source]),
            quant(&["dequantize", source, "out"]),
            quant(&["quantize", source, "out.gguf", "Q8_0"]),
            quant(&["imatrix", source, "-f", "text", "-o", "i.gguf"]),
            quant(&["compare", "model", source, "-f", "text", "-o", "report"]),
            run(&["info", source]),
            run(&["generate", source, "-p", "a"]),
            run(&["perplexity", source, "-f", "text"]),
            run(&["tokenize", source, "-p", "a"]),
            run(&["bench", "-m", source]),
        ]
    };
    for (source, code) in [("model", 65), ("model/model.safetensors", 65), ("nobody/pythia-70m", 74)] {
        for (program, outcome) in wanted(source) {
            outcome.fails(program, code, &[source, &format!("pythia-quant convert {source} -t Q8_0")]);
        }
    }
    let gguf = common::gguf("Q8_0");
    convert(dir.path(), &gguf, &["-t", "F16"]).fails(PROGRAM, 65, &["a GGUF file", "pythia-quant quantize"]);
    convert(dir.path(), &model, &["-t", "F16", "--variant", "fp16"]).fails(
        PROGRAM,
        65,
        &["wanted model.fp16.safetensors"],
    );
    fs::rename(model.join("model.safetensors"), model.join("model.fp16.safetensors")).unwrap();
    convert(dir.path(), &model, &["-t", "F16"]).fails(PROGRAM, 65, &["only variants", "--variant fp16"]);
    convert(dir.path(), &model, &["-t", "F16", "--variant", "fp16", "-o", "out.gguf"]).ok();
    let against = ["verify", "out.gguf", "--against", "model", "--variant", "fp16"];
    quant(dir.path(), against).ok();
    assert_eq!(names(dir.path()), ["model", "out.gguf", "text"]);
}

#[test]
fn what_was_read_in_another_way_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let model = copy_checkpoint(dir.path());
    let path = model.join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let pad = serde_json::json!({"id": 4096, "content": "[PAD]", "special": true, "normalized": false, "single_word": false,
        "lstrip": false, "rstrip": false});
    tokenizer["added_tokens"].as_array_mut().unwrap().push(pad);
    fs::write(&path, tokenizer.to_string()).unwrap();
    let outcome = convert(dir.path(), &model, &["-t", "Q8_0", "-o", "out.gguf", "--json"]);
    assert!(
        outcome.stderr.contains("warning: added tokens beyond the 4096 rows") && outcome.stderr.contains("[PAD]"),
        "{outcome:?}"
    );
    let report: Value = serde_json::from_str(&outcome.ok()).unwrap();
    assert!(report["warnings"][0].as_str().unwrap().contains("\"[PAD]\" (id 4096)"), "{report}");
    // The file holds one vocabulary, not two.
    let info = common::run_model(dir.path(), ["tokenize", "out.gguf", "-p", "[PAD]"]).ok();
    assert!(!info.contains("4096"), "{info}");
    quant(dir.path(), ["verify", "out.gguf"]).ok();
}
