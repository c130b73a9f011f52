//! LoRA adapters merged on the way: the weights are those of PEFT's `merge_and_unload`.

use super::converted;
use crate::common::{self, data, names, quant};
use pythia_convert::{CheckpointSource, Level, LoraSource, Provenance, Request, RunOptions, plan, run};
use pythia_gguf::{Gguf, keys};
use pythia_task::Cancel;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const PROGRAM: &str = "pythia-quant";

/// What the adapters of `tests/data/lora` belong to.
fn base() -> PathBuf {
    data("torch/transformers-5.23.0")
}

/// The base with an adapter, converted.
fn merged(base: &Path, adapter: &Path, level: Level) -> Vec<u8> {
    let cancel = Cancel::new();
    let source = LoraSource::open(CheckpointSource::open(base).unwrap(), adapter, &cancel).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.gguf");
    let provenance = Provenance { name: "model".into(), ..Provenance::default() };
    let request = Request { files: vec![(level, path.clone())], provenance, ..Request::default() };
    let plan = plan(&source, &request).unwrap();
    let options =
        RunOptions { threads: 2, force: false, allow_nonfinite: false, sha256: false, cancel: &cancel, progress: &() };
    run(&source, &plan, &options).unwrap();
    fs::read(path).unwrap()
}

/// The largest difference of two F32 files, in units of the largest value of the tensor. Names and shapes are the same.
fn largest_difference(a: &[u8], b: &[u8]) -> f64 {
    let (a_file, b_file) = (Gguf::parse(a).unwrap(), Gguf::parse(b).unwrap());
    assert_eq!(a_file.tensors().len(), b_file.tensors().len());
    let mut largest = 0.0f64;
    for tensor in a_file.tensors() {
        let other = b_file.tensor(&tensor.name).unwrap();
        assert_eq!((&tensor.dims, tensor.ty.name(), other.ty.name()), (&other.dims, "F32", "F32"), "{}", tensor.name);
        let values = |file: &Gguf, bytes: &[u8], tensor| -> Vec<f64> {
            let bytes = file.data(bytes, tensor).as_chunks::<4>().0;
            bytes.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect()
        };
        let (a, b) = (values(&a_file, a, tensor), values(&b_file, b, other));
        let scale = a.iter().fold(f64::MIN_POSITIVE, |max, value| max.max(value.abs()));
        largest = a.iter().zip(&b).map(|(a, b)| (a - b).abs() / scale).fold(largest, f64::max);
    }
    largest
}

#[test]
fn merged_weights_are_pefts() {
    for case in ["matrices", "whole"] {
        let folder = data("lora").join(case);
        let ours = merged(&base(), &folder.join("adapter"), Level::F32);
        let pefts = converted(&folder.join("merged"), Level::F32);
        let difference = largest_difference(&ours, &pefts);
        println!("{case}: largest difference to PEFT's, in units of the tensor's largest value: {difference:.1e}");
        // A few roundings of f32: sums are in another order.
        assert!(difference < 3e-7, "{case}: {difference}");
        let plain = converted(&base(), Level::F32);
        assert!(largest_difference(&ours, &plain) > 1e-3, "{case}: the adapter changes nothing");
    }
}

#[test]
fn convert_and_verify_take_an_adapter() {
    let dir = tempfile::tempdir().unwrap();
    let (base, adapter) = (base(), data("lora/matrices/adapter"));
    let args = |more: &[&str]| {
        let paths = [base.as_os_str(), "--lora".as_ref(), adapter.as_os_str()];
        let more: Vec<_> = more.iter().map(|arg| Path::new(arg).as_os_str().to_owned()).collect();
        ["convert".as_ref()].into_iter().chain(paths).map(ToOwned::to_owned).chain(more).collect::<Vec<_>>()
    };
    let dry: Value =
        serde_json::from_str(&quant(dir.path(), args(&["-t", "Q8_0", "--dry-run", "--json"])).ok()).unwrap();
    assert_eq!(names(dir.path()), [""; 0]);
    assert_eq!(dry["lora"]["products"], 10);
    assert_eq!(dry["files"][0]["path"], "transformers-5.23.0-adapter-Q8_0.gguf");
    let text = quant(dir.path(), args(&["-t", "Q8_0,F32"])).ok();
    assert!(text.contains("merged LoRA adapter \"adapter\": products added to 10 matrices"), "{text}");
    let written = ["transformers-5.23.0-adapter-F32.gguf", "transformers-5.23.0-adapter-Q8_0.gguf"];
    assert_eq!(names(dir.path()), written);

    let bytes = fs::read(dir.path().join(written[0])).unwrap();
    let metadata = Gguf::parse(&bytes).unwrap().metadata;
    assert_eq!(metadata.str(keys::NAME).unwrap(), Some("transformers-5.23.0-adapter"));
    assert_eq!(metadata.str("pythia_quant.source.name").unwrap(), Some("transformers-5.23.0"));
    assert_eq!(metadata.str("pythia_quant.lora.name").unwrap(), Some("adapter"));
    for (key, file) in [("config", "adapter_config.json"), ("weights", "adapter_model.safetensors")] {
        let digest = pythia_convert::provenance::sha256_file(&adapter.join(file), &Cancel::new()).unwrap();
        assert_eq!(metadata.str(&format!("pythia_quant.lora.{key}_sha256")).unwrap(), Some(digest.as_str()));
    }

    let (base, adapter) = (base.to_str().unwrap(), adapter.to_str().unwrap());
    for file in written {
        let sound = quant(dir.path(), ["verify", file, "--against", base, "--lora", adapter]);
        assert_eq!(sound.code, Some(0), "{sound:?}");
    }
    let plain = quant(dir.path(), ["verify", written[0], "--against", base]);
    assert_eq!(plain.code, Some(65), "without the adapter the weights are others: {plain:?}");
    let of_gguf = quant(dir.path(), ["verify", written[0], "--against", written[0], "--lora", adapter]);
    of_gguf.fails(PROGRAM, 2, &["a GGUF file; --lora needs the checkpoint"]);
}

