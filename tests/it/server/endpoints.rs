//! The other endpoints.

use super::{Server, metric, shared};
use crate::common::gguf;
use serde_json::{Value, json};

#[test]
fn models_health_props_and_slots_tell_what_there_is() {
    let server = shared();
    for path in ["/health", "/v1/health"] {
        assert_eq!(server.get(path).json(), json!({"status": "ok"}));
    }
    let models = server.get("/v1/models").json();
    let names: Vec<&Value> = models["data"].as_array().unwrap().iter().map(|model| &model["id"]).collect();
    assert_eq!(names, [&json!("m"), &json!("F16"), &json!("Q4_0")]);
    let meta = &models["data"][0]["meta"];
    assert_eq!((&meta["n_vocab"], &meta["n_ctx"], &meta["n_ctx_train"]), (&json!(4096), &json!(513), &json!(512)));
    assert_eq!(meta["ftype"], json!("Q8_0"));
    assert_eq!(models["object"], json!("list"));
    assert_eq!(server.get("/models").json(), models);
    assert_eq!(server.get("/props").json()["total_slots"], json!(24));
    let slots = server.get("/slots").json();
    assert_eq!(slots.as_array().unwrap().len(), 24);
    assert!(slots[0]["is_processing"].is_boolean() && slots[0].get("prompt").is_none(), "{}", slots[0]);
    let unnamed = Server::of(&["-m", gguf("Q8_0").to_str().unwrap(), "--parallel", "3", "-c", "64"]);
    assert_eq!(unnamed.get("/v1/models").json()["data"][0]["id"], json!("pythia-docs-6m-Q8_0"));
    assert_eq!(unnamed.get("/props").json()["total_slots"], json!(3));
    let any_name = unnamed.complete(&json!({"model": "EleutherAI/pythia-70m", "prompt": "a", "max_tokens": 1}));
    assert_eq!(any_name["model"], json!("pythia-docs-6m-Q8_0"));
    let ids: Vec<u32> = vec![5; 65];
    assert!(unnamed.post("/v1/completions", &json!({"prompt": ids})).refuses(400).contains("64"));
}

#[test]
fn a_name_chooses_the_model() {
    let server = shared();
    let body =
        |model: &str| json!({"model": model, "prompt": "The borrow", "max_tokens": 0, "echo": true, "logprobs": 1});
    let replies: Vec<Value> = ["m", "F16", "Q4_0"].iter().map(|name| server.complete(&body(name))).collect();
    assert_eq!(replies[2]["model"], json!("Q4_0"));
    assert_ne!(replies[1]["choices"], replies[2]["choices"]);
    let unnamed = json!({"prompt": "The borrow", "max_tokens": 0, "echo": true, "logprobs": 1});
    assert_eq!(server.complete(&unnamed)["choices"], replies[0]["choices"], "the first");
    let refused = server.post("/v1/completions", &body("Q9")).refuses(404);
    assert!(refused.contains("Q9") && refused.contains("Q4_0"), "{refused}");
}

#[test]
fn both_dialects_of_tokenizing_work() {
    let server = shared();
    let vllm = server.post("/tokenize", &json!({"prompt": "The borrow checker", "add_special_tokens": false})).json();
    assert_eq!(vllm["tokens"], json!([450, 1169, 996, 266]));
    assert_eq!(vllm["count"], json!(4));
    let llama = server.post("/tokenize", &json!({"content": "The é", "add_special": true, "with_pieces": true})).json();
    let pieces: String = llama["tokens"].as_array().unwrap().iter().filter_map(|t| t["piece"].as_str()).collect();
    assert!(pieces.starts_with("The"), "{llama}");
    let text = server.post("/detokenize", &json!({"tokens": vllm["tokens"]})).json();
    assert_eq!((&text["prompt"], &text["content"]), (&json!("The borrow checker"), &json!("The borrow checker")));
    let info = server.get("/tokenizer_info").json();
    assert_eq!(info["eos_token"], json!("<|endoftext|>"));
    assert_eq!(server.post("/tokenize", &json!({"prompt": info["eos_token"]})).json()["tokens"], json!([0]));
    assert_eq!(server.post("/tokenize", &json!({"prompt": ""})).json()["tokens"], json!([]));
    for (path, body) in [
        ("/tokenize", json!({})),
        ("/tokenize", json!({"prompt": 5})),
        ("/detokenize", json!({})),
        ("/detokenize", json!({"tokens": [-1]})),
        ("/detokenize", json!({"tokens": [4096]})),
        ("/detokenize", json!({"tokens": "a"})),
    ] {
        server.post(path, &body).refuses(400);
    }
}

