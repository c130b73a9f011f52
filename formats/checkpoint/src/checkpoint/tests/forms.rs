//! Forms that checkpoints come in beside the usual one, and what is taken for a checkpoint and is none.

use super::*;
use std::path::Path;

/// The weights of `TENSORS` under other names.
fn renamed(rename: impl Fn(&str) -> String) -> TempDir {
    let names: Vec<String> = TENSORS.iter().map(|(name, _)| rename(name)).collect();
    let tensors: Vec<(&str, &[usize])> =
        names.iter().zip(TENSORS).map(|(name, (_, shape))| (&**name, *shape)).collect();
    single(&tensors)
}

fn set_config(folder: &Path, key: &str, value: Value) {
    let mut config = config();
    config[key] = value;
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

fn refusal(folder: &Path) -> String {
    Checkpoint::open(folder).unwrap_err().to_string()
}

#[test]
fn wrapped_names_are_those_of_the_model_in_every_container() {
    for prefix in ["module.", "_orig_mod.module.", "base_model.model."] {
        let dir = renamed(|name| format!("{prefix}{name}"));
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let found = resolve(&checkpoint).unwrap();
        assert!(found.iter().map(|t| t.name.as_str()).eq(TENSORS.iter().map(|(name, _)| *name)));
        let mut bytes = Vec::new();
        checkpoint.read_rows(found[2], 0, 1, &mut bytes).unwrap();
        assert_eq!(bits(&bytes), [40, 41, 42, 43]);
        assert!(checkpoint.notes()[0].contains(prefix), "{:?}", checkpoint.notes());
    }
    // The index has the names of the files.
    let index = json!({"weight_map": {"module.gpt_neox.embed_in.weight": "a.safetensors", "module.embed_out.weight": "b.safetensors"}});
    let dir = folder(&[
        ("a.safetensors", weights(&[("module.gpt_neox.embed_in.weight", &[6, 4])])),
        ("b.safetensors", weights(&[("module.embed_out.weight", &[6, 4])])),
        ("model.safetensors.index.json", index.to_string().into_bytes()),
    ]);
    assert!(Checkpoint::open(dir.path()).unwrap().find(EMBEDDING).is_some());
    // Shards of which one is wrapped.
    fs::write(dir.path().join("b.safetensors"), weights(&[("embed_out.weight", &[6, 4])])).unwrap();
    let message = refusal(dir.path());
    assert!(message.contains("1 of 2 tensors have the prefix \"module.\""), "{message}");
}

#[test]
fn a_bare_model_needs_a_head_or_a_tied_one() {
    let bare = |name: &str| name.trim_start_matches("gpt_neox.").to_owned();
    let with_head = renamed(bare);
    let checkpoint = Checkpoint::open(with_head.path()).unwrap();
    assert!(resolve(&checkpoint).is_ok() && checkpoint.notes()[0].contains("GPTNeoXModel"));

    let names: Vec<String> = TENSORS.iter().map(|(name, _)| bare(name)).collect();
    let tensors: Vec<(&str, &[usize])> =
        names.iter().zip(&TENSORS[..3]).map(|(name, (_, shape))| (&**name, *shape)).collect();
    let dir = single(&tensors);
    let message = refusal(dir.path());
    assert!(message.contains("a bare GPTNeoXModel, without an output matrix"), "{message}");
    set_config(dir.path(), "tie_word_embeddings", json!(true));
    assert_eq!(resolve(&Checkpoint::open(dir.path()).unwrap()).unwrap()[3].name, TENSORS[0].0);
}

#[test]
fn biases_that_attention_does_not_have_are_zeros() {
    let without = [TENSORS[0], TENSORS[1], TENSORS[3]];
    let dir = single(&without);
    set_config(dir.path(), "attention_bias", json!(false));
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let found = resolve(&checkpoint).unwrap();
    assert_eq!((found[2].name.as_str(), found[2].dtype, &*found[2].shape), (TENSORS[2].0, Dtype::F32, &[4][..]));
    let mut bytes = vec![9; 99];
    checkpoint.read_rows(found[2], 0, 1, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 16]);
    assert!(checkpoint.read_rows(found[2], 1, 1, &mut bytes).is_err());
    assert!(checkpoint.notes()[0].contains("attention_bias"), "{:?}", checkpoint.notes());
    // Where they are there all the same, one of the two is wrong.
    let dir = single(TENSORS);
    set_config(dir.path(), "attention_bias", json!(false));
    let message = refusal(dir.path());
    assert!(message.contains("dense.bias\": is there, but attention_bias is false"), "{message}");
}