/// On the model that has a tokenizer. The adapter is made up.
#[test]
fn compare_merges_an_adapter_into_every_level() {
    let dir = tempfile::tempdir().unwrap();
    let mut edited = Edited { config: json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1}), tensors: BTreeMap::new() };
    for layer in 0..6 {
        let name =
            |part| format!("base_model.model.gpt_neox.layers.{layer}.attention.query_key_value.lora_{part}.weight");
        let value = |n: usize| (0..n).flat_map(|i| (((i % 7) as f32 - 3.0) / 16.0).to_le_bytes()).collect();
        edited.tensors.insert(name("A"), (Dtype::F32, vec![1, 256], value(256)));
        edited.tensors.insert(name("B"), (Dtype::F32, vec![768, 1], value(768)));
    }
    edited.write(&dir.path().join("tuned"));
    let (base, text) = (common::checkpoint(), common::checkpoint().join("heldout.txt"));
    let compare = |output: &str, more: &[&str]| -> Value {
        let args = ["compare", base.to_str().unwrap(), "-f", text.to_str().unwrap(), "--json", "-q", "-o", output];
        let rest = ["-t", "Q8_0", "--chunks", "1", "-c", "128", "--cache", "cache"];
        let args = args.into_iter().chain(rest).chain(more.iter().copied());
        serde_json::from_str(&quant(dir.path(), args).ok()).unwrap()
    };
    let (plain, tuned) = (compare("plain", &[]), compare("tuned-report", &["--lora", "tuned"]));
    assert_eq!((&plain["source"], &tuned["source"]), (&json!("pythia-docs-6m"), &json!("pythia-docs-6m-tuned")));
    for level in 0..2 {
        let perplexity = |report: &Value| report["levels"][level]["perplexity"]["value"].as_f64().unwrap();
        let (plain, tuned) = (perplexity(&plain), perplexity(&tuned));
        assert!((plain / tuned - 1.0).abs() > 0.01, "{plain}, with the adapter {tuned}");
    }
    assert_eq!(names(&dir.path().join("cache")).len(), 2, "a folder for each");
}

#[test]
fn what_is_read_is_not_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let edited = Edited::matrices();
    edited.write(&dir.path().join("a"));
    let base = base();
    let args =
        ["convert", base.to_str().unwrap(), "--lora", "a", "-t", "F32", "--force", "-q", "-o", "a/adapter_config.json"];
    quant(dir.path(), args).fails(PROGRAM, 2, &["a/adapter_config.json"]);
}

/// An adapter of `tests/data/lora`, to be damaged.
struct Edited {
    config: Value,
    tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
}

const QKV: &str = "base_model.model.gpt_neox.layers.0.attention.query_key_value";

impl Edited {
    fn matrices() -> Self {
        let folder = data("lora/matrices/adapter");
        let config = serde_json::from_slice(&fs::read(folder.join("adapter_config.json")).unwrap()).unwrap();
        let bytes = fs::read(folder.join("adapter_model.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = tensors.tensors().into_iter();
        let tensors = tensors.map(|(name, view)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec())));
        Self { config, tensors: tensors.collect() }
    }

    fn write(&self, folder: &Path) {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("adapter_config.json"), self.config.to_string()).unwrap();
        let views = self.tensors.iter().map(|(name, (dtype, shape, bytes))| {
            (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        });
        serialize_to_file(views, None, &folder.join("adapter_model.safetensors")).unwrap();
    }

