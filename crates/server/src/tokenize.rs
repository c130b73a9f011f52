//! `/tokenize`, `/detokenize` and `/tokenizer_info`, as vLLM and llama-server have them.

use crate::app::App;
use crate::body;
use crate::fields::{Fields, token, wanted};
use crate::prompt;
use crate::refusal::Refusal;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use serde_json::{Value, json};
use std::sync::Arc;

/// `POST /tokenize`: the text is in `prompt` or `content`. These tokenizers add no special tokens, whatever
/// `add_special_tokens` and `add_special` say.
pub(crate) async fn tokenize(State(app): State<Arc<App>>, body: Body) -> Result<Response<Body>, Refusal> {
    let (bytes, reserved) = body::read(&app, body).await?;
    let json = app.prepare(move |app| ids_of(app, &mut Fields::parse(&bytes)?)).await??;
    Ok(body::json(json.to_string(), reserved))
}

fn ids_of(app: &App, fields: &mut Fields) -> Result<Value, Refusal> {
    let (prompt, content) = (fields.text("prompt")?, fields.text("content")?);
    fields.flag("add_special_tokens")?;
    fields.flag("add_special")?;
    fields.text("model")?;
    let with_pieces = fields.flag("with_pieces")?;
    let text = prompt.or(content).ok_or_else(|| Refusal::field("prompt", "missing; content means the same"))?;
    let mut ids = Vec::new();
    prompt::encode(&app.tokenizer, &text, usize::MAX, &mut ids)?;
    let n = ids.len();
    let tokens: Value = if with_pieces {
        let piece = |id: u32| match std::str::from_utf8(app.names.bytes(id)) {
            Ok(text) => json!({ "id": id, "piece": text }),
            // As llama-server does.
            Err(_) => json!({ "id": id, "piece": app.names.bytes(id) }),
        };
        ids.into_iter().map(piece).collect()
    } else {
        ids.into()
    };
    Ok(json!({ "tokens": tokens, "count": n, "max_model_len": app.models[0].n_ctx() }))
}

/// `POST /detokenize`.
pub(crate) async fn detokenize(State(app): State<Arc<App>>, body: Body) -> Result<Response<Body>, Refusal> {
    let (bytes, reserved) = body::read(&app, body).await?;
    let json = app.prepare(move |app| text_of(app, &mut Fields::parse(&bytes)?)).await??;
    Ok(body::json(json.to_string(), reserved))
}

fn text_of(app: &App, fields: &mut Fields) -> Result<Value, Refusal> {
    fields.text("model")?;
    let list = match fields.take("tokens") {
        Some(Value::Array(list)) => list,
        Some(other) => return Err(Refusal::field("tokens", wanted(&other, "a list of token ids"))),
        None => return Err(Refusal::field("tokens", "missing")),
    };
    let n_vocab = app.models[0].model().hparams().n_vocab;
    let id = |value: &Value| {
        let id = token(value).filter(|&id| (id as usize) < n_vocab);
        id.ok_or_else(|| Refusal::field("tokens", wanted(value, &format!("token ids below {n_vocab}"))))
    };
    let ids: Vec<u32> = list.iter().map(id).collect::<Result<_, _>>()?;
    let text = app.tokenizer.decode(&ids, false);
    Ok(json!({ "prompt": text, "content": text }))
}

/// `GET /tokenizer_info`.
pub(crate) async fn info(State(app): State<Arc<App>>) -> Json<Value> {
    let text = |id: Option<u32>| id.map(|id| app.tokenizer.decode(&[id], false));
    let (bos, eos) = (app.tokenizer.bos(), app.tokenizer.eos());
    Json(json!({
        "tokenizer_class": "GPTNeoXTokenizer",
        "bos_token": text(bos),
        "eos_token": text(eos),
        "pad_token": Value::Null,
        "unk_token": text(eos),
        "bos_token_id": bos,
        "eos_token_id": eos,
        "add_bos_token": false,
        "add_eos_token": false,
        "model_max_length": app.models[0].model().hparams().n_ctx,
        "vocab_size": app.tokenizer.n_tokens(),
        "chat_template": Value::Null,
    }))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_description_names_every_field() {
        for (schema, fields) in [
            (
                "TokenizeRequest",
                &["prompt", "content", "add_special_tokens", "add_special", "model", "with_pieces"][..],
            ),
            ("DetokenizeRequest", &["model", "tokens"][..]),
        ] {
            crate::openapi::tests::names_fields(schema, &fields.iter().copied().collect());
        }
    }
}
