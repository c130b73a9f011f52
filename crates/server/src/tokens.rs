//! `POST /v1/tokens`: what each model predicts at every token of a text, side by side. This endpoint is this server's
//! own; the page uses it.
//!
//! Request: `{"prompt": "text" or [ids], "models": ["F16", "Q4_0"], "top": 5}`. `models` defaults to all, the first is
//! the base of the divergences; `top` is 0 to 20, 5 by default. The text has at most as many tokens as the model was
//! trained for.
//!
//! Reply:
//!
//! ```json
//! {
//!   "object": "tokens",
//!   "models": ["F16", "Q4_0"],
//!   "tokens": [
//!     {
//!       "id": 510, "token": "The", "bytes": [84, 104, 101], "text_offset": 0,
//!       "models": [
//!         {"log_likelihood": null, "rank": null, "kld": null, "top": []},
//!         {"log_likelihood": null, "rank": null, "kld": null, "top": []}
//!       ]
//!     },
//!     {
//!       "id": 1234, "token": " cat", "bytes": [32, 99, 97, 116], "text_offset": 3,
//!       "models": [
//!         {"log_likelihood": -5.25, "rank": 40, "kld": 0, "top": [{"id": 13, "token": ",", "log_likelihood": -2.5}]},
//!         {"log_likelihood": -5.5, "rank": 41, "kld": 0.0123, "top": [{"id": 13, "token": ",", "log_likelihood": -2.4}]}
//!       ]
//!     }
//!   ],
//!   "next": [
//!     {"kld": 0, "top": [{"id": 3414, "token": " sat", "log_likelihood": -1.5}]},
//!     {"kld": 0.02, "top": [{"id": 3414, "token": " sat", "log_likelihood": -1.6}]}
//!   ]
//! }
//! ```
//!
//! A rank of 1 is the likeliest token; of equal logits the lower id comes first. `kld` is the Kullback-Leibler
//! divergence of this model's distribution from that of the first model at this place, in nats, over all rows of the
//! vocabulary. `text_offset` counts code points. `next` is about the token after the text.

use crate::app::{App, CancelOnDrop, Place};
use crate::body;
use crate::fields::{Fields, wanted};
use crate::limits;
use crate::logprobs::Offsets;
use crate::prompt::Prompt;
use crate::refusal::Refusal;
use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use pythia_model::{BATCH_TOKENS, Context, ContextShape, Sequence, Span};
use pythia_runtime::engine::largest;
use pythia_runtime::eval::Divergence;
use pythia_task::Cancel;
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;

/// Tokens in a pass. Their logits are in memory at once: 13 MB per model for Pythia's vocabulary.
const TILE: usize = 64;

/// The handler.
pub(crate) async fn tokens(State(app): State<Arc<App>>, body: Body) -> Result<Response<Body>, Refusal> {
    let (bytes, mut reserved) = body::read(&app, body).await?;
    let place = Place::take(&app, |app| &app.token_requests, limits::TOKEN_REQUESTS)?;
    let request = app.prepare(move |app| Request::read(app, &mut Fields::parse(&bytes)?)).await??;
    reserved.grow(request.memory())?;
    let cancel = CancelOnDrop(Cancel::new());
    let (shared, stop) = (Arc::clone(&app), cancel.0.clone());
    // Only one needs a context and logits of each model, also if its client has left.
    let alone = Arc::clone(&app.tokens).acquire_owned().await.map_err(|_| Refusal::stopping())?;
    let run = move || -> Result<String, Refusal> {
        let _alone = alone;
        let reply = request.run(&shared, &stop)?;
        serde_json::to_string(&reply).map_err(|e| Refusal::internal(format_args!("the reply cannot be written: {e}")))
    };
    let json = tokio::task::spawn_blocking(run).await.map_err(|_| Refusal::internal("the request failed"))??;
    drop((cancel, place));
    Ok(body::json(json, reserved))
}

/// What is asked for.
struct Request {
    ids: Vec<u32>,
    /// Indices of the models; the first is the base.
    models: Vec<usize>,
    top: usize,
}

impl Request {
    fn read(app: &App, fields: &mut Fields) -> Result<Self, Refusal> {
        let names = match fields.take("models") {
            None => app.models.iter().map(|served| served.name.clone()).collect(),
            Some(Value::Array(list)) if (1..=app.models.len()).contains(&list.len()) => {
                let name = |value: Value| match value {
                    Value::String(name) => Ok(name),
                    other => Err(Refusal::field("models", wanted(&other, "names of models"))),
                };
                list.into_iter().map(name).collect::<Result<Vec<_>, _>>()?
            }
            Some(other) => return Err(Refusal::field("models", wanted(&other, "a list of names of models"))),
        };
        let models: Vec<usize> = names.iter().map(|name| app.named(name)).collect::<Result<_, Refusal>>()?;
        let top = fields.integer("top", 0..=limits::LOGPROBS)?.unwrap_or(5) as usize;
        let prompt = fields.take("prompt").ok_or_else(|| Refusal::field("prompt", "missing"))?;
        let [prompt] = &Prompt::all(prompt)?[..] else { return Err(Refusal::field("prompt", "wanted one text")) };
        let base = app.models[models[0]].model().hparams();
        if let Some(other) = models.iter().find(|&&i| app.models[i].model().hparams().n_vocab != base.n_vocab) {
            let name = &app.models[*other].name;
            return Err(Refusal::field("models", format_args!("{name} has another vocabulary size than the first")));
        }
        let most = models.iter().map(|&i| app.models[i].n_ctx().min(app.models[i].model().hparams().n_ctx)).min();
        let ids = prompt.encode(&app.tokenizer, base.n_vocab, most.unwrap_or(0))?;
        Ok(Self { ids, models, top })
    }

