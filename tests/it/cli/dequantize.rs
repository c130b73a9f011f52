//! `pythia-quant dequantize`: back to the checkpoint that a file was made from, or to one of what it stands for.

use crate::common::{Impatient, Outcome, checkpoint, file, gguf, names, printed, python, quant};
use pythia_convert::CheckpointSource;
use pythia_convert::dequantize::{Settings, dequantize};
use pythia_convert::{Error, GgufFile, PassOptions};
use pythia_gguf::{Gguf, Metadata, keys};
use pythia_model::{Activations, ContextShape, KvType, Model, Options, Span};
use pythia_runtime::Tokenizer;
use pythia_task::Cancel;
use pythia_tensor::TensorType;
use safetensors::SafeTensors;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

const PROGRAM: &str = "pythia-quant";

fn run(folder: &Path, file: &Path, out: &str, more: &[&str]) -> Outcome {
    let file = file.to_str().unwrap();
    quant(folder, ["dequantize", file, out].into_iter().chain(more.iter().copied()))
}

fn convert(folder: &Path, source: &Path, level: &str, output: &str) {
    quant(folder, ["convert", source.to_str().unwrap(), "-t", level, "-o", output, "-q"]).ok();
}

#[test]
fn f16_restores_the_checkpoint_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    convert(dir.path(), &checkpoint(), "F16", "x.gguf");
    let text = run(dir.path(), Path::new("x.gguf"), "out", &["--dtype", "f16"]).ok();
    assert!(text.contains("76 tensors as F16") && text.contains("as embedded"), "{text}");
    assert_eq!(names(dir.path()), ["out", "x.gguf"]);
    let out = dir.path().join("out");
    assert_eq!(names(&out), ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]);

    let [ours, theirs] = [&out, &checkpoint()].map(|folder| fs::read(folder.join("model.safetensors")).unwrap());
    let [ours, theirs] = [&ours, &theirs].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
    let sorted = |tensors: &SafeTensors<'_>| {
        let mut names: Vec<String> = tensors.names().into_iter().map(|name| name.to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(sorted(&ours), sorted(&theirs));
    for (name, tensor) in theirs.tensors() {
        assert_eq!(ours.tensor(&name).unwrap(), tensor, "{name}");
    }
    for name in ["tokenizer.json", "tokenizer_config.json", "config.json"] {
        let [ours, theirs] = [&out, &checkpoint()].map(|folder| fs::read_to_string(folder.join(name)).unwrap());
        if name == "tokenizer.json" {
            assert!(ours == theirs, "{name}");
            continue;
        }
        let [ours, theirs]: [Value; 2] = [ours, theirs].map(|text| serde_json::from_str(&text).unwrap());
        // These say nothing about the model, or name another class that reads the same file.
        let ignored = ["initializer_range", "transformers_version", "tokenizer_class"];
        for (key, value) in theirs.as_object().unwrap().iter().filter(|(key, _)| !ignored.contains(&key.as_str())) {
            match (value.as_f64(), ours[key].as_f64()) {
                (Some(a), Some(b)) => assert_eq!(a, b, "{name}: {key}"),
                _ => assert_eq!(*value, ours[key], "{name}: {key}"),
            }
        }
    }
    let [ours, theirs] = [&out, &checkpoint()].map(|folder| CheckpointSource::open(folder).unwrap());
    assert_eq!(ours.checkpoint().config(), theirs.checkpoint().config());
    assert_eq!(ours.tokenizer(), theirs.tokenizer());
}

#[test]
fn quantized_weights_come_back_as_what_they_stand_for() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &gguf("Q4_0"), "out", &["-q"]).ok();
    convert(dir.path(), &dir.path().join("out"), "F32", "back.gguf");
    // Types differ, but no value does; and nothing else was lost on the way.
    let diff = quant(dir.path(), ["diff", gguf("Q4_0").to_str().unwrap(), "back.gguf", "--json"]);
    assert_eq!(diff.code, Some(1));
    let diff: Value = serde_json::from_str(&diff.stdout).unwrap();
    assert_eq!(diff["tensors_different"], 26);
    for tensor in diff["tensors"].as_array().unwrap() {
        assert_eq!((&tensor["b"]["type"], &tensor["max_abs"]), (&"F32".into(), &0.0.into()), "{tensor}");
    }
    for key in diff["metadata"].as_array().unwrap().iter().map(|key| key["key"].as_str().unwrap()) {
        let about_origin = key.starts_with("general.") || key.starts_with("pythia_quant.");
        assert!(about_origin, "{key} was lost");
    }
    // The other types round to nearest.
    for (dtype, largest) in [("f16", 5e-4), ("bf16", 4e-3)] {
        run(dir.path(), &gguf("Q4_0"), dtype, &["--dtype", dtype, "--threads", "1", "-q"]).ok();
        convert(dir.path(), &dir.path().join(dtype), "F32", "half.gguf");
        let diff = quant(dir.path(), ["diff", "back.gguf", "half.gguf", "--json", "--no-metadata"]);
        let diff: Value = serde_json::from_str(&diff.stdout).unwrap();
        for tensor in diff["tensors"].as_array().unwrap() {
            assert!(tensor["relative_rms"].as_f64().unwrap() < largest, "{dtype}: {tensor}");
        }
        fs::remove_file(dir.path().join("half.gguf")).unwrap();
    }
}

