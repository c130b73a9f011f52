use super::*;
use serde_json::{Value, json};

fn pythia() -> Value {
    json!({
        "model_type": "gpt_neox", "hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8,
        "intermediate_size": 2048, "vocab_size": 50304, "max_position_embeddings": 2048, "hidden_act": "gelu",
        "rotary_pct": 0.25, "rotary_emb_base": 10000, "layer_norm_eps": 1e-5, "use_parallel_residual": true,
        "tie_word_embeddings": false, "torch_dtype": "float16", "bos_token_id": 0, "eos_token_id": 0,
    })
}

/// `pythia()` with `edits` on top; null removes a key.
fn edited(edits: Value) -> Result<Config, String> {
    let mut config = pythia();
    for (key, value) in edits.as_object().unwrap() {
        config[key] = value.clone();
    }
    Config::parse(Path::new("config.json"), &config.to_string()).map_err(|e| e.to_string())
}

#[test]
fn pythia_70m_as_transformers_4_writes_it() {
    let config = edited(json!({})).unwrap();
    assert_eq!((config.n_layer, config.n_embd, config.n_head, config.n_ff), (6, 512, 8, 2048));
    assert_eq!((config.n_vocab, config.n_ctx), (50304, 2048));
    assert_eq!((config.head_dim(), config.n_rot()), (64, 16));
    assert_eq!((config.rope_base, config.norm_eps), (10000.0, 1e-5));
    assert!(config.parallel_residual && !config.tie_word_embeddings);
    assert_eq!(config.hidden_act, HiddenAct::GeluErf);
    assert_eq!((config.bos_token, config.eos_token), (Some(0), Some(0)));
    assert_eq!(config.stated_dtype.as_deref(), Some("float16"));
}

#[test]
fn transformers_5_means_the_same() {
    let rope = json!({"partial_rotary_factor": 0.25, "rope_theta": 10000.0, "rope_type": "default"});
    let new = edited(json!({
        "rotary_pct": null, "rotary_emb_base": null, "rope_parameters": rope, "torch_dtype": null, "dtype": "float16",
    }));
    assert_eq!(new, edited(json!({})));
    // Both generations in one file are fine while they agree.
    assert_eq!(edited(json!({"rope_parameters": rope})), edited(json!({})));
    // And silence means what Transformers assumes.
    let silent =
        json!({"rotary_pct": null, "rotary_emb_base": null, "layer_norm_eps": null, "intermediate_size": null});
    assert_eq!(edited(silent), edited(json!({})));
}

#[test]
fn variants_are_kept_apart() {
    let config = edited(json!({
        "use_parallel_residual": false, "tie_word_embeddings": true, "rotary_pct": 1.0, "eos_token_id": [3, 4],
        "hidden_act": "gelu_new", "rope_scaling": {"type": "default"}, "bos_token_id": null,
    }))
    .unwrap();
    assert!(!config.parallel_residual && config.tie_word_embeddings);
    assert_eq!(config.n_rot(), 64);
    assert_eq!(config.hidden_act, HiddenAct::GeluTanh);
    assert_eq!((config.bos_token, config.eos_token), (None, Some(3)));
}

#[test]
fn linear_scaling_in_both_generations() {
    let cases = [
        (json!({}), 1.0),
        (json!({"rope_scaling": {"type": "linear", "factor": 2.5}}), 2.5),
        (json!({"rope_scaling": {"rope_type": "linear", "factor": 2}}), 2.0),
        (json!({"rope_parameters": {"rope_type": "linear", "factor": 4.0}}), 4.0),
        (
            json!({"rope_scaling": {"type": "linear", "factor": 2.0},
                   "rope_parameters": {"rope_type": "linear", "factor": 2}}),
            2.0,
        ),
        (json!({"rope_scaling": {"type": "default", "factor": 2}, "head_dim": 64, "is_causal": true}), 1.0),
        (json!({"rope_scaling": {}}), 1.0),
    ];
    for (edits, wanted) in cases {
        assert_eq!(edited(edits.clone()).map(|config| config.rope_factor), Ok(wanted), "{edits}");
    }
}

#[test]
fn forms_of_gelu_are_told_apart() {
    for name in ["gelu", "gelu_python"] {
        assert_eq!(edited(json!({"hidden_act": name})).unwrap().hidden_act, HiddenAct::GeluErf, "{name}");
    }
    for name in ["gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh", "gelu_python_tanh"] {
        assert_eq!(edited(json!({"hidden_act": name})).unwrap().hidden_act, HiddenAct::GeluTanh, "{name}");
    }
}

