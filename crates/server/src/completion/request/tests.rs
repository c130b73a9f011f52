use super::*;
use serde_json::json;

fn read(value: Value) -> Result<Request, Refusal> {
    Request::read(&mut Fields::parse(value.to_string().as_bytes())?)
}

#[test]
fn absent_fields_have_openais_defaults() {
    let request = read(json!({"prompt": "a", "unknown": {"x": [1]}, "logprobs": null})).unwrap();
    assert_eq!((request.n, request.best_of, request.logprobs, request.echo), (1, 1, None, false));
    assert_eq!(request.options.max_new_tokens, Some(16));
    assert_eq!(request.options.sampling.temperature, 1.0);
    assert_eq!((request.options.sampling.top_k, request.options.sampling.top_p), (0, 1.0));
    assert!(!request.stream && !request.include_usage && request.model.is_none());
    let other = read(json!({"prompt": "a"})).unwrap();
    assert_ne!(other.options.sampling.seed, request.options.sampling.seed, "nobody chose it");
}

#[test]
fn fields_are_taken_over() {
    let request = read(json!({
        "prompt": [[1, 2], [3]], "model": "m", "max_tokens": 0, "temperature": 0, "top_p": 0.5, "top_k": 4, "min_p": 0.1,
        "seed": 1234, "stop": ["a", "b"], "n": 2, "best_of": 3, "logprobs": 20, "echo": true,
        "logit_bias": {"5": -100, "6": 1.5}, "presence_penalty": -2, "frequency_penalty": 2,
        "repetition_penalty": 1.25, "stream": false, "stream_options": {"include_usage": true}, "suffix": "",
    }))
    .unwrap();
    let GenerateOptions { max_new_tokens, stop, sampling, mut logit_bias, .. } = request.options;
    logit_bias.sort_by_key(|entry| entry.0);
    assert_eq!((max_new_tokens, stop), (Some(0), vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(logit_bias, [(5, -100.0), (6, 1.5)]);
    let wanted = Sampling {
        temperature: 0.0,
        top_k: 4,
        top_p: 0.5,
        min_p: 0.1,
        repetition_penalty: 1.25,
        presence_penalty: -2.0,
        frequency_penalty: 2.0,
        seed: 1234,
        ..Sampling::default()
    };
    assert_eq!(sampling, wanted);
    assert_eq!((request.n, request.best_of, request.logprobs), (2, 3, Some(20)));
    assert!(request.include_usage && request.echo);
    let pairs = read(json!({"prompt": "a", "logit_bias": [[5, 100], [7, 0.5]], "stop": "x", "top_k": -1})).unwrap();
    assert_eq!(pairs.options.logit_bias, [(5, 100.0), (7, 0.5)]);
    assert_eq!(pairs.options.stop, ["x"]);
}

#[test]
fn values_out_of_range_are_refused_by_name() {
    let many: Vec<String> = (0..100_000).map(|i| i.to_string()).collect();
    let biases: Value = (0..limits::BIASES + 1).map(|i| json!([i, 1])).collect();
    for (name, value) in [
        ("prompt", json!(null)),
        ("prompt", json!([-1])),
        ("max_tokens", json!(-1)),
        ("max_tokens", json!(9223372036854775808u64)),
        ("max_tokens", json!("1")),
        ("n", json!(1_000_000_000)),
        ("n", json!(0)),
        ("best_of", json!(1_000_000_000)),
        ("logprobs", json!(1_000_000_000)),
        ("logprobs", json!(21)),
        ("logprobs", json!(true)),
        ("temperature", json!(-1)),
        ("temperature", json!(1e308)),
        ("temperature", json!("NaN")),
        ("top_p", json!(-1)),
        ("top_p", json!(0)),
        ("top_p", json!(1e-60)),
        ("min_p", json!(1.5)),
        ("top_k", json!(-2)),
        ("repetition_penalty", json!(0)),
        ("presence_penalty", json!(3)),
        ("frequency_penalty", json!(-2.5)),
        ("stop", json!("")),
        ("stop", json!(["a", ""])),
        ("stop", json!(many)),
        ("stop", json!("x".repeat(limits::STOP_BYTES + 1))),
        ("stop", json!(5)),
        ("logit_bias", json!({"-1": 1})),
        ("logit_bias", json!({"x": 1})),
        ("logit_bias", json!({"1": 101})),
        ("logit_bias", json!([[1]])),
        ("logit_bias", json!([[1, 2, 3]])),
        ("logit_bias", biases),
        ("seed", json!(1.5)),
        ("stream", json!(1)),
        ("stream_options", json!([])),
        ("suffix", json!("end")),
        ("model", json!(3)),
    ] {
        let mut request = json!({"prompt": "a"});
        request[name] = value;
        let refusal = read(request).expect_err(name);
        assert!(refusal.status.as_u16() == 400 && refusal.message.starts_with(name), "{refusal:?}");
    }
    assert!(read(json!({"prompt": "a", "n": 3, "best_of": 2})).is_err());
    assert!(read(json!({"prompt": "a", "n": 1, "best_of": 2, "stream": true})).is_err());
    assert!(read(json!({"prompt": vec!["a"; 256], "n": 5})).is_err());
}

/// The fields of `openapi.json` are those that are read.
#[test]
fn the_description_names_every_field() {
    let mut fields = Fields::parse(br#"{"prompt": "a"}"#).unwrap();
    Request::read(&mut fields).unwrap();
    crate::openapi::tests::names_fields("CompletionRequest", &fields.asked);
}