    /// An estimate for the reply, in bytes. Logits and caches are those of one request at a time.
    fn memory(&self) -> usize {
        (self.ids.len() + 1) * (100 + self.models.len() * (120 + 100 * self.top))
    }

    /// Runs all models over the text, tile by tile, in turn with the engines.
    fn run(&self, app: &App, cancel: &Cancel) -> Result<Reply, Refusal> {
        let check = || match cancel.is_raised() || app.cut.is_raised() {
            true => Err(Refusal::stopping()),
            false => Ok(()),
        };
        check()?;
        let models = self.models.iter().map(|&i| Running::new(app, i, self.ids.len()));
        let mut models = models.collect::<Result<Vec<_>, _>>()?;
        let mut offsets = Offsets::default();
        let none = || OfModel { log_likelihood: None, rank: None, kld: None, top: Vec::new() };
        let mut tokens: Vec<Token> = Vec::new();
        for &id in &self.ids {
            let bytes = app.names.bytes(id);
            let (token, text_offset) = (app.names.name(id), offsets.next(bytes));
            tokens.push(Token { id, token, bytes: bytes.to_vec(), text_offset, models: Vec::new() });
        }
        tokens[0].models = models.iter().map(|_| none()).collect();
        let mut next = Vec::new();
        for (tile, ids) in self.ids.chunks(TILE).enumerate() {
            {
                let _turn = app.turn.take();
                models.iter_mut().try_for_each(|model| {
                    check()?;
                    model.forward(ids)
                })?;
            }
            for row in 0..ids.len() {
                let target = self.ids.get(tile * TILE + row + 1).copied();
                let base = models[0].divergence(row);
                let of_models = models.iter().map(|model| model.row(app, &base, row, target, self.top));
                match target {
                    Some(_) => tokens[tile * TILE + row + 1].models = of_models.collect(),
                    None => next = of_models.map(|of| Next { kld: of.kld, top: of.top }).collect(),
                }
            }
        }
        let names = self.models.iter().map(|&i| app.models[i].name.clone()).collect();
        Ok(Reply { object: "tokens", models: names, tokens, next })
    }
}

/// A model in the middle of the text.
struct Running {
    context: Context,
    sequence: Sequence,
    n_vocab: usize,
    /// Of the tile in hand.
    logits: Vec<f32>,
    log_sums: Vec<f64>,
}

impl Running {
    fn new(app: &App, model: usize, n_ctx: usize) -> Result<Self, Refusal> {
        let model = app.models[model].model();
        let shape = ContextShape { n_seq: 1, n_ctx, n_batch: TILE.min(BATCH_TOKENS) };
        let context = model.context(shape).map_err(pythia_runtime::Error::from)?;
        let sequence = context.sequence().map_err(pythia_runtime::Error::from)?;
        let n_vocab = model.hparams().n_vocab;
        Ok(Self { context, sequence, n_vocab, logits: Vec::new(), log_sums: Vec::new() })
    }

    fn forward(&mut self, tokens: &[u32]) -> Result<(), Refusal> {
        let Self { context, sequence, n_vocab, logits, log_sums } = self;
        logits.resize(tokens.len() * *n_vocab, 0.0);
        let done =
            context.forward(&mut [Span { sequence, tokens }]).and_then(|()| context.logits(0..tokens.len(), logits));
        done.map_err(pythia_runtime::Error::from)?;
        log_sums.clear();
        log_sums.extend(logits.chunks_exact(*n_vocab).map(|row| context.model().cpu().log_sum_exp(row)));
        Ok(())
    }

    fn logits(&self, row: usize) -> &[f32] {
        &self.logits[row * self.n_vocab..][..self.n_vocab]
    }

    /// The divergence from what this model predicts after a row.
    fn divergence(&self, row: usize) -> Divergence<'_> {
        Divergence::from(self.logits(row), self.log_sums[row])
    }

    /// What this model predicts after a row.
    fn row(&self, app: &App, base: &Divergence<'_>, row: usize, target: Option<u32>, top: usize) -> OfModel {
        let (logits, log_sum) = (self.logits(row), self.log_sums[row]);
        let log_likelihood = |logit: f32| f64::from(logit) - log_sum;
        let rank = |target: usize| {
            let (before, from) = logits.split_at(target);
            1 + before.iter().filter(|logit| **logit >= from[0]).count()
                + from.iter().filter(|logit| **logit > from[0]).count()
        };
        let alternative =
            |(id, logit)| Alternative { id, token: app.names.name(id), log_likelihood: log_likelihood(logit) };
        OfModel {
            log_likelihood: target.map(|target| log_likelihood(logits[target as usize])),
            rank: target.map(|target| rank(target as usize)),
            kld: Some(base.of(logits, log_sum)),
            top: largest(logits, top).into_iter().map(alternative).collect(),
        }
    }
}

#[derive(Serialize)]
struct Reply {
    object: &'static str,
    models: Vec<String>,
    tokens: Vec<Token>,
    next: Vec<Next>,
}

#[derive(Serialize)]
struct Token {
    id: u32,
    token: String,
    bytes: Vec<u8>,
    text_offset: usize,
    models: Vec<OfModel>,
}

#[derive(Serialize)]
struct OfModel {
    log_likelihood: Option<f64>,
    rank: Option<usize>,
    kld: Option<f64>,
    top: Vec<Alternative>,
}

#[derive(Serialize)]
struct Next {
    kld: Option<f64>,
    top: Vec<Alternative>,
}

#[derive(Serialize)]
struct Alternative {
    id: u32,
    token: String,
    log_likelihood: f64,
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_description_names_every_field() {
        crate::openapi::tests::names_fields("TokensRequest", &["models", "top", "prompt"].into_iter().collect());
    }
}
