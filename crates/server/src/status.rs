//! What there is and what it does: models, health, slots, metrics. Numbers and names only, never texts.

use crate::app::{App, Served};
use crate::refusal::Refusal;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use pythia_gguf::FileType;
use pythia_runtime::engine::SlotState;
use pythia_schema::parameter_counts;
use serde_json::{Value, json};
use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::UNIX_EPOCH;

/// `GET /health`.
pub(crate) async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// `GET /v1/models`.
pub(crate) async fn models(State(app): State<Arc<App>>) -> Json<Value> {
    let created = app.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let models: Vec<Value> = app.models.iter().map(|served| model(served, created)).collect();
    Json(json!({ "object": "list", "data": models }))
}

fn model(served: &Served, created: u64) -> Value {
    let (model, h) = (served.model(), served.model().hparams());
    json!({
        "id": served.name,
        "object": "model",
        "created": created,
        "owned_by": "pythia",
        "meta": {
            "n_vocab": h.n_vocab,
            "n_ctx": served.n_ctx(),
            "n_ctx_train": h.n_ctx,
            "n_embd": h.n_embd,
            "n_layer": h.n_layer,
            "n_params": parameter_counts(h).0,
            "size": model.file_bytes(),
            "ftype": FileType::of(&model.gguf().metadata).map(FileType::name),
            "device": model.device(),
        },
    })
}

/// `GET /props`.
pub(crate) async fn props(State(app): State<Arc<App>>) -> Json<Value> {
    let slots = |served: &Served| served.engine.options().n_seq;
    let first = &app.models[0];
    let names: Vec<&str> = app.models.iter().map(|served| served.name.as_str()).collect();
    Json(json!({
        "total_slots": app.models.iter().map(slots).sum::<usize>(),
        "model_alias": first.name,
        "models": names,
        "default_generation_settings": { "n_ctx": first.n_ctx() },
        "n_ctx": first.n_ctx(),
        "n_ctx_train": first.model().hparams().n_ctx,
        "build_info": concat!("pythia-run ", env!("CARGO_PKG_VERSION")),
    }))
}

/// `GET /slots`.
pub(crate) async fn slots(State(app): State<Arc<App>>) -> Json<Value> {
    let mut slots = Vec::new();
    for served in &app.models {
        let status = served.engine.status();
        for slot in &status.slots {
            slots.push(json!({
                "id": slots.len(),
                "model": served.name,
                "state": slot.state.name(),
                "is_processing": slot.state != SlotState::Idle,
                "n_ctx": status.n_ctx,
                "cached_tokens": slot.cached_tokens,
                "prompt_tokens": slot.prompt_tokens,
                "generated_tokens": slot.generated_tokens,
            }));
        }
    }
    Json(slots.into())
}

/// `GET /metrics`, in the text format of Prometheus. Names end as llama-server's do.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    if !app.has_metrics {
        return Refusal::new(StatusCode::NOT_FOUND, "the server was started with --metrics off").into_response();
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text_of_metrics(&app)).into_response()
}

fn text_of_metrics(app: &App) -> String {
    let statuses: Vec<_> = app.models.iter().map(|served| (served, served.engine.status())).collect();
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, value: &dyn Fn(usize) -> f64| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP pythia:{name} {help}\n# TYPE pythia:{name} {kind}");
        for (i, (served, _)) in statuses.iter().enumerate() {
            let _ = writeln!(text, "pythia:{name}{{model=\"{}\"}} {}", label(&served.name), value(i));
        }
    };
    let counters = |i: usize| &statuses[i].1.counters;
    let rate = |tokens: u64, i: usize| tokens as f64 / counters(i).busy.as_secs_f64().max(1e-9);
    let busy_slots = |i: usize| statuses[i].1.slots.iter().filter(|slot| slot.state != SlotState::Idle).count() as f64;
    let counter = "counter";
    family("prompt_tokens_total", counter, "Tokens of prompts that were started.", &|i| {
        counters(i).tokens_prompt as f64
    });
    family("prompt_tokens_cached_total", counter, "Tokens of prompts that were known from earlier ones.", &|i| {
        counters(i).tokens_reused as f64
    });
    family("tokens_predicted_total", counter, "Tokens that were generated.", &|i| counters(i).tokens_generated as f64);
    family("tokens_drafted_total", counter, "Tokens that were drafted and checked.", &|i| {
        counters(i).tokens_drafted as f64
    });
    family("tokens_draft_accepted_total", counter, "Drafted tokens that the texts have.", &|i| {
        counters(i).tokens_accepted as f64
    });
    family("tokens_run_total", counter, "Tokens that went through the model.", &|i| counters(i).tokens_run as f64);
    family("n_decode_total", counter, "Passes of the model.", &|i| counters(i).passes as f64);
    family("busy_seconds_total", counter, "Time in passes and choices.", &|i| counters(i).busy.as_secs_f64());
    family("jobs_done_total", counter, "Texts that ended by themselves.", &|i| counters(i).jobs_done as f64);
    family("jobs_cancelled_total", counter, "Texts that were cancelled.", &|i| counters(i).jobs_cancelled as f64);
    family("jobs_failed_total", counter, "Texts that failed.", &|i| counters(i).jobs_failed as f64);
    family("prompt_tokens_seconds", "gauge", "Tokens of prompts per second of work, from the start.", &|i| {
        rate(counters(i).tokens_prompt, i)
    });
    family("predicted_tokens_seconds", "gauge", "Generated tokens per second of work, from the start.", &|i| {
        rate(counters(i).tokens_generated, i)
    });
    family("requests_processing", "gauge", "Texts in work.", &busy_slots);
    family("requests_deferred", "gauge", "Texts that wait.", &|i| statuses[i].1.queued as f64);
    family("n_tokens_max", "gauge", "Tokens of the longest text.", &|i| {
        statuses[i].0.longest.load(Ordering::Relaxed) as f64
    });
    let open = [
        ("connections", "Open connections.", &app.connections),
        ("completions", "Requests for completions that run or wait.", &app.requests),
    ];
    for (name, help, value) in open {
        let value = value.load(Ordering::Relaxed);
        let _ = writeln!(text, "# HELP pythia:{name} {help}\n# TYPE pythia:{name} gauge\npythia:{name} {value}");
    }
    let _ = writeln!(
        text,
        "# HELP pythia:http_responses_total Answers by status.\n# TYPE pythia:http_responses_total counter"
    );
    for (status, n) in app.responses.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let _ = writeln!(text, "pythia:http_responses_total{{status=\"{status}\"}} {n}");
    }
    text
}

/// The value of a label.
fn label(name: &str) -> String {
    name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
