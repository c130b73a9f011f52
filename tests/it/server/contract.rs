//! What lm-evaluation-harness and other clients of `/v1/completions` rely on.

use super::{Server, shared};
use crate::common::{checkpoint, gguf, run_model};
use serde_json::{Value, json};

fn heldout(characters: usize) -> String {
    let text = std::fs::read_to_string(checkpoint().join("heldout.txt")).unwrap();
    text.chars().take(characters).collect()
}

fn ids(server: &Server, text: &str) -> Vec<u32> {
    let reply = server.post("/tokenize", &json!({"prompt": text, "add_special_tokens": false})).json();
    serde_json::from_value(reply["tokens"].clone()).unwrap()
}

fn floats(list: &Value) -> Vec<Option<f64>> {
    list.as_array().unwrap().iter().map(Value::as_f64).collect()
}

/// The request that the harness sends for log-likelihoods.
fn scoring(prompt: Value) -> Value {
    json!({"model": "m", "prompt": prompt, "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": true})
}

#[test]
fn an_echo_has_an_entry_per_token_and_one_more() {
    let server = shared();
    let text = "The borrow checker rejects naïve code — 数 😀.";
    let ids = ids(&server, text);
    for prompt in [json!(text), json!(ids), json!([text]), json!([ids])] {
        let reply = server.complete(&scoring(prompt));
        let choice = &reply["choices"][0];
        let logprobs = &choice["logprobs"];
        let values = floats(&logprobs["token_logprobs"]);
        assert_eq!(values.len(), ids.len() + 1);
        assert!(values[0].is_none() && values[1..].iter().all(|x| x.is_some_and(|x| x < 0.0)), "{values:?}");
        assert!(logprobs["top_logprobs"][0].is_null());
        let shown = choice["text"].as_str().unwrap();
        assert!(shown.starts_with(text) && shown.len() > text.len(), "{shown}");
        // Offsets count code points: each token of whole characters is found there.
        let characters: Vec<char> = shown.chars().collect();
        for (i, token) in logprobs["tokens"].as_array().unwrap().iter().enumerate() {
            let (token, offset) = (token.as_str().unwrap(), logprobs["text_offset"][i].as_u64().unwrap() as usize);
            if !token.starts_with("bytes:") {
                let there: String = characters[offset..].iter().take(token.chars().count()).collect();
                assert_eq!(there, token);
            }
            let content = &logprobs["content"][i];
            assert_eq!(
                (&content["token"], &content["logprob"]),
                (&logprobs["tokens"][i], &logprobs["token_logprobs"][i])
            );
            assert_eq!(
                content["id"].as_u64().map(|id| id as u32),
                ids.get(i).copied().or(content["id"].as_u64().map(|id| id as u32))
            );
            if i > 0 {
                // The likeliest token of a position, as text and as number, with the bits of the token's own entry.
                let top = logprobs["top_logprobs"][i].as_object().unwrap();
                let best = top.values().filter_map(Value::as_f64).fold(f64::NEG_INFINITY, f64::max);
                let by_key = top.iter().max_by(|a, b| a.1.as_f64().partial_cmp(&b.1.as_f64()).unwrap()).unwrap().0;
                assert_eq!(values[i] == Some(best), by_key == token, "{top:?} {token}");
                assert!((1..=2).contains(&top.len()) && top.contains_key(token));
            }
        }
        // The generated token is the likeliest.
        let last = ids.len();
        assert_eq!(logprobs["top_logprobs"][last].as_object().unwrap().len(), 1);
        let usage = &reply["usage"];
        assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(ids.len()), &json!(1)));
        assert_eq!(usage["total_tokens"], json!(ids.len() + 1));
    }
    let none = server.complete(&json!({"prompt": ids, "max_tokens": 0, "logprobs": 1, "echo": true}));
    assert_eq!(floats(&none["choices"][0]["logprobs"]["token_logprobs"]).len(), ids.len());
    assert_eq!((&none["choices"][0]["text"], &none["usage"]["completion_tokens"]), (&json!(text), &json!(0)));
}

