//! Weights in `.bin` files: whatever PyTorch wrote them, and however, they give the files that safetensors give.

mod lora;
mod two_readers;

use crate::common::torch::{self, Container, Pickle, Tensor};
use crate::common::{checkpoint, data, names, quant};
use pythia_checkpoint::Checkpoint;
use pythia_convert::{CheckpointSource, Level, Provenance, Request, RunOptions, plan, run};
use pythia_task::Cancel;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// What `checkpoint` converts to, given that provenance is the same: names of weight files are a part of it.
fn converted(checkpoint: &Path, level: Level) -> Vec<u8> {
    let checkpoint = CheckpointSource::open(checkpoint).expect("a checkpoint");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("out.gguf");
    let provenance = Provenance { name: "model".into(), ..Provenance::default() };
    let request = Request { files: vec![(level, path.clone())], provenance, ..Request::default() };
    let plan = plan(&checkpoint, &request).expect("a plan");
    let options = RunOptions {
        threads: 2,
        force: false,
        allow_nonfinite: false,
        sha256: false,
        cancel: &Cancel::new(),
        progress: &(),
    };
    run(&checkpoint, &plan, &options).expect("a conversion");
    fs::read(path).expect("a file")
}

/// A checkpoint with the config of `tests/data/torch` and these files.
fn folder(files: &[(&str, PathBuf)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::copy(data("torch/config.json"), folder.path().join("config.json")).expect("a copy");
    for (name, source) in files {
        fs::copy(source, folder.path().join(name)).expect("a copy");
    }
    folder
}

/// The big checkpoint with its weights in a `.bin` file.
fn big(container: Container, edit: impl FnOnce(&mut Vec<Tensor>)) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(checkpoint().join(name), folder.path().join(name)).expect("a copy");
    }
    let mut tensors = torch::tensors(&checkpoint().join("model.safetensors"));
    edit(&mut tensors);
    fs::write(folder.path().join("pytorch_model.bin"), torch::file(container, &tensors)).expect("a file");
    folder
}

#[test]
fn files_of_every_version_and_form_give_the_same_bytes() {
    let reference = folder(&[("model.safetensors", data("torch/half.safetensors"))]);
    for level in [Level::F32, Level::Q8_0] {
        let wanted = converted(reference.path(), level);
        let mut n_files = 0;
        for name in names(&data("torch")) {
            if !name.ends_with(".bin") || name.ends_with("tied.bin") {
                continue;
            }
            let folder = folder(&[("pytorch_model.bin", data("torch").join(&name))]);
            assert!(converted(folder.path(), level) == wanted, "{name} as {level}");
            // The file alone, beside its config.
            let file = folder.path().join("pytorch_model.bin");
            assert!(converted(&file, level) == wanted, "{name} as {level}, by its own path");
            n_files += 1;
        }
        assert_eq!(n_files, 13);
        let shards: Vec<_> = names(&data("torch/1.13.1-shards"));
        let files: Vec<_> = shards.iter().map(|name| (name.as_str(), data("torch/1.13.1-shards").join(name))).collect();
        assert!(converted(folder(&files).path(), level) == wanted, "shards as {level}");
    }
}

#[test]
fn f16_weights_are_copied_bit_for_bit_from_any_container() {
    let wanted = converted(&checkpoint(), Level::F16);
    for container in [Container::Zip, Container::Zip64, Container::Legacy] {
        let folder = big(container, |_| ());
        assert!(converted(folder.path(), Level::F16) == wanted, "{container:?}");
    }
}

#[test]
fn both_generations_of_transformers_give_the_same_bytes() {
    let [four, five] = ["4.57.6", "5.23.0"].map(|version| data(&format!("torch/transformers-{version}")));
    assert!(converted(&four, Level::F16) == converted(&five, Level::F16));
    // With the rotation that these two name, and no other file does.
    let other = folder(&[("model.safetensors", data("torch/half.safetensors"))]);
    assert!(converted(&four, Level::F16) != converted(other.path(), Level::F16));
}

#[test]
fn a_tied_head_is_one_storage() {
    let tied = folder(&[("pytorch_model.bin", data("torch/1.13.1-tied.bin"))]);
    let opened = Checkpoint::open(tied.path()).expect("a checkpoint");
    let rows = |name: &str| {
        let tensor = opened.tensor(name).expect(name);
        let mut bytes = Vec::new();
        opened.read_rows(tensor, 0, tensor.n_rows(), &mut bytes).expect("rows");
        bytes
    };
    let embedding = rows("gpt_neox.embed_in.weight");
    assert!(embedding.iter().any(|&byte| byte != 0));
    assert_eq!(rows("embed_out.weight"), embedding);
}