#[test]
fn f64_is_rounded_to_f32() {
    let values: Vec<f64> = (0..24).map(|i| 1.0 / f64::from(i + 1) + 1e-9).collect();
    let header = json!({TENSORS[0].0: {"dtype": "F64", "shape": [6, 4], "data_offsets": [0, 192]}}).to_string();
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
    let checkpoint = Checkpoint::open(folder(&[("model.safetensors", file)]).path()).unwrap();
    let tensor = checkpoint.find(EMBEDDING).unwrap();
    assert_eq!((tensor.dtype, tensor.row_bytes(), tensor.n_bytes()), (Dtype::F32, 16, 96));
    let mut bytes = vec![1; 7];
    checkpoint.read_rows(tensor, 2, 3, &mut bytes).unwrap();
    let wanted: Vec<u8> = values[8..20].iter().flat_map(|v| (*v as f32).to_le_bytes()).collect();
    assert_eq!(bytes, wanted);
    assert_eq!(checkpoint.notes(), ["1 tensor of f64 is rounded to f32"]);
}

#[test]
fn shards_may_lie_in_folders_but_not_behind_links() {
    let map: Map<String, Value> =
        TENSORS.iter().map(|(name, _)| ((*name).to_owned(), json!("parts/one/a.safetensors"))).collect();
    let dir = folder(&[("model.safetensors.index.json", json!({"weight_map": map}).to_string().into_bytes())]);
    fs::create_dir_all(dir.path().join("parts/one")).unwrap();
    fs::write(dir.path().join("parts/one/a.safetensors"), weights(TENSORS)).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.files(), [dir.path().join("parts/one/a.safetensors")]);
    assert!(resolve(&checkpoint).is_ok());
    #[cfg(unix)]
    for link in ["parts", "parts/one"] {
        let outside = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join(link), outside.path().join("moved"));
        fs::rename(&from, &to).unwrap();
        std::os::unix::fs::symlink(&to, &from).unwrap();
        let message = refusal(dir.path());
        assert!(message.contains(&format!("{link}: not a folder itself")), "{message}");
        fs::remove_file(&from).unwrap();
        fs::rename(&to, &from).unwrap();
    }
}

#[test]
fn a_variant_is_taken_by_its_name() {
    let head: &[(&str, &[usize])] = &[TENSORS[0]];
    let index = json!({"weight_map": {TENSORS[0].0: "x.safetensors"}}).to_string().into_bytes();
    let dir = folder(&[
        ("model.fp16.safetensors", weights(TENSORS)),
        ("model.safetensors.index.bf16.json", index),
        ("x.safetensors", weights(head)),
        ("pytorch_model.non_ema.bin", vec![1]),
    ]);
    let open = |variant| Checkpoint::open_variant(dir.path(), variant);
    let message = open(None).unwrap_err().to_string();
    assert!(
        message.ends_with("only variants of weights here, bf16, fp16, non_ema: --variant bf16 takes one"),
        "{message}"
    );
    assert_eq!(open(Some("fp16")).unwrap().tensors().count(), 4);
    assert_eq!(open(Some("bf16")).unwrap().tensors().count(), 1);
    let message = open(Some("non_ema")).unwrap_err().to_string();
    assert!(message.contains("pytorch_model.non_ema.bin: byte 0"), "{message}");
    let message = open(Some("fp8")).unwrap_err().to_string();
    assert!(
        message.contains("no such weights here but those of bf16, fp16, non_ema, wanted model.fp8.safetensors"),
        "{message}"
    );
    for wrong in ["", "../x", "a/b", "a.b", "\u{1b}"] {
        let message = open(Some(wrong)).unwrap_err().to_string();
        assert!(message.contains("no variant is called"), "{message}");
    }
    let file =
        Checkpoint::open_variant(&dir.path().join("model.fp16.safetensors"), Some("fp16")).unwrap_err().to_string();
    assert!(file.contains("a variant is one of the files of a folder"), "{file}");
    assert!(Checkpoint::open(&dir.path().join("model.fp16.safetensors")).is_ok());
}