/// `perplexity --nll-out` of the same text and file has the same numbers.
#[test]
fn log_likelihoods_are_those_of_the_other_commands() {
    let server = shared();
    let text = heldout(1500);
    let file = gguf("Q8_0");
    let dir = tempfile::tempdir().unwrap();
    let (text_file, out) = (dir.path().join("t.txt"), dir.path().join("nll.tsv"));
    std::fs::write(&text_file, &text).unwrap();
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let args =
        ["perplexity", &path(&file), "-f", &path(&text_file), "--protocol", "hf-stride", "--nll-out", &path(&out)];
    let outcome = run_model(dir.path(), args);
    outcome.ok();
    let ids = ids(&server, text.trim_end_matches('\n'));
    assert!(ids.len() < 500, "one window");
    let reply = server.complete(&scoring(json!(ids)));
    let ours = floats(&reply["choices"][0]["logprobs"]["token_logprobs"]);
    let written = std::fs::read_to_string(&out).unwrap();
    let nlls: Vec<f64> =
        written.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["nll"].as_f64().unwrap()).collect();
    assert_eq!(nlls.len(), ids.len() - 1, "{written:.300}");
    for (nll, value) in nlls.iter().zip(&ours[1..]) {
        assert_eq!(Some(-nll), *value, "the same bits");
    }
}

/// The harness scores windows of one token more than the context.
#[test]
fn a_prompt_of_one_more_token_than_the_context_is_scored() {
    let server = shared();
    let mut ids = ids(&server, &heldout(6000));
    ids.truncate(513);
    let reply = server.complete(&scoring(json!([ids])));
    assert_eq!(floats(&reply["choices"][0]["logprobs"]["token_logprobs"]).len(), 514);
    ids.push(5);
    let refused = server.post("/v1/completions", &scoring(json!([ids]))).refuses(400);
    assert!(refused.contains("514") && refused.contains("513"), "{refused}");
}

#[test]
fn prompts_of_a_batch_are_answered_in_order_and_as_alone() {
    let server = shared();
    let ids = ids(&server, &heldout(800));
    let prompts: Vec<&[u32]> = vec![&ids[..3], &ids[..70], &ids[10..31], &ids[..1], &ids[..70]];
    let batch = server.complete(&scoring(json!(prompts)));
    assert_eq!(batch["choices"].as_array().unwrap().len(), prompts.len());
    for (i, prompt) in prompts.iter().enumerate() {
        assert_eq!(batch["choices"][i]["index"], json!(i));
        let alone = server.complete(&scoring(json!(prompt)));
        assert_eq!(batch["choices"][i]["logprobs"], alone["choices"][0]["logprobs"]);
    }
    let mixed = server.complete(&json!({"prompt": ["ab", [5, 6]], "max_tokens": 2, "temperature": 0, "echo": true}));
    assert!(mixed["choices"][0]["text"].as_str().unwrap().starts_with("ab"));
}

#[test]
fn a_bias_forces_a_token_and_scores_are_from_before() {
    let server = shared();
    for bias in [json!([[300, 100]]), json!({"300": 100})] {
        let body = json!({"prompt": [5, 6, 7], "temperature": 0, "max_tokens": 1, "logprobs": 2, "logit_bias": bias});
        let reply = server.complete(&body);
        let content = &reply["choices"][0]["logprobs"]["content"][0];
        assert_eq!(content["id"], json!(300));
        let free = server.complete(&json!({"prompt": [5, 6, 7, 300], "max_tokens": 0, "logprobs": 2, "echo": true}));
        assert_eq!(content["logprob"], free["choices"][0]["logprobs"]["content"][3]["logprob"]);
        assert!(content["logprob"].as_f64().unwrap() < content["top_logprobs"][0]["logprob"].as_f64().unwrap());
    }
}

/// Several at once, so that drafts come and go.
#[test]
fn drafts_change_no_text() {
    let (plain, drafted) = (shared(), Server::with(&["--draft", "lookup", "--draft-min", "3", "--parallel", "4"]));
    let bodies: Vec<Value> = (0..12)
        .map(|i| {
            let (temperature, seed) = (f64::from(i % 3) * 0.4, i);
            let prompt = ["The borrow checker", "x x x x x x", "A function returns"][i as usize % 3];
            json!({"prompt": prompt, "max_tokens": 30, "temperature": temperature, "seed": seed, "logprobs": 2, "n": 1})
        })
        .collect();
    std::thread::scope(|scope| {
        let answers = bodies.iter().map(|body| scope.spawn(|| drafted.complete(body)["choices"].clone()));
        for (answer, body) in answers.collect::<Vec<_>>().into_iter().zip(&bodies) {
            assert_eq!(answer.join().unwrap(), plain.complete(body)["choices"], "{body}");
        }
    });
    let args = ["serve", "-m", &gguf("Q8_0").display().to_string(), "--draft", "nowhere.gguf"].map(str::to_owned);
    run_model(std::path::Path::new("."), args).fails("pythia-run", 74, &["nowhere.gguf"]);
}