/// Edits to a good config, and what the one-line error must say.
#[test]
fn what_is_wrong_is_named() {
    let cases = [
        (json!({"model_type": "llama"}), r#"model_type: "llama", wanted "gpt_neox""#),
        (json!({"model_type": null}), "model_type: missing"),
        (json!({"hidden_size": null}), "hidden_size: missing"),
        (json!({"hidden_size": "512"}), r#"hidden_size: found "\"512\"", wanted an integer from 1"#),
        (json!({"hidden_size": 512.5}), "hidden_size: found \"512.5\", wanted an integer"),
        (json!({"num_hidden_layers": 0}), "num_hidden_layers: found \"0\""),
        (json!({"num_hidden_layers": -1}), "num_hidden_layers: found \"-1\""),
        (json!({"vocab_size": 1u64 << 40}), "vocab_size: found \"1099511627776\""),
        (json!({"num_attention_heads": 7}), "512 is not a multiple of num_attention_heads 7"),
        (json!({"rotary_pct": 0}), "rotary_pct: 0, wanted more than 0"),
        (json!({"rotary_pct": 1.5}), "rotary_pct: 1.5, wanted"),
        (json!({"rotary_pct": 0.05}), "rotates 3 elements, wanted an even number"),
        (json!({"rotary_pct": 0.01}), "rotates 0 elements"),
        (
            json!({"rope_parameters": {"partial_rotary_factor": 0.5}}),
            "rope_parameters.partial_rotary_factor: 0.5 conflicts with rotary_pct 0.25",
        ),
        (
            json!({"rope_parameters": {"rope_theta": 5e5}}),
            "rope_parameters.rope_theta: 500000 conflicts with rotary_emb_base 10000",
        ),
        (json!({"rope_theta": 5}), "rope_theta: 5 conflicts"),
        (
            json!({"rope_parameters": {"rope_type": "yarn", "factor": 4}}),
            r#"rope_parameters.rope_type: "yarn" is not supported"#,
        ),
        (
            json!({"rope_scaling": {"type": "dynamic", "factor": 2}}),
            r#"rope_scaling.type: "dynamic" is not supported, wanted "default" or "linear""#,
        ),
        (json!({"rope_scaling": {"rope_type": "llama3", "factor": 8}}), r#"rope_scaling.rope_type: "llama3" is not"#),
        (json!({"rope_scaling": {"type": "linear"}}), r#"rope_scaling.type: "linear", but there is no factor"#),
        (json!({"rope_scaling": {"factor": 2}}), "rope_scaling.factor: 2, but there is no rope_type"),
        (json!({"rope_scaling": {"type": "linear", "factor": 0}}), "rope_scaling.factor: 0, wanted a positive"),
        (json!({"rope_scaling": {"type": "linear", "factor": "2"}}), "rope_scaling.factor: found"),
        (
            json!({"rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": {"rope_type": "default"}}),
            r#"rope_parameters.rope_type: "default" conflicts with rope_scaling.type "linear""#,
        ),
        (
            json!({"rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": {"factor": 4}}),
            "rope_parameters.factor: 4 conflicts with rope_scaling.factor 2",
        ),
        (
            json!({"rope_parameters": {"full_attention": {"rope_type": "default"}}}),
            "rope_parameters.full_attention: settings of its own",
        ),
        (json!({"head_dim": 32}), "head_dim: 32, wanted 64"),
        (json!({"is_causal": false}), "is_causal: false, wanted true"),
        (json!({"rope_parameters": [1]}), "rope_parameters: found \"[1]\", wanted an object"),
        (json!({"rotary_emb_base": 0}), "rotary_emb_base: 0, wanted a positive"),
        (json!({"rotary_emb_base": 1e300}), "wanted a positive number"),
        (json!({"layer_norm_eps": -1e-5}), "layer_norm_eps: -0.00001, wanted a positive"),
        (json!({"layer_norm_eps": 1e-300}), "layer_norm_eps:"),
        (json!({"hidden_act": "relu"}), r#"hidden_act: "relu" is not supported"#),
        (json!({"quantization_config": 1}), "quantization_config: found \"1\", wanted an object"),
        (
            json!({"quantization_config": {"quant_method": 1}}),
            "quantization_config.quant_method: found \"1\", wanted a string",
        ),
        (json!({"hidden_act": "quick_gelu"}), r#"hidden_act: "quick_gelu" is not supported"#),
        (json!({"hidden_act": "gelu_10"}), r#"hidden_act: "gelu_10" is not supported"#),
        (json!({"attention_bias": 1}), "attention_bias: found \"1\", wanted true or false"),
        (json!({"use_parallel_residual": "yes"}), "use_parallel_residual: found"),
        (json!({"eos_token_id": -2}), "eos_token_id: found \"-2\", wanted a token id"),
        (json!({"eos_token_id": []}), "eos_token_id: found \"[]\""),
    ];
    for (edits, wanted) in cases {
        let message = edited(edits.clone()).expect_err(&edits.to_string());
        assert!(message.contains(wanted), "{edits}: {message}");
        assert!(message.starts_with("config.json: ") && !message.contains('\n'), "{message}");
    }
}

#[test]
fn what_is_not_json_is_named() {
    let deep = format!(r#"{{"a": {}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    for text in ["", "[]", "{", "{\"vocab_size\": 1e400}", "{} x", "null", &deep] {
        let message = Config::parse(Path::new("config.json"), text).unwrap_err().to_string();
        assert!(message.starts_with("config.json: not the JSON expected: "), "{message}");
    }
}

#[test]
fn a_key_that_comes_twice_is_refused() {
    let (good, rope) = (pythia().to_string(), r#""rope_parameters": {"rope_theta": 10000, "rope_theta": 10000}"#);
    for (extra, key) in [(r#""vocab_size": 50304"#, "vocab_size"), (rope, "rope_theta")] {
        let text = format!("{}, {extra}}}", good.trim_end_matches('}'));
        let message = Config::parse(Path::new("config.json"), &text).unwrap_err().to_string();
        assert!(message.contains(&format!("\"{key}\" comes twice")), "{message}");
    }
}