    fn set(&mut self, key: &str, value: Value) {
        self.config[key] = value;
    }

    fn rename(&mut self, from: &str, to: &str) {
        let tensor = self.tensors.remove(from).unwrap_or_else(|| panic!("no {from}"));
        self.tensors.insert(to.to_owned(), tensor);
    }

    fn remove(&mut self, name: &str) {
        self.tensors.remove(name).unwrap_or_else(|| panic!("no {name}"));
    }

    fn zeros(&mut self, name: &str, shape: &[usize]) {
        let n_bytes = 4 * shape.iter().product::<usize>();
        self.tensors.insert(name.to_owned(), (Dtype::F32, shape.to_vec(), vec![0; n_bytes]));
    }
}

/// What a case does to the adapter, and what the message must say.
type Case = (&'static str, fn(&mut Edited), &'static str);

#[rustfmt::skip] // a table
const REFUSED: &[Case] = &[
    ("DoRA", |a| a.set("use_dora", json!(true)), "use_dora: this adapter is DoRA"),
    ("IA3", |a| a.set("peft_type", json!("IA3")), "peft_type: \"IA3\", wanted \"LORA\""),
    ("PiSSA", |a| a.set("init_lora_weights", json!("pissa")), "\"pissa\" changes the base's weights"),
    ("DoRA's tensor", |a| a.zeros(&format!("{QKV}.lora_magnitude_vector"), &[48]), "a magnitude of DoRA"),
    ("another rank", |a| a.set("r", json!(4)), "shape [3, 32], wanted [4, 32] for rank 4 and a matrix of [32, 16]"),
    ("a rank by pattern", |a| a.set("rank_pattern", json!({})), "for rank 3 and a matrix of"),
    ("an endless alpha", |a| a.set("lora_alpha", json!(1e300)), "makes no finite factor"),
    ("no config for it", |a| a.set("target_modules", json!(["dense"])), "not a module that adapter_config.json names"),
    ("nothing for a target", |a| { a.remove(&format!("{QKV}.lora_A.weight")); a.remove(&format!("{QKV}.lora_B.weight")) }, "target_modules: names \"gpt_neox.layers.0.attention.query_key_value\", of which there is no lora_A"),
    ("no lora_B", |a| a.remove(&format!("{QKV}.lora_B.weight")), "query_key_value\" has no lora_B"),
    ("no lora_A", |a| a.remove(&format!("{QKV}.lora_A.weight")), "query_key_value\" has no lora_A"),
    ("a layer too many", |a| { for m in ["A", "B"] { a.rename(&format!("{QKV}.lora_{m}.weight"), &format!("{}.lora_{m}.weight", QKV.replace(".0.", ".7."))) } }, "no such matrix in the base model"),
    ("a norm", |a| a.rename(&format!("{QKV}.lora_A.weight"), "base_model.model.gpt_neox.final_layer_norm.lora_A.weight"), "no such matrix in the base model"),
    ("a tensor of no meaning", |a| a.zeros("base_model.model.score.weight", &[2, 16]), "\"base_model.model.score.weight\": no such tensor in the base model"),
    ("no prefix", |a| a.zeros("gpt_neox.final_layer_norm.weight", &[16]), "begins with base_model.model."),
    ("two adapters", |a| { a.rename(&format!("{QKV}.lora_A.weight"), &format!("{QKV}.lora_A.one.weight")); a.rename(&format!("{QKV}.lora_B.weight"), &format!("{QKV}.lora_B.two.weight")) }, "of the adapter"),
    ("a part twice", |a| a.zeros(&format!("{QKV}.lora_A.default.weight"), &[3, 16]), "same part of the same module"),
    ("a linear layer as an embedding", |a| { a.rename(&format!("{QKV}.lora_A.weight"), &format!("{QKV}.lora_embedding_A")); a.rename(&format!("{QKV}.lora_B.weight"), &format!("{QKV}.lora_embedding_B")) }, "its module is a linear layer, wanted lora_A"),
    ("both kinds", |a| a.zeros(&format!("{QKV}.lora_embedding_A"), &[3, 16]), "of the other kind"),
    ("a bias unannounced", |a| a.zeros(&format!("{QKV}.lora_B.bias"), &[48]), "does not say lora_bias"),
    ("no bias", |a| a.set("lora_bias", json!(true)), "lora_bias: true, but"),
    ("a larger vocabulary", |a| a.zeros("base_model.model.lm_head.base_layer.weight", &[33, 16]), "shape [33, 16], wanted [32, 16] as the base: a vocabulary of another size is not merged"),
    ("a wrapped layer of no pair", |a| a.zeros("base_model.model.gpt_neox.final_layer_norm.base_layer.weight", &[16]), "there are no LoRA matrices of it"),
    ("a whole weight of a pair", |a| a.zeros(&format!("{QKV}.weight"), &[48, 16]), "has LoRA matrices too"),
    ("a module that is not saved", |a| a.set("modules_to_save", json!(["final_layer_norm"])), "modules_to_save: names \"gpt_neox.final_layer_norm\", of which there is no weight"),
    ("a leftover alone", |a| a.zeros("base_model.model.gpt_neox.final_layer_norm.original_module.bias", &[16]), "saved whole, but is not here"),
    ("integers", |a| _ = a.tensors.insert(format!("{QKV}.lora_A.weight"), (Dtype::I32, vec![3, 16], vec![0; 192])), "type I32"),
    ("a pattern without end", |a| a.set("target_modules", json!("(a{1000}){1000}")), "size limit"),
    ("NaN", |a| { let part = a.tensors.get_mut(&format!("{QKV}.lora_A.weight")).unwrap(); part.2[..4].copy_from_slice(&f32::NAN.to_le_bytes()) }, "not finite"),
];