/// The fixture's file with the metadata that `change` leaves.
fn with_metadata(folder: &Path, change: impl FnOnce(&mut Metadata)) -> PathBuf {
    let path = folder.join("changed.gguf");
    fs::write(&path, file::with_metadata(&fs::read(gguf("F32")).unwrap(), change)).unwrap();
    path
}

#[test]
fn tokenizers_are_rebuilt_or_said_to_be_missing() {
    let dir = tempfile::tempdir().unwrap();
    let bare = with_metadata(dir.path(), |metadata| drop(metadata.remove(keys::HUGGINGFACE_JSON)));
    let report: Value = serde_json::from_str(&run(dir.path(), &bare, "rebuilt", &["--json"]).ok()).unwrap();
    assert_eq!(
        (&report["tokenizer"], &report["dtype"], &report["tensors"]),
        (&"rebuilt".into(), &"F32".into(), &76.into())
    );
    let [ours, theirs] = [&dir.path().join("rebuilt"), &checkpoint()]
        .map(|folder| CheckpointSource::open(folder).unwrap().tokenizer().cloned().unwrap().vocab);
    assert_eq!((&ours.tokens, &ours.kinds, &ours.merges), (&theirs.tokens, &theirs.kinds, &theirs.merges));
    assert_eq!((ours.bos, ours.eos, ours.unk), (theirs.bos, theirs.eos, theirs.unk));

    let none = with_metadata(dir.path(), |metadata| {
        let keys: Vec<String> = metadata.iter().map(|(key, _)| key.to_owned()).collect();
        keys.iter().filter(|key| key.starts_with("tokenizer.")).for_each(|key| drop(metadata.remove(key)));
    });
    let outcome = run(dir.path(), &none, "none", &[]);
    assert!(outcome.stderr.contains("warning") && outcome.stderr.contains("no tokenizer in the file"), "{outcome:?}");
    assert!(outcome.ok().contains("no tokenizer"));
    assert_eq!(names(&dir.path().join("none")), ["config.json", "model.safetensors"]);
}

#[test]
fn folders_are_kept_unless_forced_and_inputs_always() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("mine")).unwrap();
    fs::write(dir.path().join("mine/notes"), "precious").unwrap();
    run(dir.path(), &gguf("Q4_0"), "mine", &[]).fails(PROGRAM, 2, &["mine", "already exists", "--force"]);
    run(dir.path(), &gguf("Q4_0"), "mine", &["--force"]).fails(
        PROGRAM,
        2,
        &["mine: contains ", "which this program does not write"],
    );
    assert_eq!(names(&dir.path().join("mine")), ["notes"]);
    run(dir.path(), &gguf("Q4_0"), "absent/out", &[]).fails(PROGRAM, 74, &["absent", "cannot create"]);
    run(dir.path(), &gguf("Q4_0"), ".", &[]).fails(PROGRAM, 2, &["wanted the name of a folder"]);
    run(dir.path(), &gguf("Q4_0"), "out", &["--dtype", "q8_0"]).fails(PROGRAM, 2, &["q8_0", "wanted f32, f16 or bf16"]);
    assert_eq!(names(dir.path()), ["mine"], "nothing is left behind");

    run(dir.path(), &gguf("Q4_0"), "out", &["-q"]).ok();
    fs::remove_file(dir.path().join("out/tokenizer.json")).unwrap();
    run(dir.path(), &gguf("Q4_0"), "out", &["-q", "--force"]).ok();
    assert!(names(&dir.path().join("out")).contains(&"tokenizer.json".to_owned()), "replaced as a whole");
    fs::write(dir.path().join("out/other.json"), "{}").unwrap();
    run(dir.path(), &gguf("Q4_0"), "out", &["--force"]).fails(PROGRAM, 2, &["out: contains other.json, which"]);
    fs::remove_file(dir.path().join("out/other.json")).unwrap();
    // The model lies in the folder that would be replaced.
    fs::copy(gguf("Q4_0"), dir.path().join("out/model.gguf")).unwrap();
    let inside = run(dir.path(), Path::new("out/model.gguf"), "out", &["--force"]);
    inside.fails(PROGRAM, 2, &["would replace the input"]);
    assert_eq!(names(dir.path()), ["mine", "out"]);
}

