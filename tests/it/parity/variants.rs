//! Configs that change what the model computes: the file says so, every program obeys, and the way back to a checkpoint
//! keeps it. Perplexities are those of transformers, recorded by `tools/hf_variants.py`, which a test runs again where
//! Python has transformers.

use crate::common;
use serde_json::{Map, Value};
use std::fs;
use std::path::Path;

/// Transformers and this program round differently; the forms of GELU are 2.5e-5 apart.
const RELATIVE: f64 = 2e-6;

fn goldens() -> Value {
    serde_json::from_slice(&fs::read(common::data("goldens/hf_variants.json")).unwrap()).unwrap()
}

/// The checkpoint of the tests with these fields of its config set.
fn edited_checkpoint(folder: &Path, edits: &Map<String, Value>) {
    fs::create_dir(folder).unwrap();
    for name in ["model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(common::checkpoint().join(name), folder.join(name)).unwrap();
    }
    let mut config: Value =
        serde_json::from_slice(&fs::read(common::checkpoint().join("config.json")).unwrap()).unwrap();
    for (key, value) in edits {
        config[key] = value.clone();
    }
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

fn perplexity(folder: &Path, model: &str, more: &[&str]) -> f64 {
    let text = common::checkpoint().join("heldout.txt");
    let fixed = ["perplexity", model, "-f", text.to_str().unwrap(), "--chunks", "4", "--activations", "f32", "--kv"];
    let args = fixed.iter().chain(&["f32", "--json"]).chain(more);
    let report: Value = serde_json::from_str(&common::run_model(folder, args).ok()).unwrap();
    report["perplexity"]["value"].as_f64().unwrap()
}

#[test]
fn scaled_rotation_and_forms_of_gelu_are_those_of_transformers() {
    let goldens = goldens();
    assert_eq!(goldens["chunks"], 4);
    for (name, variant) in goldens["variants"].as_object().unwrap() {
        let dir = tempfile::tempdir().unwrap();
        edited_checkpoint(&dir.path().join("c"), variant["config"].as_object().unwrap());
        common::quant(dir.path(), ["convert", "c", "-t", "F32", "-o", "f32.gguf"]).ok();
        let (got, want) = (perplexity(dir.path(), "f32.gguf", &[]), variant["perplexity"].as_f64().unwrap());
        assert!((got / want - 1.0).abs() < RELATIVE, "{name}: {got}, transformers has {want}");
        println!("{name}: relative difference {:.1e}", (got / want - 1.0).abs());
    }
}

#[test]
fn every_program_knows_and_keeps_what_the_config_says() {
    let scaled = r#"{"rope_scaling": {"type": "linear", "factor": 2.5}}"#;
    for (edits, factor, gelu, key) in [
        (scaled, 2.5, "erf", "gptneox.rope.scaling.factor"),
        (r#"{"hidden_act": "gelu_fast"}"#, 1.0, "tanh", "pythia_quant.gelu"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let quant = |args: &[&str]| common::quant(dir.path(), args);
        edited_checkpoint(&dir.path().join("c"), serde_json::from_str(edits).as_ref().unwrap());
        quant(&["convert", "c", "-t", "Q8_0", "-o", "a.gguf"]).ok();
        quant(&["quantize", "a.gguf", "b.gguf", "Q8_0"]).ok();
        let info: Value =
            serde_json::from_str(&common::run_model(dir.path(), ["info", "b.gguf", "--json"]).ok()).unwrap();
        assert_eq!((info["rope_factor"].as_f64(), info["gelu"].as_str()), (Some(factor), Some(gelu)), "{info}");
        assert_eq!(info["file_gelu"], gelu);
        let shown = common::run_model(dir.path(), ["info", "b.gguf"]).ok();
        assert_eq!(shown.contains("linear scaling by 2.5"), factor != 1.0, "{shown}");
        assert!(shown.contains(&format!("GELU by {gelu}\n")), "{shown}");
        assert!(quant(&["inspect", "b.gguf"]).ok().contains(key));

        quant(&["verify", "b.gguf", "--against", "c"]).ok();
        let plain = common::checkpoint();
        let wrong = quant(&["verify", "b.gguf", "--against", plain.to_str().unwrap()]);
        assert_eq!(wrong.code, Some(65), "{wrong:?}");
        assert!(wrong.stdout.contains(&format!("WRONG: key '{key}': ")), "{wrong:?}");
        // The other way round, the key is what the file lacks.
        quant(&["convert", plain.to_str().unwrap(), "-t", "Q8_0", "-o", "plain.gguf"]).ok();
        let wrong = quant(&["verify", "plain.gguf", "--against", "c"]);
        assert!(wrong.stdout.contains(&format!("WRONG: key '{key}': found none, wanted ")), "{wrong:?}");

        quant(&["dequantize", "b.gguf", "back", "--dtype", "f16"]).ok();
        quant(&["convert", "back", "-t", "Q8_0", "-o", "again.gguf"]).ok();
        let again: Value =
            serde_json::from_str(&common::run_model(dir.path(), ["info", "again.gguf", "--json"]).ok()).unwrap();
        for field in ["rope_factor", "file_gelu"] {
            assert_eq!(again[field], info[field]);
        }
    }
}

#[test]
fn an_option_goes_before_the_files_gelu() {
    let dir = tempfile::tempdir().unwrap();
    edited_checkpoint(&dir.path().join("c"), serde_json::from_str(r#"{"hidden_act": "gelu_new"}"#).as_ref().unwrap());
    common::quant(dir.path(), ["convert", "c", "-t", "F32", "-o", "f32.gguf"]).ok();
    let erf = perplexity(dir.path(), "f32.gguf", &["--gelu", "erf"]);
    assert_eq!(erf, perplexity(dir.path(), common::gguf("F32").to_str().unwrap(), &[]));
    assert_ne!(erf, perplexity(dir.path(), "f32.gguf", &[]));
    let shown = common::run_model(dir.path(), ["info", "f32.gguf", "--gelu", "erf"]).ok();
    assert!(shown.contains("GELU by erf (the file's: tanh)"), "{shown}");
}

#[test]
fn transformers_says_the_same_today() {
    let Some(mut python) = common::python(&["torch", "transformers"]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("goldens.json");
    fs::copy(common::data("goldens/hf_variants.json"), &path).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/hf_variants.py");
    let text = common::checkpoint().join("heldout.txt");
    common::printed(python.arg(script).arg(common::checkpoint()).arg(text).arg(&path));
    let today: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    for (name, variant) in goldens()["variants"].as_object().unwrap() {
        let (want, got) = (variant["perplexity"].as_f64().unwrap(), today["variants"][name]["perplexity"].as_f64());
        assert!((got.unwrap() / want - 1.0).abs() < RELATIVE, "{name}: {got:?}, recorded was {want}");
    }
}