#[test]
fn texts_are_those_of_generate() {
    let server = shared();
    let file = gguf("Q8_0");
    let generate = |n: &str, more: &[&str]| -> Value {
        let args = ["generate", file.to_str().unwrap(), "-p", "The borrow checker", "-n", n, "--json"];
        serde_json::from_str(&run_model(std::path::Path::new("."), args.iter().chain(more)).ok()).unwrap()
    };
    let greedy = server.complete(&json!({"prompt": "The borrow checker", "max_tokens": 24, "temperature": 0}));
    assert_eq!(greedy["choices"][0]["text"], generate("24", &[])["text"]);
    let body = json!({
        "prompt": "The borrow checker", "max_tokens": 24, "temperature": 0.75, "top_k": 40, "top_p": 0.9, "seed": 7,
    });
    let sampled = server.complete(&body);
    let other = generate("24", &["--temp", "0.75", "--top-k", "40", "--top-p", "0.9", "--seed", "7"]);
    assert_eq!(sampled["choices"][0]["text"], other["text"]);
    let stop = json!({"prompt": "The borrow checker", "max_tokens": 40, "temperature": 0, "stop": [" that", "zzz"]});
    let stopped = server.complete(&stop);
    assert_eq!(stopped["choices"][0]["text"], generate("40", &["--stop", " that", "--stop", "zzz"])["text"]);
    assert_eq!(stopped["choices"][0]["finish_reason"], json!("stop"));
    let default = server.complete(&json!({"prompt": "The borrow checker", "ignore_eos": 3, "seed": 1}));
    let n = default["usage"]["completion_tokens"].as_u64().unwrap();
    assert!(n == 16 || default["choices"][0]["finish_reason"] == json!("stop"), "{default}");
    let empty = server.complete(&json!({"prompt": "", "max_tokens": 1}));
    assert_eq!(empty["usage"]["prompt_tokens"], json!(1), "the token that texts begin with");
}

#[test]
fn the_best_candidates_are_returned() {
    let server = shared();
    let mut body = json!({"prompt": "The", "max_tokens": 6, "seed": 3, "n": 4, "logprobs": 0});
    let all = server.complete(&body);
    let mean = |choice: &Value| {
        let values = floats(&choice["logprobs"]["token_logprobs"]);
        values.iter().flatten().sum::<f64>() / values.len() as f64
    };
    let mut choices = all["choices"].as_array().unwrap().clone();
    assert_eq!(choices.len(), 4);
    assert!(choices[1..].iter().any(|choice| choice["text"] != choices[0]["text"]), "other seeds, other texts");
    choices.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
    body["best_of"] = json!(4);
    body["n"] = json!(2);
    let best = server.complete(&body);
    let texts = |choices: &[Value]| choices.iter().map(|choice| choice["text"].clone()).collect::<Vec<_>>();
    assert_eq!(texts(best["choices"].as_array().unwrap()), texts(&choices[..2]));
    assert_eq!(best["usage"]["completion_tokens"], all["usage"]["completion_tokens"]);
}

#[test]
fn a_stream_has_the_same_text_in_whole_characters() {
    let server = shared();
    let mut body = json!({"prompt": "The borrow 数", "max_tokens": 30, "seed": 5, "logprobs": 2, "echo": true, "n": 2});
    let whole = server.complete(&body);
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let answer = server.post("/v1/completions", &body);
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    let events = answer.events();
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"));
    let chunks: Vec<Value> = events[..events.len() - 1].iter().map(|e| serde_json::from_str(e).unwrap()).collect();
    let (last, chunks) = chunks.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["total_tokens"], whole["usage"]["total_tokens"]);
    assert!(chunks.len() > 30 && chunks.iter().all(|chunk| chunk["usage"].is_null()), "a chunk per token");
    for index in 0..2 {
        let of_choice = || chunks.iter().map(|chunk| &chunk["choices"][0]).filter(|c| c["index"] == json!(index));
        let text: String = of_choice().map(|choice| choice["text"].as_str().unwrap()).collect();
        assert_eq!(json!(text), whole["choices"][index]["text"]);
        for list in ["tokens", "token_logprobs", "top_logprobs", "text_offset", "content"] {
            let joined: Value = of_choice().flat_map(|c| c["logprobs"][list].as_array().unwrap().clone()).collect();
            assert_eq!(joined, whole["choices"][index]["logprobs"][list], "{list}");
        }
        let reasons: Vec<&Value> = of_choice().map(|choice| &choice["finish_reason"]).collect();
        let (end, before) = reasons.split_last().unwrap();
        assert!(before.iter().all(|reason| reason.is_null()) && **end == whole["choices"][index]["finish_reason"]);
    }
    let plain = json!({"prompt": "The", "max_tokens": 4, "temperature": 0, "stream": true});
    let chunks = server.post("/v1/completions", &plain).events();
    assert!(chunks.iter().all(|chunk| !chunk.contains("\"usage\"")), "nobody asked: {chunks:?}");
}