#[test]
fn chats_are_refused_with_a_reason_and_other_paths_are_not_there() {
    let server = shared();
    let why = server.post("/v1/chat/completions", &json!({"messages": []})).refuses(404);
    assert!(why.contains("base models"), "{why}");
    for path in
        ["/v1", "/../", "/v1/../health", "/%2e%2e/", "/page/index.html", "/v1/completions/", "//", "/etc/passwd"]
    {
        server.get(path).refuses(404);
    }
    server.get("/v1/completions").refuses(405);
    server.post("/health", &json!({})).refuses(405);
}

#[test]
fn the_page_may_only_run_what_it_holds() {
    let server = shared();
    let page = server.get("/");
    assert!(page.status == 200 && page.text().starts_with("<!doctype html>"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'"));
    let description = server.get("/openapi.json").json();
    assert!(description["paths"]["/v1/completions"]["post"].is_object());
}

#[test]
fn metrics_count() {
    let server = shared();
    let (prompt, generated) = (metric(&server, "prompt_tokens_total{"), metric(&server, "tokens_predicted_total"));
    let reply = server.complete(&json!({"prompt": [5, 6, 7, 8], "max_tokens": 3, "temperature": 0}));
    let n = reply["usage"]["completion_tokens"].as_f64().unwrap();
    server.becomes_idle();
    assert_eq!(metric(&server, "prompt_tokens_total{"), prompt + 4.0);
    assert_eq!(metric(&server, "tokens_predicted_total"), generated + n);
    let text = server.get("/metrics").text();
    assert!(text.contains("pythia:http_responses_total{status=\"200\"}"), "{text}");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("pythia:") && value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
    }
    let without = Server::with(&["--metrics=off"]);
    without.get("/metrics").refuses(404);
}

/// The numbers are those of completions; the divergence is that of the definition.
#[test]
fn tokens_are_compared_side_by_side() {
    let server = shared();
    let text = "The borrow checker rejects naïve code.";
    let reply = server.post("/v1/tokens", &json!({"prompt": text, "models": ["F16", "Q4_0"], "top": 3})).json();
    assert_eq!(reply["models"], json!(["F16", "Q4_0"]));
    for (m, name) in ["F16", "Q4_0"].iter().enumerate() {
        let body = json!({"model": name, "prompt": text, "max_tokens": 0, "logprobs": 3, "echo": true});
        let content = server.complete(&body)["choices"][0]["logprobs"]["content"].clone();
        let tokens = reply["tokens"].as_array().unwrap();
        assert_eq!(tokens.len(), content.as_array().unwrap().len());
        for (token, entry) in tokens.iter().zip(content.as_array().unwrap()) {
            let of_model = &token["models"][m];
            assert_eq!((&token["id"], &of_model["log_likelihood"]), (&entry["id"], &entry["logprob"]));
            if of_model["rank"] == json!(1) {
                assert_eq!(of_model["top"][0]["id"], token["id"]);
            }
            for (i, top) in of_model["top"].as_array().unwrap().iter().enumerate() {
                assert_eq!(top["log_likelihood"], entry["top_logprobs"][i]["logprob"]);
            }
        }
    }
    let kld = |i: usize, m: usize| reply["tokens"][i]["models"][m]["kld"].as_f64();
    assert_eq!((kld(0, 0), kld(1, 0)), (None, Some(0.0)));
    assert!((1..5).all(|i| kld(i, 1).is_some_and(|kld| kld > 0.0 && kld < 1.0)), "{reply}");
    assert_eq!(reply["next"].as_array().unwrap().len(), 2);
    // Not longer than a tile, then longer: the same numbers.
    let long = server.post("/v1/tokens", &json!({"prompt": text.repeat(20)})).json();
    assert_eq!(long["models"].as_array().unwrap().len(), 3);
    assert_eq!(long["tokens"][3]["models"][2]["log_likelihood"], reply["tokens"][3]["models"][1]["log_likelihood"]);
    for body in [
        json!({}),
        json!({"prompt": ["a", "b"]}),
        json!({"prompt": "a", "models": []}),
        json!({"prompt": "a", "models": [1]}),
        json!({"prompt": "a", "top": 21}),
        json!({"prompt": vec![5; 513]}),
    ] {
        server.post("/v1/tokens", &body).refuses(400);
    }
    server.post("/v1/tokens", &json!({"prompt": "a", "models": ["Q9"]})).refuses(404);
}
