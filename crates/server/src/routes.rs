//! Which handler answers what.

use crate::app::App;
use crate::refusal::Refusal;
use crate::{completion, openapi, status, tokenize, tokens};
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
    VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, Method, Request, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, Router, get, post};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use tokio::sync::watch;

/// Every path, and the methods that it has. A test compares them with `openapi.json`.
fn table() -> Vec<(&'static str, &'static str, MethodRouter<Arc<App>>)> {
    vec![
        ("get", "/", get(page)),
        ("get", "/health", get(status::health)),
        ("get", "/v1/health", get(status::health)),
        ("get", "/models", get(status::models)),
        ("get", "/v1/models", get(status::models)),
        ("get", "/props", get(status::props)),
        ("get", "/slots", get(status::slots)),
        ("get", "/metrics", get(status::metrics)),
        ("get", "/openapi.json", get(openapi::handler)),
        ("get", "/tokenizer_info", get(tokenize::info)),
        ("post", "/tokenize", post(tokenize::tokenize)),
        ("post", "/detokenize", post(tokenize::detokenize)),
        ("post", "/v1/completions", post(completion::completions)),
        ("post", "/v1/tokens", post(tokens::tokens)),
        ("post", "/v1/chat/completions", post(chat)),
    ]
}

/// The whole service. Once `stopping` is true, every request is refused.
pub(crate) fn router(app: Arc<App>, stopping: watch::Receiver<bool>) -> Router {
    let mut router = Router::new();
    for (_, path, methods) in table() {
        router = router.route(path, methods);
    }
    router
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .with_state(Arc::clone(&app))
        .layer(middleware::from_fn_with_state((app, stopping), guarded))
}

async fn page(State(app): State<Arc<App>>) -> Response {
    app.page.response()
}

async fn chat() -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        "these are base models, which continue a text and have no chat template; use /v1/completions",
    )
}

async fn unknown() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "no such path; /openapi.json lists those that there are")
}

async fn wrong_method() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this path has another method; /openapi.json lists them")
}

/// What all requests go through: the rules of [`crate::guard`], and a net for panics.
async fn guarded(
    State((app, stopping)): State<(Arc<App>, watch::Receiver<bool>)>,
    request: Request<Body>,
    next: Next,
) -> Response {
    let is_preflight = request.method() == Method::OPTIONS;
    let mut foreign = None;
    let mut response = match app.guard.check(&request) {
        Err(refusal) => refusal.into_response(),
        Ok(_) if *stopping.borrow() => Refusal::stopping().into_response(),
        Ok(origin) => {
            foreign = origin;
            match foreign {
                Some(_) if is_preflight => StatusCode::NO_CONTENT.into_response(),
                _ => caught(next.run(request)).await,
            }
        }
    };
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(origin) = foreign.and_then(|origin| HeaderValue::from_str(&origin).ok()) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(VARY, HeaderValue::from_static("origin"));
        if is_preflight {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type"));
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        }
    }
    app.count_response(response.status().as_u16());
    response
}

/// A panic of a handler is an answer, and not the end of the connection.
async fn caught(response: impl Future<Output = Response>) -> Response {
    let mut response = pin!(response);
    std::future::poll_fn(move |cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| response.as_mut().poll(cx)));
        polled.unwrap_or_else(|_| Poll::Ready(Refusal::internal("the server failed at this request").into_response()))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_lists_every_route() {
        let routes = table().into_iter().map(|(method, path, _)| (path.to_owned(), method.to_owned())).collect();
        assert_eq!(crate::openapi::tests::operations(), routes);
    }

    #[test]
    fn a_panic_is_an_answer() {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| ()));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let response = runtime.block_on(caught(async { panic!("a test") }));
        std::panic::set_hook(hook);
        assert_eq!(response.status(), 500);
    }
}