#[test]
fn adapters_that_do_not_fit_end_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let base = base();
    for (number, (name, damage, wanted)) in REFUSED.iter().enumerate() {
        let mut edited = Edited::matrices();
        damage(&mut edited);
        let folder = format!("case-{number}");
        edited.write(&dir.path().join(&folder));
        let args = ["convert", base.to_str().unwrap(), "--lora", &folder, "-t", "Q8_0", "-o", "out.gguf", "-q"];
        let outcome = quant(dir.path(), args);
        println!("{name}: {}", outcome.stderr.trim_end());
        outcome.fails(PROGRAM, 65, &[wanted]);
        assert!(!dir.path().join("out.gguf").exists(), "{name}");
    }
    let none = quant(dir.path(), ["convert", base.to_str().unwrap(), "--lora", "absent", "-t", "F32"]);
    none.fails(PROGRAM, 74, &["absent: no such folder"]);
    let other = quant(dir.path(), ["convert", base.to_str().unwrap(), "--lora", ".", "-t", "F32"]);
    other.fails(PROGRAM, 65, &["wanted the folder of a LoRA adapter"]);
}

#[test]
fn names_with_the_adapters_name_say_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut edited = Edited::matrices();
    for name in edited.tensors.keys().cloned().collect::<Vec<_>>() {
        let to = match name.strip_suffix(".weight") {
            Some(start) if name.contains(".lora_") => format!("{start}.default.weight"),
            None => format!("{name}.default"),
            Some(_) => continue,
        };
        edited.rename(&name, &to);
    }
    let folder = dir.path().join("adapter");
    edited.write(&folder);
    let [ours, plain] = [folder, data("lora/matrices/adapter")].map(|adapter| merged(&base(), &adapter, Level::F32));
    assert_eq!(largest_difference(&ours, &plain), 0.0);
}

/// With Python: every setting that changes a merge, on the trained model, against PEFT's weights and transformers'
/// perplexity.
#[test]
fn merges_and_perplexities_are_pefts() {
    let Some(mut python) = common::python(&["peft"]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (base, text) = (common::checkpoint(), common::checkpoint().join("heldout.txt"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/lora_fixtures.py");
    common::printed(python.arg(script).arg("--text").args([&text, &base, dir.path()]));
    for case in names(dir.path()) {
        let folder = dir.path().join(&case);
        let ours = merged(&base, &folder.join("adapter"), Level::F32);
        let difference = largest_difference(&ours, &converted(&folder.join("merged"), Level::F32));
        fs::write(folder.join("m.gguf"), &ours).unwrap();
        let options = "perplexity -m m.gguf --protocol hf-stride -c 512 --stride 512 --chunks 8 --activations f32 --kv f32 --json -f";
        let args = options.split(' ').map(Into::into).chain([text.clone().into_os_string()]);
        let result: Value = serde_json::from_str(&common::run_model(&folder, args).ok()).unwrap();
        let wanted: Value = serde_json::from_slice(&fs::read(folder.join("perplexity.json")).unwrap()).unwrap();
        assert_eq!(result["tokens_scored"], wanted["scored"]);
        let perplexity = result["perplexity"]["value"].as_f64().unwrap();
        let relative = (perplexity / wanted["perplexity"].as_f64().unwrap() - 1.0).abs();
        println!("{case}: weights {difference:.1e}, perplexity {perplexity:.4}, {relative:.1e} from transformers'");
        assert!(difference < 5e-7 && relative < 1e-5, "{case}");
    }
}