#[test]
fn what_is_no_checkpoint_is_called_by_its_name() {
    for (names, wanted) in [
        (
            &["adapter_config.json", "adapter_model.safetensors"][..],
            "a LoRA adapter (adapter_config.json), not a whole model",
        ),
        (&["flax_model.msgpack"], "weights of Flax (flax_model.msgpack), which are not read"),
        (&["tf_model.h5"], "weights of TensorFlow (tf_model.h5), which are not read"),
        (&["optimizer.pt", "scheduler.pt", "training_args.bin"], "the state of a training run (optimizer.pt) without"),
        (
            &["layer_00-model_00-model_states.pt", "mp_rank_00_model_states.pt"],
            "a raw checkpoint of the GPT-NeoX library (layer_00",
        ),
        (&["global_step8/layer_00-model_00-model_states.pt"], "a raw checkpoint of the GPT-NeoX library (layer_00"),
        (
            &["global_step8/zero_pp_rank_0_mp_rank_00_optim_states.pt", "zero_to_fp32.py"],
            "a checkpoint of DeepSpeed (zero_pp_rank_0",
        ),
        (&["mp_rank_00_model_states.pt"], "a checkpoint of DeepSpeed (mp_rank_00"),
        (&["__0_0.distcp"], "a distributed checkpoint of PyTorch (__0_0.distcp)"),
        (&["model-Q8_0.gguf"], "a GGUF file (model-Q8_0.gguf), which is converted already"),
        (
            &["model-00001-of-00002.safetensors"],
            "weights in several files (model-00001-of-00002.safetensors) without their index",
        ),
        (
            &["checkpoint-10/config.json", "checkpoint-20/config.json", "training_args.bin"],
            "no weights here, but in checkpoint-20",
        ),
        (&["checkpoint-10/model.txt", "vocab.txt"], "no weights here, wanted model.safetensors or"),
    ] {
        let dir = folder(&[]);
        for name in names {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let message = refusal(dir.path());
        assert!(message.contains(wanted), "{names:?}: {message}\nwanted: {wanted}");
    }
    // The same by the file.
    let dir =
        folder(&[("adapter_model.bin", vec![1]), ("optimizer.pt", vec![1]), ("model-merged.safetensors", vec![1])]);
    for (name, wanted) in [
        ("adapter_model.bin", "a LoRA adapter"),
        ("optimizer.pt", "the state of a training run"),
        ("model-merged.safetensors", "safetensors header length"),
    ] {
        let message = refusal(&dir.path().join(name));
        assert!(message.contains(wanted), "{message}");
    }
}

#[test]
fn tensors_of_other_models_are_called_by_their_names() {
    for (tensor, wanted) in [
        ("score.weight", "GPTNeoXForSequenceClassification"),
        ("classifier.bias", "GPTNeoXForTokenClassification"),
        ("qa_outputs.weight", "GPTNeoXForQuestionAnswering"),
        ("v_head.summary.weight", "a value head"),
        ("gpt_neox.layers.0.mlp.dense_h_to_4h.qweight", "weights quantized already, by a method"),
        ("gpt_neox.layers.0.mlp.dense_h_to_4h.weight.absmax", "weights quantized already, by a method"),
        ("gpt_neox.layers.0.mlp.dense_h_to_4h.lora_A.default.weight", "a LoRA adapter that is not merged"),
    ] {
        let message = refusal(single(&[TENSORS[0], (tensor, &[4, 6])]).path());
        assert!(message.contains(wanted) && message.contains(tensor), "{tensor}: {message}");
    }
    let packed: &[(&str, &[usize])] = &[TENSORS[0], ("gpt_neox.layers.0.attention.dense.qweight", &[4, 6])];
    for (tensors, wanted) in
        [(packed, "weights quantized already, by gptq"), (TENSORS, "a quantization_config, of gptq: remove it")]
    {
        let dir = single(tensors);
        set_config(dir.path(), "quantization_config", json!({"quant_method": "gptq", "bits": 4}));
        let message = refusal(dir.path());
        assert!(message.contains(wanted), "{message}");
    }
    let dir = single(TENSORS);
    set_config(dir.path(), "quantization_config", json!({"load_in_8bit": true}));
    assert!(refusal(dir.path()).contains("a quantization_config, of an unnamed method"));
    set_config(dir.path(), "quantization_config", json!(null));
    assert!(Checkpoint::open(dir.path()).is_ok());
    // An adapter beside whole weights is not a reason to refuse them.
    fs::write(dir.path().join("adapter_config.json"), "{}").unwrap();
    assert!(Checkpoint::open(dir.path()).unwrap().notes()[0].contains("a LoRA adapter lies beside"));
}