#[test]
fn files_that_are_no_model_are_refused_and_values_that_do_not_fit_too() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("text"), "not a model").unwrap();
    run(dir.path(), Path::new("text"), "out", &[]).fails(PROGRAM, 65, &["text", "GGUF"]);
    run(dir.path(), Path::new("absent.gguf"), "out", &[]).fails(PROGRAM, 74, &["absent.gguf"]);
    let other = with_metadata(dir.path(), |metadata| metadata.insert("general.architecture", "llama"));
    run(dir.path(), &other, "out", &[]).fails(PROGRAM, 65, &["changed.gguf", "'llama'", "'gptneox'"]);

    let large = with_metadata(dir.path(), |_| {});
    let mut bytes = fs::read(&large).unwrap();
    let at = Gguf::parse(&bytes).unwrap().tensor("blk.2.ffn_up.bias").unwrap().offset as usize + 40;
    bytes[at..at + 4].copy_from_slice(&1e6f32.to_le_bytes());
    fs::write(&large, bytes).unwrap();
    let refused = run(dir.path(), &large, "out", &["--dtype", "f16"]);
    refused.fails(PROGRAM, 65, &["blk.2.ffn_up.bias", "1e6", "too large for F16"]);
    assert_eq!(names(dir.path()), ["changed.gguf", "text"], "nothing is left behind");
    run(dir.path(), &large, "out", &["--dtype", "bf16", "-q"]).ok();
}

#[test]
fn a_run_that_is_cancelled_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cancel = Cancel::new();
    let file = GgufFile::open(&gguf("Q4_0")).unwrap();
    let settings = Settings { dtype: TensorType::F32, tokenizer_json: None, force: false };
    let options = PassOptions { threads: 2, cancel: &cancel, progress: &Impatient(&cancel) };
    let result = dequantize(&file, &dir.path().join("out"), &settings, &options);
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    assert_eq!(names(dir.path()), [""; 0]);
}

/// What transformers makes of a folder: token ids of a text, and the logits after it.
const TRANSFORMERS: &str = r#"
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, text = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
assert not any(info.values()), info
inputs = tokenizer(text, return_tensors="pt")
with torch.no_grad():
    logits = model(**inputs).logits[0, -1]
ids = inputs["input_ids"][0].tolist()
json.dump({"ids": ids, "decoded": tokenizer.decode(ids), "logits": logits.tolist()}, sys.stdout)
"#;

#[test]
fn transformers_loads_the_folder_and_computes_the_same() {
    const TEXT: &str = "The borrow checker    ensures that caf\u{e9} references";
    let dir = tempfile::tempdir().unwrap();
    // With the tokenizer that the file embeds, and with one rebuilt.
    let bare = with_metadata(dir.path(), |metadata| drop(metadata.remove(keys::HUGGINGFACE_JSON)));
    for (file, out) in [(gguf("Q4_0"), "q4"), (bare, "bare")] {
        run(dir.path(), &file, out, &["-q"]).ok();
        let Some(mut python) = python(&["torch", "transformers"]) else { return };
        let theirs = printed(python.args(["-c", TRANSFORMERS]).arg(dir.path().join(out)).arg(TEXT));
        let theirs: Value = serde_json::from_str(&theirs).unwrap();
        assert_eq!(theirs["decoded"], TEXT);

        let options = Options { activations: Activations::F32, kv: KvType::F32, ..Options::default() };
        let model = Model::open(&file, &options).unwrap();
        let ids = Tokenizer::from_gguf(&model.gguf().metadata).unwrap().encode(TEXT).unwrap();
        assert_eq!(theirs["ids"], serde_json::json!(ids));
        let mut context = model.context(ContextShape { n_seq: 1, n_ctx: 64, n_batch: 64 }).unwrap();
        let mut sequence = context.sequence().unwrap();
        context.forward(&mut [Span { sequence: &mut sequence, tokens: &ids }]).unwrap();
        let mut ours = vec![0.0; model.hparams().n_vocab];
        context.logits(ids.len() - 1..ids.len(), &mut ours).unwrap();
        let theirs: Vec<f64> = theirs["logits"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        assert_eq!(ours.len(), theirs.len());
        let largest = ours.iter().zip(&theirs).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
        eprintln!("{out}: largest difference of {} logits to transformers: {largest:.1e}", ours.len());
        assert!(largest < 2e-4, "{largest}");
    }
}