/// The older container can refer to a part of a storage. The versions that the fixtures come from do not.
#[test]
fn a_part_of_a_legacy_storage_starts_where_it_says() {
    let storage = Tensor {
        name: String::new(),
        class: "Half",
        shape: vec![600],
        bytes: (0..600u16).flat_map(u16::to_le_bytes).collect(),
    };
    let args = Pickle::new().op(b"}").text("gpt_neox.embed_in.weight").global("torch._utils", "_rebuild_tensor_v2");
    let id = args.op(b"((").text("storage").global("torch", "HalfStorage").text("0").text("cpu").int(600);
    // From element 70 on, and of that from element 8 on.
    let part = id.op(b"(").text("part").int(70).int(530).op(b"ttQ");
    let pickle = part.view(8, &[32, 16], &[16, 1]).op(b"tRs.").0;
    let folder = folder(&[]);
    fs::write(folder.path().join("pytorch_model.bin"), torch::legacy(&pickle, &[storage])).expect("a file");
    let opened = Checkpoint::open(folder.path()).expect("a checkpoint");
    let mut bytes = Vec::new();
    opened.read_rows(opened.tensor("gpt_neox.embed_in.weight").expect("there"), 1, 2, &mut bytes).expect("rows");
    assert_eq!(bytes, (94..126u16).flat_map(u16::to_le_bytes).collect::<Vec<_>>());
}

#[test]
fn the_commands_take_bin_files() {
    let folder = big(Container::Zip, |_| ());
    let at = |args: &[&str]| quant(folder.path(), args);
    at(&["convert", ".", "-t", "Q8_0,F16", "-o", "out"]).ok();
    let q8 = &names(&folder.path().join("out"))[1];
    assert!(q8.ends_with("-Q8_0.gguf"), "{q8}");
    let report = at(&["verify", &format!("out/{q8}"), "--against", "pytorch_model.bin"]).ok();
    assert!(report.contains("ok"), "{report}");
    at(&["verify", &format!("out/{q8}"), "--against", "."]).ok();
    fs::write(folder.path().join("text"), "A page of documentation.\n".repeat(200)).expect("a text");
    let table = at(&["compare", ".", "-f", "text", "-t", "Q8_0", "-c", "32", "--chunks", "2"]).ok();
    assert!(table.contains("Q8_0"), "{table}");
    // What is read is never written, by whatever name.
    for input in ["pytorch_model.bin", "./pytorch_model.bin"] {
        let refused = at(&["convert", ".", "-t", "Q8_0", "--force", "-o", input]);
        refused.fails("pythia-quant", 2, &["pytorch_model.bin"]);
    }
    fs::write(folder.path().join("pytorch_model.bin.index.json"), "{}").expect("a file");
    at(&["convert", ".", "-t", "Q8_0", "--force", "-o", "pytorch_model.bin.index.json"]).fails(
        "pythia-quant",
        2,
        &["index"],
    );
}

#[test]
fn a_damaged_weight_is_found_by_its_checksum() {
    for (at, name) in [(100, "first"), (5_000_000, "middle"), (13_000_000, "late")] {
        let folder = big(Container::Zip, |_| ());
        let path = folder.path().join("pytorch_model.bin");
        let mut bytes = fs::read(&path).expect("a file");
        let start = bytes.len() - 13_680_000;
        // The lowest bit of a weight: it stays finite and plausible.
        bytes[(start + at) & !1] ^= 1;
        fs::write(&path, bytes).expect("a file");
        let outcome = quant(folder.path(), ["convert", ".", "-t", "Q8_0", "-o", "out.gguf"]);
        outcome.fails("pythia-quant", 65, &["damaged: bytes", "CRC-32"]);
        assert_eq!(names(folder.path()).len(), 4, "{name}: {:?}", names(folder.path()));
    }
}

#[test]
fn a_shard_that_is_not_there_is_named() {
    let folder = folder(&[("pytorch_model.bin.index.json", data("torch/1.13.1-shards/pytorch_model.bin.index.json"))]);
    let outcome = quant(folder.path(), ["convert", ".", "-t", "Q8_0", "-o", "out.gguf"]);
    outcome.fails("pythia-quant", 74, &["pytorch_model-00001-of-00002.bin"]);
}
